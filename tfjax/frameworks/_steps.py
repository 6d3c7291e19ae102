"""The train step and the eval step, the same for every framework: functions of a `TrainState` and a batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec

from tfjax._arguments import require_bool, require_call, require_count
from tfjax.frameworks._batch import (
    Loss,
    Metrics,
    losses_and_metrics,
    masked_sums,
    require_inputs,
    require_rows,
    row_weights,
    stop_unweighted,
    weighted,
)
from tfjax.frameworks._layout import constrained, on_any_mesh
from tfjax.frameworks._precision import all_finite, computed, computing
from tfjax.frameworks._state import TrainState, require_state

TrainStep = Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]
EvalStep = Callable[[TrainState, Any], dict[str, jax.Array]]

_OWN = ("loss", "losses", "grad_norm", "loss_scale")


def train_step(
    loss: Loss,
    *,
    sample_weight: str | None = None,
    max_grad_norm: float | None = None,
    accumulate: int = 1,
    remat: bool = False,
) -> TrainStep:
    """A jitted step(state, batch) to (new state, metrics); the old state is donated.

    The loss is the mean over the rows that `mask` says are real, weighted where there are weights. A row of weight 0
    trains nothing, also where its loss is NaN; its inputs must be finite, as 0 times NaN is NaN. Batch statistics and
    attention over other rows see every row: use remainder="drop" to train such models.

    Args:
        loss: (predict, batch) to (batch,) losses, one for each example; or to these and a dict of other such values,
            whose means are added to the metrics. `predict` is the model in training mode.
        sample_weight: the key of the batch's weights, (batch,).
        max_grad_norm: gradients of a larger global norm are scaled down to it.
        accumulate: parts that the batch is computed in, one after another, with one update: less memory, the same
            gradient.
        remat: keep the results of products and convolutions alone for the gradient, and compute the rest of a layer
            (activations, norms) again.

    Returns:
        A step whose metrics are "loss" (), "losses" (batch,) as the function gave them, "grad_norm" () where it is
        bounded, and "loss_scale" () in float16.

    Raises:
        TypeError: no loss function, or one that returns neither losses nor losses and a dict.
        ValueError: the loss is not one value for each example, a metric has the name of one of the step's, or the
            batch does not divide into `accumulate` parts.
        SpecError: the batch is not what the model was created for.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from tfjax.frameworks import linen
        >>> batch = {"image": jnp.ones((4, 8, 8, 1)), "label": jnp.arange(4)}
        >>> state = linen.create_state(linen.small_cnn(10), optax.adam(1e-3), batch)
        >>> step = linen.train_step(
        ...     lambda predict, batch: optax.softmax_cross_entropy_with_integer_labels(
        ...         predict(batch["image"]), batch["label"]
        ...     )
        ... )
        >>> state, metrics = step(state, batch)
        >>> int(state.step), sorted(metrics), metrics["losses"].shape
        (1, ['loss', 'losses'], (4,))
    """
    require_call("train_step", loss, ("predict", "batch"), "give a loss function of the model and a batch")
    require_count("accumulate", accumulate, least=1)
    require_bool("remat", remat)
    if max_grad_norm is not None:
        if isinstance(max_grad_norm, bool) or not isinstance(max_grad_norm, int | float | np.number):
            raise TypeError(f"max_grad_norm={max_grad_norm!r} is no number: give one above 0, or None")
        if not max_grad_norm > 0:
            raise ValueError(f"max_grad_norm={max_grad_norm!r} is not above 0")

    def step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, jax.Array]]:
        require_state(state)
        require_inputs(batch, state.inputs)
        weights = row_weights(batch, sample_weight)
        total = jnp.maximum(jnp.sum(weights), 1e-8)
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key, impl="threefry2x32"), state.step)
        scale = 1.0 if state.scale is None else state.scale.scale

        def objective(params: Any, model_state: Any, rows: Any, weights: jax.Array, key: jax.Array) -> Any:
            predict = _Predict(state, params, model_state, weights, key, remat=remat)
            losses, more = losses_and_metrics(loss(predict, rows))
            require_rows("the loss", losses, weights)
            sums = masked_sums(more, weights, _OWN)
            value = jnp.sum(weighted(losses.astype(jnp.float32), weights)) / total
            return value * scale, (value, losses, sums, predict.model_state)

        gradient = jax.grad(objective, has_aux=True)
        if accumulate == 1:
            grads, (value, losses, sums, model_state) = gradient(state.params, state.model_state, batch, weights, key)
        else:
            parts = _parts((batch, weights), accumulate)
            grads, (value, losses, sums, model_state) = _accumulated(gradient, state, parts, key, accumulate)
        grads = jax.tree.map(lambda g: g / scale, grads) if state.scale is not None else grads
        metrics = {name: s / total for name, s in sums.items()} | {"loss": value, "losses": losses}
        if max_grad_norm is not None:
            norm = metrics["grad_norm"] = optax.tree.norm(grads)
            grads = jax.tree.map(lambda g: g * jnp.minimum(1, max_grad_norm / jnp.maximum(norm, 1e-12)), grads)
        new = state.replace(model_state=model_state).apply_gradients(grads)
        if state.scale is not None:
            finite = all_finite(grads)
            new = jax.tree.map(partial(jnp.where, finite), new, state.replace(step=new.step))
            new = constrained(new.replace(scale=state.scale.after(finite)))
            metrics["loss_scale"] = scale
        return new, metrics

    return jax.jit(on_any_mesh(step, lambda kept: (kept, PartitionSpec())), donate_argnums=0)


class _Predict:
    """The model in training mode; what it changes of its own state is kept, each call has a key of its own."""

    def __init__(
        self, state: TrainState, params: Any, model_state: Any, weights: jax.Array, key: jax.Array, *, remat: bool
    ) -> None:
        self._state, self._params, self.model_state, self._key = state, params, model_state, key
        self._weights, self._remat, self._calls = weights, remat, 0

    def __call__(self, x: Any) -> Any:
        key = jax.random.fold_in(self._key, self._calls)
        self._calls += 1
        apply: Any = partial(self._state.model.apply, train=True)
        if self._remat:  # to compute all of it again at once would keep nothing in between, and save nothing
            apply = jax.checkpoint(apply, policy=jax.checkpoint_policies.dots_saveable)
        params, inputs = computing(self._state.precision, (self._params, x))
        outputs, changed = apply(params, self.model_state, inputs, key)
        self.model_state = _of_the_same_dtypes(changed, self.model_state)
        return stop_unweighted(computed(self._state.precision, outputs), self._weights)


def _of_the_same_dtypes(changed: Any, before: Any) -> Any:
    """A model's new state; a step whose state is of another kind than the one given would be compiled each time."""
    found, created = (str(jax.tree.structure(tree)) for tree in (changed, before))
    if found != created:
        raise ValueError(f"the model made its state {found} of {created}: it has to keep what it was created with")
    return jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), changed, before)


def _parts(tree: Any, parts: int) -> Any:
    """Each leaf (batch, ...) as (parts, batch / parts, ...); rows stay on their devices."""

    def cut(leaf: jax.Array) -> jax.Array:
        if leaf.ndim == 0:
            return jnp.broadcast_to(leaf, (parts,))
        size = leaf.shape[0]
        if size % parts:
            raise ValueError(f"accumulate={parts}: a batch of {size} rows does not divide into {parts} parts")
        return jnp.swapaxes(leaf.reshape(size // parts, parts, *leaf.shape[1:]), 0, 1)

    return jax.tree.map(cut, tree)


def _accumulated(gradient: Any, state: TrainState, parts: Any, key: jax.Array, count: int) -> Any:
    """The sums of gradients and metrics over parts of a batch."""

    def one(carry: Any, part: Any) -> Any:
        grads, value, model_state = carry
        (rows, weights), i = part
        more, (v, losses, sums, model_state) = gradient(
            state.params, model_state, rows, weights, jax.random.fold_in(key, i)
        )
        return (jax.tree.map(jnp.add, grads, more), value + v, model_state), (losses, sums)

    first = jax.tree.map(jnp.zeros_like, state.params), jnp.zeros(()), state.model_state
    (grads, value, model_state), (losses, sums) = jax.lax.scan(one, first, (parts, jnp.arange(count)))
    losses = jnp.swapaxes(losses, 0, 1).reshape(-1)
    return grads, (value, losses, jax.tree.map(lambda s: jnp.sum(s, axis=0), sums), model_state)


def eval_step(metrics: Metrics, *, sample_weight: str | None = None) -> EvalStep:
    """A jitted step(state, batch) to {name: weighted sum over the real rows, ..., "count": the sum of their weights}.

    Sums of all batches, divided by the sum of "count", are exact whatever the size of the last batch is.

    Args:
        metrics: (predict, batch) to a dict of (batch,) values, one for each example. `predict` is the model in
            evaluation mode: no dropout, statistics as they were trained.
        sample_weight: the key of the batch's weights, (batch,).

    Raises:
        ValueError: a metric is not one value for each example, or is called "count".
        SpecError: the batch is not what the model was created for.
    """
    require_call("eval_step", metrics, ("predict", "batch"), "give a function of the model and a batch to a dict")

    def step(state: TrainState, batch: Any) -> dict[str, jax.Array]:
        require_state(state)
        require_inputs(batch, state.inputs)

        def predict(x: Any) -> Any:
            params, x = computing(state.precision, (state.params, x))
            outputs, _ = state.model.apply(params, state.model_state, x, None, train=False)
            return computed(state.precision, outputs)

        weights = row_weights(batch, sample_weight)
        return {**masked_sums(metrics(predict, batch), weights, ("count",)), "count": jnp.sum(weights)}

    return jax.jit(on_any_mesh(step, lambda _: PartitionSpec()))
