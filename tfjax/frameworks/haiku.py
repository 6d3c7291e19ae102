"""Haiku: a `TrainState` from a pipeline's spec, and jitted train and eval steps.

>>> import jax, jax.numpy as jnp, optax
>>> from tfjax.frameworks import haiku
>>> spec = {"image": jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.float32)}
>>> state = haiku.create_state(haiku.small_cnn(10), optax.adam(1e-3), spec, seed=0)
>>> state.params["linear_1"]["w"].shape
(64, 10)
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp

from tfjax.frameworks._batch import Loss, Metrics, beside_batches, input_spec, masked_mean, masked_sums

try:
    import haiku as hk
    import optax
except ImportError as e:
    raise ImportError(f"tfjax.frameworks.haiku needs {e.name!r}: pip install 'tfjax[haiku]'") from e


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class TrainState:
    """Parameters, optimizer state and step, with the functions that use them (which are no leaves)."""

    params: hk.Params
    opt_state: optax.OptState
    step: jax.Array
    apply: Callable[..., Any] = field(metadata={"static": True})
    optimizer: optax.GradientTransformation = field(metadata={"static": True})


def small_cnn(num_classes: int) -> hk.Transformed:
    """Convolutions 3x3 of 16 and 32 with pooling, dense of 64: (batch, h, w, c) to (batch, num_classes)."""

    def forward(x: jax.Array) -> jax.Array:
        for features in (16, 32):
            x = jax.nn.relu(hk.Conv2D(features, 3)(x))
            x = hk.avg_pool(x, (2, 2, 1), (2, 2, 1), "VALID")
        x = jax.nn.relu(hk.Linear(64)(hk.Flatten()(x)))
        return hk.Linear(num_classes)(x)

    return hk.without_apply_rng(hk.transform(forward))


def create_state(
    model: hk.Transformed,
    optimizer: optax.GradientTransformation,
    spec: Any,
    seed: int = 0,
    *,
    x: str = "image",
) -> TrainState:
    """A new training state; parameters have the shapes, and are on the devices, that `spec` asks for.

    Args:
        model: from `hk.without_apply_rng(hk.transform(f))`.
        optimizer: any optax transformation.
        spec: a pipeline's `spec`: pytree of `jax.ShapeDtypeStruct`, dimension 0 the batch.
        seed: of the initial parameters.
        x: the key of the model's inputs.

    Raises:
        KeyError: `x` is no key of `spec`.
    """
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), input_spec(spec, x))
    params = jax.jit(model.init)(jax.random.key(seed), zeros)  # the compiler drops the forward pass
    state = TrainState(
        params=params,
        opt_state=optimizer.init(params),
        step=jnp.zeros((), jnp.int32),
        apply=model.apply,
        optimizer=optimizer,
    )
    return cast(TrainState, beside_batches(state, spec))


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
        def mean_loss(params: hk.Params) -> jax.Array:
            return masked_mean(loss(partial(state.apply, params), batch), batch)

        value, grads = jax.value_and_grad(mean_loss)(state.params)
        updates, opt_state = state.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return replace(state, params=params, opt_state=opt_state, step=state.step + 1), {"loss": value}

    return step


def eval_step(metrics: Metrics) -> Callable[[TrainState, Any], dict[str, jax.Array]]:
    """A jitted step(state, batch) to {name: sum over the real rows, ..., "count": their number}.

    Args:
        metrics: (predict, batch) to a dict of (batch,) values, one for each example.
    """

    @jax.jit
    def step(state: TrainState, batch: Any) -> dict[str, jax.Array]:
        return masked_sums(metrics(partial(state.apply, state.params), batch), batch)

    return step
