"""Haiku: a training state from a pipeline's spec, and jitted train and eval steps.

A model here is the function that `hk.transform_with_state` takes: of the inputs, and of `is_training` where it has it.
Haiku's state (batch statistics) is `model_state`; `hk.next_rng_key` is seeded in training.

>>> import jax, jax.numpy as jnp, optax
>>> from tfjax.frameworks import haiku
>>> spec = {"image": jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.float32)}
>>> state = haiku.create_state(haiku.small_cnn(10), optax.adam(1e-3), spec, seed=0)
>>> state.params["linear_1"]["w"].shape
(64, 10)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from tfjax._arguments import require_function
from tfjax.frameworks._batch import Keys, mode_arguments, zeros

try:
    import haiku as hk
    import optax

    from tfjax.frameworks._layout import Rule
    from tfjax.frameworks._precision import Precision
    from tfjax.frameworks._state import TrainState as TrainState
    from tfjax.frameworks._state import create, model_of
    from tfjax.frameworks._steps import eval_step as eval_step
    from tfjax.frameworks._steps import train_step as train_step
except ImportError as e:
    raise ImportError(f"tfjax.frameworks.haiku needs {e.name!r}: pip install 'tfjax[haiku]'") from e

Model = Callable[..., Any]
"""A function of a batch of inputs that calls Haiku's modules."""


def small_cnn(num_classes: int) -> Model:
    """Convolutions 3x3 of 16 and 32 with pooling, dense of 64: (batch, h, w, c) to (batch, num_classes)."""

    def forward(x: jax.Array) -> jax.Array:
        x = x.astype(jnp.result_type(x, float))  # Haiku's layers take no integers
        for features in (16, 32):
            x = jax.nn.relu(hk.Conv2D(features, 3)(x))
            x = hk.avg_pool(x, (2, 2, 1), (2, 2, 1), "VALID")
        x = jax.nn.relu(hk.Linear(64)(hk.Flatten()(x)))
        return hk.Linear(num_classes)(x)

    return forward


@dataclass(frozen=True)
class _Model:
    """See `Functional`."""

    function: Model

    def transformed(self, *, train: bool) -> hk.TransformedWithState:
        mode = mode_arguments(self.function, train=train)
        return hk.transform_with_state(partial(self.function, **mode) if mode else self.function)

    def apply(self, params: Any, model_state: Any, x: Any, key: jax.Array | None, *, train: bool) -> tuple[Any, Any]:
        outputs, changed = self.transformed(train=train).apply(params, model_state, key, x)
        return outputs, changed if train else model_state


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
        model: a function of a batch of inputs that calls Haiku's modules, not transformed.
        optimizer: any optax transformation.
        spec: a pipeline's `spec`: pytree of `jax.ShapeDtypeStruct`, dimension 0 the batch.
        seed: of the initial parameters, and of the keys in training.
        x: the key of the model's inputs, or a tuple or dict of keys.
        precision: what the model computes in; parameters stay float32, and float16 has a dynamic loss scale.
        sharding: "replicated", as None; "fsdp", which cuts parameters and moments over the axis of the batch; or a
            function of a parameter's key path and shape to a `PartitionSpec`.

    Raises:
        KeyError: `x` is no key of `spec`.
        TypeError: the model is no such function, or was transformed already.
        ValueError: `spec` has no batch dimension; an unknown precision; a sharding that does not fit.
    """
    if isinstance(model, hk.Transformed | hk.TransformedWithState):
        raise TypeError(f"model is a {type(model).__name__}: give the function that was transformed")
    require_function("haiku.create_state", model)
    if isinstance(model, type | hk.Module):
        raise TypeError(f"model is {model!r}: give a function of a batch of inputs that makes and calls the modules")

    def make(inputs: Any, key: jax.Array) -> tuple[_Model, Any, Any]:
        functional = _Model(model)
        init = functional.transformed(train=True).init
        params, model_state = jax.jit(lambda key: init(key, zeros(inputs)))(key)
        return functional, params, model_state

    return create(make, optimizer, spec, seed, x=x, precision=precision, sharding=sharding)


def to_model(state: TrainState) -> Callable[[Any], Any]:
    """A function of a batch of inputs to outputs, with the trained values."""
    model: _Model = model_of(state, _Model)
    return lambda x: model.apply(state.params, state.model_state, x, None, train=False)[0]
