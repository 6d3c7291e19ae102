"""Flax nnx: a training state from a pipeline's spec, and jitted train and eval steps.

A model here is a function (spec of a batch of inputs, rngs) to an `nnx.Module`. The values of its variables of type
`nnx.Param` are trained; those of the others, batch statistics and random streams among them, are `model_state`: both
as dicts of arrays, keys as their uint32 data. `train()` and `eval()` of the module set its mode.

>>> import jax, jax.numpy as jnp, optax
>>> from tfjax.frameworks import nnx
>>> spec = {"image": jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.float32)}
>>> state = nnx.create_state(nnx.small_cnn(10), optax.adam(1e-3), spec, seed=0)
>>> state.params["dense2"]["kernel"].shape
(64, 10)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from tfjax.frameworks._batch import Keys, require_maker

try:
    import optax
    from flax import nnx

    from tfjax.frameworks._layout import Rule
    from tfjax.frameworks._precision import Precision
    from tfjax.frameworks._state import TrainState as TrainState
    from tfjax.frameworks._state import create, model_of
    from tfjax.frameworks._steps import eval_step as eval_step
    from tfjax.frameworks._steps import train_step as train_step
except ImportError as e:
    raise ImportError(f"tfjax.frameworks.nnx needs {e.name!r}: pip install 'tfjax[flax]'") from e

Model = Callable[[Any, nnx.Rngs], nnx.Module]
"""(spec of a batch of one example's inputs, random streams) to a module that maps a batch."""


class _SmallCNN(nnx.Module):
    def __init__(self, num_classes: int, inputs: jax.ShapeDtypeStruct, rngs: nnx.Rngs) -> None:
        _, height, width, channels = inputs.shape
        self.conv1 = nnx.Conv(channels, 16, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(16, 32, (3, 3), rngs=rngs)
        self.dense1 = nnx.Linear((height // 4) * (width // 4) * 32, 64, rngs=rngs)
        self.dense2 = nnx.Linear(64, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for conv in (self.conv1, self.conv2):
            x = nnx.avg_pool(nnx.relu(conv(x)), (2, 2), strides=(2, 2))
        return self.dense2(nnx.relu(self.dense1(x.reshape(len(x), -1))))


def small_cnn(num_classes: int) -> Model:
    """Convolutions 3x3 of 16 and 32 with pooling, dense of 64: (batch, h, w, c) to (batch, num_classes)."""
    return partial(_SmallCNN, num_classes)


@dataclass(frozen=True)
class _Model:
    """See `Functional`: the graphs of the module in its two modes."""

    training: nnx.GraphDef[Any]
    evaluating: nnx.GraphDef[Any]
    keys: frozenset[str]

    def module(self, params: Any, model_state: Any, *, train: bool) -> Any:
        def typed(path: Any, value: Any) -> Any:
            return jax.random.wrap_key_data(value) if jax.tree_util.keystr(path) in self.keys else value

        model_state = jax.tree_util.tree_map_with_path(typed, model_state)
        return nnx.merge(self.training if train else self.evaluating, params, model_state)

    def apply(
        self,
        params: Any,
        model_state: Any,
        x: Any,
        key: jax.Array | None,  # noqa: ARG002 - the module has its own streams
        *,
        train: bool,
    ) -> tuple[Any, Any]:
        module = self.module(params, model_state, train=train)
        outputs = module(x)
        return outputs, _untyped(_split(module)[2]) if train else model_state


def _split(module: nnx.Module) -> tuple[nnx.GraphDef[Any], Any, Any]:
    """The graph of a module, and the values of its parameters and of its other variables.

    Values, as variables belong to the trace that made them and could not be changed in another.
    """
    graph: nnx.GraphDef[Any]
    graph, params, rest = nnx.split(module, nnx.Param, ...)  # type: ignore[misc]
    return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(rest)


def _is_key(value: Any) -> bool:
    return jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def _untyped(tree: Any) -> Any:
    """The tree with keys as their data, which every checkpoint can hold."""
    return jax.tree.map(lambda value: jax.random.key_data(value) if _is_key(value) else value, tree)


def create_state(
    model: Model,
    optimizer: optax.GradientTransformation,
    spec: Any,
    seed: int = 0,
    *,
    x: Keys = "image",
    precision: Precision = "float32",
    sharding: str | Rule | None = None,
) -> TrainState:
    """A new training state; parameters have the shapes, and are on the devices, that `spec` asks for.

    Args:
        model: (spec of a batch of inputs, rngs) to a module.
        optimizer: any optax transformation.
        spec: a pipeline's `spec`: pytree of `jax.ShapeDtypeStruct`, dimension 0 the batch.
        seed: of the module's random streams: initial parameters, dropout.
        x: the key of the model's inputs, or a tuple or dict of keys.
        precision: what the model computes in; parameters stay float32, and float16 has a dynamic loss scale.
        sharding: "replicated", as None; "fsdp", which cuts parameters and moments over the axis of the batch; or a
            function of a parameter's key path and shape to a `PartitionSpec`.

    Raises:
        KeyError: `x` is no key of `spec`.
        TypeError: the model is no such function.
        ValueError: `spec` has no batch dimension; an unknown precision; a sharding that does not fit.
    """
    require_maker("nnx.create_state", model, ("spec", "rngs"), "an nnx.Module")

    def make(inputs: Any, _: jax.Array) -> tuple[_Model, Any, Any]:
        module = model(inputs, nnx.Rngs(seed))
        if not isinstance(module, nnx.Module):
            raise TypeError(f"model(spec, rngs) gave a {type(module).__name__}: return an nnx.Module")
        module.eval()
        evaluating, _, _ = _split(module)
        module.train()
        training, params, rest = _split(module)
        leaves, _ = jax.tree_util.tree_flatten_with_path(rest)
        keys = frozenset(jax.tree_util.keystr(path) for path, value in leaves if _is_key(value))
        return _Model(training, evaluating, keys), params, _untyped(rest)

    return create(make, optimizer, spec, seed, x=x, precision=precision, sharding=sharding)


def to_model(state: TrainState) -> nnx.Module:
    """The module with the trained values, in evaluation mode; changes of it do not change the state."""
    model: _Model = model_of(state, _Model)
    values = jax.tree.map(jnp.copy, (state.params, state.model_state))
    module: nnx.Module = model.module(*values, train=False)
    return module
