"""Flax nnx: a `TrainState` from a pipeline's spec, and jitted train and eval steps.

A model here is a function (spec of a batch of inputs, rngs) to an `nnx.Module`.

    >>> import jax, jax.numpy as jnp, optax
    >>> from tfjax.frameworks import nnx
    >>> spec = {"image": jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.float32)}
    >>> state = nnx.create_state(nnx.small_cnn(10), optax.adam(1e-3), spec, seed=0)
    >>> state.model.dense2.kernel.shape
    (64, 10)
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import jax

from tfjax.frameworks._batch import Loss, Metrics, beside_batches, input_spec, masked_mean, masked_sums

try:
    import optax
    from flax import nnx
except ImportError as e:
    raise ImportError(f"tfjax.frameworks.nnx needs {e.name!r}: pip install 'tfjax[flax]'") from e

Model = Callable[[Any, nnx.Rngs], nnx.Module]
"""(spec of a batch of one example's inputs, random streams) to a module that maps a batch."""


class TrainState(nnx.Pytree):
    """A model and its optimizer. `step` is `optimizer.step`."""

    def __init__(self, model: nnx.Module, optimizer: nnx.Optimizer[Any]) -> None:
        """Both by reference."""
        self.model = model
        self.optimizer = optimizer


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


def create_state(
    model: Model, optimizer: optax.GradientTransformation, spec: Any, seed: int = 0, *, x: str = "image"
) -> TrainState:
    """A new training state; parameters have the shapes, and are on the devices, that `spec` asks for.

    Args:
        model: (spec of a batch of inputs, rngs) to a module.
        optimizer: any optax transformation.
        spec: a pipeline's `spec`: pytree of `jax.ShapeDtypeStruct`, dimension 0 the batch.
        seed: of the initial parameters.
        x: the key of the model's inputs.

    Raises:
        KeyError: `x` is no key of `spec`.
    """
    module = model(input_spec(spec, x), nnx.Rngs(seed))
    state = TrainState(module, nnx.Optimizer(module, optimizer, wrt=nnx.Param))
    return cast(TrainState, beside_batches(state, spec))


def parameters(state: TrainState) -> Any:
    """The trained parameters: pytree of arrays."""
    return nnx.state(state.model, nnx.Param)


def train_step(loss: Loss) -> Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]:
    """A jitted step(state, batch) to (new state, {"loss": mean over real rows}); the old state is donated.

    Args:
        loss: (predict, batch) to (batch,) losses, one for each example.
    """

    @partial(jax.jit, donate_argnums=0)
    def step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, jax.Array]]:
        def mean_loss(model: Any) -> jax.Array:
            return masked_mean(loss(model, batch), batch)

        value, grads = nnx.value_and_grad(mean_loss)(state.model)
        state.optimizer.update(state.model, grads)
        return state, {"loss": value}

    return step


def eval_step(metrics: Metrics) -> Callable[[TrainState, Any], dict[str, jax.Array]]:
    """A jitted step(state, batch) to {name: sum over the real rows, ..., "count": their number}.

    Args:
        metrics: (predict, batch) to a dict of (batch,) values, one for each example.
    """

    @jax.jit
    def step(state: TrainState, batch: Any) -> dict[str, jax.Array]:
        return masked_sums(metrics(state.model, batch), batch)

    return step
