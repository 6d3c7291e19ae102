"""Flax linen: a training state from a pipeline's spec, and jitted train and eval steps.

A model here is a module. What its call has of `train`, `training`, `is_training`, `deterministic` and `inference` says
whether it is trained; every collection but "params" (batch statistics) is kept in `model_state`; random streams of any
name (dropout) are seeded.

>>> import jax, jax.numpy as jnp, optax
>>> from tfjax.frameworks import linen
>>> spec = {"image": jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.float32)}
>>> state = linen.create_state(linen.small_cnn(10), optax.adam(1e-3), spec, seed=0)
>>> state.params["Dense_1"]["kernel"].shape
(64, 10)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

from tfjax.frameworks._batch import Keys, mode_arguments, zeros

try:
    import optax
    from flax import linen as nn

    from tfjax.frameworks._layout import Rule
    from tfjax.frameworks._precision import Precision
    from tfjax.frameworks._state import TrainState as TrainState
    from tfjax.frameworks._state import create, model_of
    from tfjax.frameworks._steps import eval_step as eval_step
    from tfjax.frameworks._steps import train_step as train_step
except ImportError as e:
    raise ImportError(f"tfjax.frameworks.linen needs {e.name!r}: pip install 'tfjax[flax]'") from e


class _SmallCNN(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for features in (16, 32):
            x = nn.relu(nn.Conv(features, (3, 3))(x))
            x = nn.avg_pool(x, (2, 2), strides=(2, 2))
        x = nn.relu(nn.Dense(64)(x.reshape(len(x), -1)))
        return nn.Dense(self.num_classes)(x)


def small_cnn(num_classes: int) -> nn.Module:
    """Convolutions 3x3 of 16 and 32 with pooling, dense of 64: (batch, h, w, c) to (batch, num_classes)."""
    return _SmallCNN(num_classes)


@dataclass(frozen=True, eq=False)
class _Model:
    """See `Functional`; equal where the module is the same object, as some cannot be hashed."""

    module: nn.Module

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Model) and other.module is self.module

    def __hash__(self) -> int:
        return id(self.module)

    def apply(self, params: Any, model_state: Any, x: Any, key: jax.Array | None, *, train: bool) -> tuple[Any, Any]:
        variables = {"params": params, **model_state}
        mode = mode_arguments(type(self.module).__call__, train=train)
        # Flax takes the stream "params" for one that has another name and no key of its own.
        rngs = None if key is None else {"params": key}
        if not train:
            return self.module.apply(variables, x, **mode), model_state
        outputs, changed = self.module.apply(variables, x, **mode, rngs=rngs, mutable=list(model_state))
        return outputs, {**model_state, **changed}


def create_state(
    model: nn.Module,
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
        model: a module, called with the inputs alone.
        optimizer: any optax transformation.
        spec: a pipeline's `spec`: pytree of `jax.ShapeDtypeStruct`, dimension 0 the batch.
        seed: of the initial parameters, and of the random streams in training.
        x: the key of the model's inputs, or a tuple or dict of keys.
        precision: what the model computes in; parameters stay float32, and float16 has a dynamic loss scale.
        sharding: "replicated", as None; "fsdp", which cuts parameters and moments over the axis of the batch; or a
            function of a parameter's key path and shape to a `PartitionSpec`.

    Raises:
        KeyError: `x` is no key of `spec`.
        TypeError: the model is no module.
        ValueError: `spec` has no batch dimension; an unknown precision; a sharding that does not fit.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is {model!r}: give a flax.linen.Module, an object of its class")

    def make(inputs: Any, key: jax.Array) -> tuple[_Model, Any, Any]:
        mode = mode_arguments(type(model).__call__, train=False)
        variables = jax.jit(lambda key: dict(model.init(key, zeros(inputs), **mode)))(key)
        return _Model(model), variables.pop("params", {}), variables

    return create(make, optimizer, spec, seed, x=x, precision=precision, sharding=sharding)


def to_model(state: TrainState) -> nn.Module:
    """The module bound to the trained values: call it as it is."""
    bound: nn.Module = model_of(state, _Model).module.bind({"params": state.params, **state.model_state})
    return bound
