"""Flax linen: a `TrainState` from a pipeline's spec, and jitted train and eval steps.

>>> import jax, jax.numpy as jnp, optax
>>> from tfjax.frameworks import linen
>>> spec = {"image": jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.float32)}
>>> state = linen.create_state(linen.small_cnn(10), optax.adam(1e-3), spec, seed=0)
>>> state.params["Dense_1"]["kernel"].shape
(64, 10)
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp

from tfjax.frameworks._batch import Loss, Metrics, beside_batches, input_spec, masked_mean, masked_sums

try:
    import optax
    from flax import linen as nn
    from flax.training.train_state import TrainState
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


def create_state(
    model: nn.Module, optimizer: optax.GradientTransformation, spec: Any, seed: int = 0, *, x: str = "image"
) -> TrainState:
    """A new training state; parameters have the shapes, and are on the devices, that `spec` asks for.

    Args:
        model: a module whose only variables are parameters.
        optimizer: any optax transformation.
        spec: a pipeline's `spec`: pytree of `jax.ShapeDtypeStruct`, dimension 0 the batch.
        seed: of the initial parameters.
        x: the key of the model's inputs.

    Raises:
        KeyError: `x` is no key of `spec`.
        ValueError: the model has variables other than parameters.
    """
    variables = dict(model.lazy_init(jax.random.key(seed), input_spec(spec, x)))
    params = variables.pop("params")
    if variables:
        raise ValueError(f"{type(model).__name__} has variables {sorted(variables)}: only 'params' are trained here")
    state = TrainState.create(apply_fn=model.apply, params=params, tx=optimizer)
    step = jnp.zeros((), jnp.int32)  # with an int the first step would be compiled twice
    return cast(TrainState, beside_batches(state.replace(step=step), spec))


def parameters(state: TrainState) -> Any:
    """The trained parameters: pytree of arrays."""
    return state.params


def train_step(loss: Loss) -> Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]:
    """A jitted step(state, batch) to (new state, {"loss": mean over real rows}); the old state is donated.

    Args:
        loss: (predict, batch) to (batch,) losses, one for each example.
    """

    @partial(jax.jit, donate_argnums=0)
    def step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, jax.Array]]:
        def mean_loss(params: Any) -> jax.Array:
            return masked_mean(loss(lambda x: state.apply_fn({"params": params}, x), batch), batch)

        value, grads = jax.value_and_grad(mean_loss)(state.params)
        return state.apply_gradients(grads=grads), {"loss": value}

    return step


def eval_step(metrics: Metrics) -> Callable[[TrainState, Any], dict[str, jax.Array]]:
    """A jitted step(state, batch) to {name: sum over the real rows, ..., "count": their number}.

    Args:
        metrics: (predict, batch) to a dict of (batch,) values, one for each example.
    """

    @jax.jit
    def step(state: TrainState, batch: Any) -> dict[str, jax.Array]:
        return masked_sums(metrics(lambda x: state.apply_fn({"params": state.params}, x), batch), batch)

    return step
