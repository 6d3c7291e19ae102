"""Keras 3 on JAX: the adapter behind `Pipeline.to_keras`, and the state and steps of the other frameworks.

A model here is a function of no arguments to a `keras.Model`. What it changes itself (batch statistics, the seeds of
its random layers) is `model_state`. Losses that its layers add (`kernel_regularizer`) are no part of the loss here:
give the optimizer a weight decay.

>>> import jax, jax.numpy as jnp, optax
>>> from tfjax.frameworks import keras
>>> spec = {"image": jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.float32)}
>>> state = keras.create_state(keras.small_cnn(10), optax.adam(1e-3), spec, seed=0)
>>> state.params[-2].shape
(64, 10)
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from tfjax.frameworks._batch import Keys, mode_arguments, require_maker
from tfjax.frameworks._keras_adapter import PipelineAdapter as PipelineAdapter
from tfjax.frameworks._keras_backend import keras
from tfjax.frameworks._keras_backup import BackupAndRestore as BackupAndRestore

try:
    import optax

    from tfjax.frameworks._layout import Rule
    from tfjax.frameworks._precision import Precision
    from tfjax.frameworks._state import TrainState as TrainState
    from tfjax.frameworks._state import create, model_of
    from tfjax.frameworks._steps import eval_step as eval_step
    from tfjax.frameworks._steps import train_step as train_step
except ImportError as e:
    raise ImportError(f"tfjax.frameworks.keras needs {e.name!r}: pip install 'tfjax[keras]'") from e

Model = Callable[[], Any]
"""A function to a `keras.Model`, built or not."""


def small_cnn(num_classes: int) -> Model:
    """Convolutions 3x3 of 16 and 32 with pooling, dense of 64: (batch, h, w, c) to (batch, num_classes)."""
    layers = keras.layers

    def build() -> Any:
        return keras.Sequential(
            [
                layers.Conv2D(16, 3, padding="same", activation="relu"),
                layers.AveragePooling2D(2),
                layers.Conv2D(32, 3, padding="same", activation="relu"),
                layers.AveragePooling2D(2),
                layers.Flatten(),
                layers.Dense(64, activation="relu"),
                layers.Dense(num_classes),
            ]
        )

    return build


@dataclass(frozen=True)
class _Model:
    """See `Functional`."""

    built: Any

    def apply(
        self,
        params: Any,
        model_state: Any,
        x: Any,
        key: jax.Array | None,  # noqa: ARG002 - the model has seeds of its own, in `model_state`
        *,
        train: bool,
    ) -> tuple[Any, Any]:
        mode = mode_arguments(self.built.call, train=train)
        outputs, changed = self.built.stateless_call(params, model_state, x, **mode)
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
        model: a function to a model; with another precision it is called under Keras's mixed policy.
        optimizer: any optax transformation.
        spec: a pipeline's `spec`: pytree of `jax.ShapeDtypeStruct`, dimension 0 the batch.
        seed: of the initial parameters, and of the random layers in training.
        x: the key of the model's inputs, or a tuple or dict of keys.
        precision: what the model computes in; parameters stay float32, and float16 has a dynamic loss scale.
        sharding: "replicated", as None; "fsdp", which cuts parameters and moments over the axis of the batch; or a
            function of a parameter's key path and shape to a `PartitionSpec`.

    Raises:
        KeyError: `x` is no key of `spec`.
        TypeError: the model is no such function.
        ValueError: `spec` has no batch dimension; an unknown precision; a sharding that does not fit.
    """
    if isinstance(model, keras.Layer):
        raise TypeError(
            f"model is the {type(model).__name__} {model.name!r}: give a function that makes it, lambda: ..."
        )
    require_maker("keras.create_state", model, (), "a keras.Model")

    def make(inputs: Any, _: jax.Array) -> tuple[_Model, Any, Any]:
        with _seeded(seed), _policy(precision):
            made = model()
            if not isinstance(made, keras.Model):
                raise TypeError(f"model() gave a {type(made).__name__}: return a keras.Model")
            built = _built(made, inputs)
        # Copies, as the steps donate them.
        values = [[jnp.copy(v.value) for v in vs] for vs in (built.trainable_variables, built.non_trainable_variables)]
        return _Model(built), values[0], values[1]

    return create(make, optimizer, spec, seed, x=x, precision=precision, sharding=sharding)


def _built(model: Any, inputs: Any) -> Any:
    """The model with its variables, of inputs of the dtypes of the spec.

    Built from shapes alone, a `Sequential` would cast tokens to the policy's dtype: in bfloat16, 257 to 256.
    """
    if not model.built:
        if type(model) is keras.Sequential and isinstance(inputs, jax.ShapeDtypeStruct):
            first = keras.Input(inputs.shape[1:], dtype=str(inputs.dtype))
            return keras.Sequential([first, *model.layers], name=model.name)
        model(jax.tree.map(lambda leaf: keras.KerasTensor((None, *leaf.shape[1:]), str(leaf.dtype)), inputs))
    return model


def to_model(state: TrainState) -> Any:
    """The `keras.Model` of the state, its variables set to the trained values: save it, or predict with it."""
    built = model_of(state, _Model).built
    variables = [*built.trainable_variables, *built.non_trainable_variables]
    for variable, value in zip(variables, [*state.params, *state.model_state], strict=True):
        variable.assign(jnp.copy(value))
    return built


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Python's generator, where Keras takes the seeds of layers without one, seeded and put back as it was.

    `keras.utils.set_random_seed` would also set the seeds of NumPy and of TensorFlow, which it imports, for the whole
    process.
    """
    before = random.getstate()
    random.seed(int(seed))  # of Python's type: it takes no other
    try:
        yield
    finally:
        random.setstate(before)


@contextlib.contextmanager
def _policy(precision: Precision) -> Iterator[None]:
    """Keras's policy for new layers, put back as it was."""
    before = keras.config.dtype_policy()
    if precision != "float32":
        keras.config.set_dtype_policy(f"mixed_{precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
