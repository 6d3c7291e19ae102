"""Keras 3 on JAX: the adapter behind `Pipeline.to_keras`, and the state and steps of the other frameworks.

A model here is a function of no arguments to a `keras.Model`.

    >>> import jax, jax.numpy as jnp, optax
    >>> from tfjax.frameworks import keras
    >>> spec = {"image": jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.float32)}
    >>> state = keras.create_state(keras.small_cnn(10), optax.adam(1e-3), spec, seed=0)
    >>> state.trainable[-2].shape
    (64, 10)
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp

from tfjax.frameworks._batch import Loss, Metrics, beside_batches, input_spec, masked_mean, masked_sums
from tfjax.frameworks._keras_adapter import PipelineAdapter as PipelineAdapter
from tfjax.frameworks._keras_backend import keras

try:
    import optax
except ImportError as e:
    raise ImportError(f"tfjax.frameworks.keras needs {e.name!r}: pip install 'tfjax[keras]'") from e


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class TrainState:
    """The values of a model's variables, the optimizer's state and the step; the model itself is static.

    The model's own variables keep their first values: `parameters(state)` are the trained ones.
    """

    trainable: list[jax.Array]
    non_trainable: list[jax.Array]
    opt_state: optax.OptState
    step: jax.Array
    model: Any = field(metadata={"static": True})
    optimizer: optax.GradientTransformation = field(metadata={"static": True})


def small_cnn(num_classes: int) -> Callable[[], Any]:
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


def build(model: Callable[[], Any], spec: Any, seed: int = 0, *, x: str = "image") -> Any:
    """A model from `model()`, built for the inputs that `spec` describes.

    Its initialisers are seeded by Python's generator, where Keras takes the seeds of layers without one; the
    generator is put back as it was. (`keras.utils.set_random_seed` would also set the seeds of NumPy and of
    TensorFlow, which it imports, for the whole process.)

    Args:
        model: a function to a model.
        spec: a pipeline's `spec`: pytree of `jax.ShapeDtypeStruct`, dimension 0 the batch.
        seed: of the initial parameters.
        x: the key of the model's inputs.

    Raises:
        KeyError: `x` is no key of `spec`.
    """
    shapes = jax.tree.map(lambda leaf: (None, *leaf.shape[1:]), input_spec(spec, x))
    before = random.getstate()
    random.seed(seed)
    try:
        built = model()
        built.build(shapes)
    finally:
        random.setstate(before)
    return built


def create_state(
    model: Callable[[], Any],
    optimizer: optax.GradientTransformation,
    spec: Any,
    seed: int = 0,
    *,
    x: str = "image",
) -> TrainState:
    """A new training state; parameters have the shapes, and are on the devices, that `spec` asks for.

    Args:
        model: a function to a model.
        optimizer: any optax transformation.
        spec: a pipeline's `spec`: pytree of `jax.ShapeDtypeStruct`, dimension 0 the batch.
        seed: of the initial parameters.
        x: the key of the model's inputs.

    Raises:
        KeyError: `x` is no key of `spec`.
    """
    built = build(model, spec, seed, x=x)
    trainable = [jnp.copy(v.value) for v in built.trainable_variables]  # copies, as the steps donate them
    state = TrainState(
        trainable=trainable,
        non_trainable=[jnp.copy(v.value) for v in built.non_trainable_variables],
        opt_state=optimizer.init(trainable),
        step=jnp.zeros((), jnp.int32),
        model=built,
        optimizer=optimizer,
    )
    return cast(TrainState, beside_batches(state, spec))


def parameters(state: TrainState) -> Any:
    """The trained parameters: pytree of arrays."""
    return state.trainable


def train_step(loss: Loss) -> Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]:
    """A jitted step(state, batch) to (new state, {"loss": mean over real rows}); the old state is donated.

    Args:
        loss: (predict, batch) to (batch,) losses, one for each example.
    """

    @partial(jax.jit, donate_argnums=0)
    def step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, jax.Array]]:
        def mean_loss(trainable: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
            updated = [state.non_trainable]

            def predict(x: Any) -> Any:
                outputs, updated[0] = state.model.stateless_call(trainable, updated[0], x, training=True)
                return outputs

            return masked_mean(loss(predict, batch), batch), updated[0]

        (value, non_trainable), grads = jax.value_and_grad(mean_loss, has_aux=True)(state.trainable)
        updates, opt_state = state.optimizer.update(grads, state.opt_state, state.trainable)
        new = {"trainable": optax.apply_updates(state.trainable, updates), "non_trainable": non_trainable}
        return replace(state, opt_state=opt_state, step=state.step + 1, **new), {"loss": value}

    return step


def eval_step(metrics: Metrics) -> Callable[[TrainState, Any], dict[str, jax.Array]]:
    """A jitted step(state, batch) to {name: sum over the real rows, ..., "count": their number}.

    Args:
        metrics: (predict, batch) to a dict of (batch,) values, one for each example.
    """

    @jax.jit
    def step(state: TrainState, batch: Any) -> dict[str, jax.Array]:
        def predict(x: Any) -> Any:
            return state.model.stateless_call(state.trainable, state.non_trainable, x, training=False)[0]

        return masked_sums(metrics(predict, batch), batch)

    return step
