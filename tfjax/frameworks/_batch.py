"""What every framework's steps share: the inputs that a spec describes, masked means and sums of a batch.

A loss or metric is written once for all frameworks, as a function of the model and the batch:

    >>> import optax
    >>> def cross_entropy(predict, batch):
    ...     return optax.softmax_cross_entropy_with_integer_labels(predict(batch["image"]), batch["label"])
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

Predict = Callable[[Any], Any]
"""Applies the model to a batch of inputs."""

Loss = Callable[[Predict, Any], jax.Array]
"""(predict, batch) to one loss for each example, of shape (batch,)."""

Metrics = Callable[[Predict, Any], Mapping[str, jax.Array]]
"""(predict, batch) to named values for each example, each of shape (batch,)."""


def input_spec(spec: Any, x: str) -> Any:
    """The spec of one example's inputs: leaf (or subtree) `x` of a pipeline's `spec`, dimension 0 set to 1.

    Args:
        spec: pytree of `jax.ShapeDtypeStruct`, dimension 0 the batch.
        x: the key of the model's inputs.

    Raises:
        KeyError: there is no such key.
        ValueError: a leaf has no batch dimension.
    """
    if not isinstance(spec, Mapping) or x not in spec:
        keys = sorted(spec) if isinstance(spec, Mapping) else type(spec).__name__
        raise KeyError(f"no inputs {x!r} in the pipeline's spec, which has {keys}: give x= one of its keys")
    return jax.tree.map(lambda leaf: _one_example(x, leaf), spec[x])


def _one_example(x: str, leaf: Any) -> jax.ShapeDtypeStruct:
    if not leaf.shape:
        raise ValueError(f"inputs {x!r} have shape () and so no batch dimension: call .batch(size) on the pipeline")
    return jax.ShapeDtypeStruct((1, *leaf.shape[1:]), leaf.dtype)


def beside_batches(tree: Any, spec: Any) -> Any:
    """The arrays of `tree`, copied to the devices of the batches that `spec` describes; whole on each of them.

    Batches are committed to their devices, so a step's results are. A state that is not would compile the second
    step anew, and one that is committed elsewhere cannot be used with them.
    """
    placed = (getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(spec))
    sharding = next((s for s in placed if s is not None), None) or jnp.zeros(()).sharding
    if isinstance(sharding, jax.sharding.NamedSharding):
        sharding = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return jax.tree.map(lambda a: jax.device_put(a, sharding) if isinstance(a, jax.Array) else a, tree)


def masked_mean(values: jax.Array, batch: Any) -> jax.Array:
    """Mean of `values` (batch,) over the rows that `mask` says are real; over all of them without a mask."""
    weights = _weights("the loss", values, batch)
    return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1)


def masked_sums(values: Mapping[str, jax.Array], batch: Any) -> dict[str, jax.Array]:
    """Sum of each of `values` (batch,) over the real rows, and their number as `count`."""
    weights = {name: _weights(f"metric {name!r}", value, batch) for name, value in values.items()}
    sums = {name: jnp.sum(value * weights[name]) for name, value in values.items()}
    return {**sums, "count": jnp.sum(next(iter(weights.values())))}


def _weights(what: str, values: jax.Array, batch: Any) -> jax.Array:
    size = jax.tree.leaves(batch)[0].shape[0]
    if values.shape != (size,):
        raise ValueError(f"{what} has shape {values.shape}: return one value for each example, shape ({size},)")
    mask = batch.get("mask") if isinstance(batch, Mapping) else None
    return jnp.ones(size, jnp.float32) if mask is None else mask.astype(jnp.float32)
