"""Equinox: a training state from a pipeline's spec, and jitted train and eval steps.

A model here is a function (spec of one example's inputs, key) to a module that maps one example, or to a pair of it and
its `eqx.nn.State`, as `eqx.nn.make_with_state` makes them. It is mapped over the batch by `vmap` with the axis "batch",
which `eqx.nn.BatchNorm` can name. A `key` in its call gets one key an example, a `state` the state, which it returns.

>>> import jax, jax.numpy as jnp, optax
>>> from tfjax.frameworks import equinox
>>> spec = {"image": jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.float32)}
>>> state = equinox.create_state(equinox.small_cnn(10), optax.adam(1e-3), spec, seed=0)
>>> equinox.to_model(state).dense[1].weight.shape
(10, 64)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from tfjax.frameworks._batch import Keys, require_maker

try:
    import equinox as eqx
    import optax

    from tfjax.frameworks._layout import Rule
    from tfjax.frameworks._precision import Precision
    from tfjax.frameworks._state import TrainState as TrainState
    from tfjax.frameworks._state import create, model_of
    from tfjax.frameworks._steps import eval_step as eval_step
    from tfjax.frameworks._steps import train_step as train_step
except ImportError as e:
    raise ImportError(f"tfjax.frameworks.equinox needs {e.name!r}: pip install 'tfjax[equinox]'") from e

Model = Callable[[Any, jax.Array], Any]
"""(spec of one example's inputs, PRNG key) to a module that maps one example, or to it and its state."""


class _SmallCNN(eqx.Module):
    conv: list[eqx.nn.Conv2d]
    dense: list[eqx.nn.Linear]
    pool: eqx.nn.AvgPool2d

    def __init__(self, num_classes: int, inputs: jax.ShapeDtypeStruct, key: jax.Array) -> None:
        height, width, channels = inputs.shape
        keys = jax.random.split(key, 4)
        self.pool = eqx.nn.AvgPool2d(2, 2)
        self.conv = [
            eqx.nn.Conv2d(channels, 16, 3, padding="SAME", key=keys[0]),
            eqx.nn.Conv2d(16, 32, 3, padding="SAME", key=keys[1]),
        ]
        self.dense = [
            eqx.nn.Linear((height // 4) * (width // 4) * 32, 64, key=keys[2]),
            eqx.nn.Linear(64, num_classes, key=keys[3]),
        ]

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.astype(self.conv[0].weight.dtype)  # Equinox's layers take no other dtype than their own
        x = jnp.moveaxis(x, -1, 0)  # and its convolutions want (channels, height, width)
        for conv in self.conv:
            x = self.pool(jax.nn.relu(conv(x)))
        x = jnp.moveaxis(x, 0, -1)  # flattened as in the other frameworks, so that their weights fit
        return self.dense[1](jax.nn.relu(self.dense[0](x.ravel())))


def small_cnn(num_classes: int) -> Model:
    """Convolutions 3x3 of 16 and 32 with pooling, dense of 64: (h, w, c) to (num_classes,)."""
    return lambda inputs, key: _SmallCNN(num_classes, inputs, key)


@dataclass(frozen=True)
class _Model:
    """See `Functional`: what is no array of a module, which can be compared, as a tree of its leaves."""

    leaves: tuple[Any, ...]
    tree: Any

    def module(self, params: Any, buffers: Any) -> Any:
        return eqx.combine(params, buffers, jax.tree.unflatten(self.tree, self.leaves))

    def apply(self, params: Any, model_state: Any, x: Any, key: jax.Array | None, *, train: bool) -> tuple[Any, Any]:
        buffers, state = model_state
        module = self.module(params, buffers)
        takes = inspect.signature(type(module).__call__).parameters
        module = eqx.nn.inference_mode(module, not train)
        if "key" not in takes or key is None:
            keys, axis = None, None
        else:
            keys, axis = jax.random.split(key, jax.tree.leaves(x)[0].shape[0]), 0

        def one(example: Any, state: Any, key: Any) -> tuple[Any, Any]:
            given = {"state": state} if "state" in takes else {}
            given |= {"key": key} if "key" in takes else {}
            out = module(example, **given)
            return out if "state" in takes else (out, state)

        mapped = jax.vmap(one, in_axes=(0, None, axis), out_axes=(0, None), axis_name="batch")
        outputs, state = mapped(x, state, keys)
        return outputs, (buffers, state)


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
        model: (spec of one example's inputs, key) to a module that maps one example, or to it and its state.
        optimizer: any optax transformation.
        spec: a pipeline's `spec`: pytree of `jax.ShapeDtypeStruct`, dimension 0 the batch.
        seed: of the initial parameters, and of the keys in training.
        x: the key of the model's inputs, or a tuple or dict of keys.
        precision: what the model computes in; parameters stay float32, and float16 has a dynamic loss scale.
        sharding: "replicated", as None; "fsdp", which cuts parameters and moments over the axis of the batch; or a
            function of a parameter's key path and shape to a `PartitionSpec`.

    Raises:
        KeyError: `x` is no key of `spec`.
        TypeError: the model is no such function.
        ValueError: `spec` has no batch dimension; an unknown precision, or one that `eqx.nn.BatchNorm(mode="ema")`
            does not take; a sharding that does not fit.
    """
    require_maker("equinox.create_state", model, ("spec", "key"), "an eqx.Module")

    def make(inputs: Any, key: jax.Array) -> tuple[_Model, Any, Any]:
        example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), inputs)
        made = model(example, key)
        module, *states = made if isinstance(made, tuple) else (made,)
        if not isinstance(module, eqx.Module) or len(states) > 1:
            raise TypeError(f"model(spec, key) gave {made!r}: return an eqx.Module, or it and its eqx.nn.State")
        state = states[0] if states else None
        _require_one_dtype(module, precision)
        params, rest = eqx.partition(module, eqx.is_inexact_array)
        buffers, static = eqx.partition(rest, eqx.is_array)
        leaves, tree = jax.tree.flatten(static)
        return _Model(tuple(leaves), tree), params, (buffers, state)

    return create(make, optimizer, spec, seed, x=x, precision=precision, sharding=sharding)


def _require_one_dtype(module: Any, precision: Precision) -> None:
    layers = jax.tree.leaves(module, is_leaf=lambda layer: isinstance(layer, eqx.nn.BatchNorm))
    ema = any(isinstance(layer, eqx.nn.BatchNorm) and layer.mode == "ema" for layer in layers)
    if ema and precision != "float32":
        raise ValueError(
            f"precision={precision!r}: eqx.nn.BatchNorm(mode='ema') takes inputs of the dtype of its statistics, "
            "which stay float32: use mode='batch'"
        )


def to_model(state: TrainState) -> Any:
    """The module with the trained values, in inference mode; its own state is `state.model_state[1]`."""
    return eqx.nn.inference_mode(model_of(state, _Model).module(state.params, state.model_state[0]))
