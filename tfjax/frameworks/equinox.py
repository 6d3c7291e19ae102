"""Equinox: a `TrainState` from a pipeline's spec, and jitted train and eval steps.

A model here is a function (spec of one example's inputs, key) to a module that maps one example.

    >>> import jax, jax.numpy as jnp, optax
    >>> from tfjax.frameworks import equinox
    >>> spec = {"image": jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.float32)}
    >>> state = equinox.create_state(equinox.small_cnn(10), optax.adam(1e-3), spec, seed=0)
    >>> state.model.dense[1].weight.shape
    (10, 64)
"""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp

from tfjax.frameworks._batch import Loss, Metrics, beside_batches, input_spec, masked_mean, masked_sums

try:
    import equinox as eqx
    import optax
except ImportError as e:
    raise ImportError(f"tfjax.frameworks.equinox needs {e.name!r}: pip install 'tfjax[equinox]'") from e

Model = Callable[[Any, jax.Array], eqx.Module]
"""(spec of one example's inputs, PRNG key) to a module that maps one example."""


class TrainState(eqx.Module):
    """The model, the optimizer's state and the step; the optimizer itself is static."""

    model: Any
    opt_state: optax.OptState
    step: jax.Array
    optimizer: optax.GradientTransformation = eqx.field(static=True)


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
        x = jnp.moveaxis(x, -1, 0)  # Equinox's convolutions want (channels, height, width)
        for conv in self.conv:
            x = self.pool(jax.nn.relu(conv(x)))
        return self.dense[1](jax.nn.relu(self.dense[0](x.ravel())))


def small_cnn(num_classes: int) -> Model:
    """Convolutions 3x3 of 16 and 32 with pooling, dense of 64: (h, w, c) to (num_classes,)."""
    return lambda inputs, key: _SmallCNN(num_classes, inputs, key)


def create_state(
    model: Model, optimizer: optax.GradientTransformation, spec: Any, seed: int = 0, *, x: str = "image"
) -> TrainState:
    """A new training state; parameters have the shapes, and are on the devices, that `spec` asks for.

    Args:
        model: (spec of one example's inputs, key) to a module that maps one example.
        optimizer: any optax transformation.
        spec: a pipeline's `spec`: pytree of `jax.ShapeDtypeStruct`, dimension 0 the batch.
        seed: of the initial parameters.
        x: the key of the model's inputs.

    Raises:
        KeyError: `x` is no key of `spec`.
    """
    inputs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), input_spec(spec, x))
    module = model(inputs, jax.random.key(seed))
    opt_state = optimizer.init(eqx.filter(module, eqx.is_inexact_array))
    state = TrainState(model=module, opt_state=opt_state, step=jnp.zeros((), jnp.int32), optimizer=optimizer)
    return cast(TrainState, beside_batches(state, spec))


def parameters(state: TrainState) -> Any:
    """The trained parameters: pytree of arrays."""
    return eqx.filter(state.model, eqx.is_inexact_array)


def train_step(loss: Loss) -> Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]:
    """A jitted step(state, batch) to (new state, {"loss": mean over real rows}); the old state is donated.

    Args:
        loss: (predict, batch) to (batch,) losses, one for each example.
    """

    @eqx.filter_jit(donate="all-except-first")  # hence the batch, which is not donated, comes first
    def update(batch: Any, state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        def mean_loss(model: Any) -> jax.Array:
            return masked_mean(loss(jax.vmap(model), batch), batch)

        value, grads = eqx.filter_value_and_grad(mean_loss)(state.model)
        params = eqx.filter(state.model, eqx.is_inexact_array)
        updates, opt_state = state.optimizer.update(grads, state.opt_state, params)
        model = eqx.apply_updates(state.model, updates)
        return TrainState(model, opt_state, state.step + 1, state.optimizer), {"loss": value}

    return lambda state, batch: update(batch, state)


def eval_step(metrics: Metrics) -> Callable[[TrainState, Any], dict[str, jax.Array]]:
    """A jitted step(state, batch) to {name: sum over the real rows, ..., "count": their number}.

    Args:
        metrics: (predict, batch) to a dict of (batch,) values, one for each example.
    """

    @eqx.filter_jit
    def step(state: TrainState, batch: Any) -> dict[str, jax.Array]:
        return masked_sums(metrics(jax.vmap(state.model), batch), batch)

    return step
