"""From the leaves that leave the graph to the batch that the user gets: placed, in the user's structure, mapped."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from tfjax.bridge.leaf import Leaf, converters, leaves_of
from tfjax.errors import PlacementError
from tfjax.placement.put import put_leaves
from tfjax.placement.target import Target
from tfjax.spec import Structure

DeviceFunction = Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class Delivery:
    """One element's way from the graph to the user.

    Args:
        structure: the user's structure.
        converters: for each leaf, how it leaves TensorFlow.
        shardings: for each leaf where it is put, None for what stays on the host; empty where all are shared.
        committed: whether arrays are bound to where they are put.
        functions: applied to the placed batch, in this order.
    """

    structure: Structure
    converters: Sequence[Callable[[Any], Any]]
    shardings: Sequence[Any]
    committed: bool
    functions: Sequence[DeviceFunction]

    def deliver(self, leaves: list[Any]) -> Any:
        """Put the leaves on their devices, rebuild the structure, apply the device functions."""
        batch = self.structure.unflatten(self.place(leaves))
        for fn in self.functions:
            batch = fn(batch)
        return batch

    def place(self, leaves: list[Any]) -> list[Any]:
        """Put the leaves on their devices, all in one call."""
        moved = [i for i, s in enumerate(self.shardings) if s is not None]
        if not moved:
            return leaves
        try:
            given = [leaves[i] for i in moved]
            put = put_leaves(given, [self.shardings[i] for i in moved] if self.committed else None)
        except ValueError as error:  # of a stream whose batch sizes were not known when it was planned
            shapes = ", ".join(f"{self.structure.paths[i]}: {leaves[i].shape}" for i in moved)
            devices = max(len(self.shardings[i].device_set) for i in moved)
            raise PlacementError(
                f"a batch of {shapes} does not divide over the {devices} devices: batch with remainder='pad' or "
                "'drop', or drop_remainder=True in the tf.data.Dataset"
            ) from error
        out = list(leaves)
        for i, array in zip(moved, put, strict=True):
            out[i] = array
        return out


def delivery_of(plan: Any, target: Target, functions: Sequence[DeviceFunction]) -> Delivery:
    """How the elements of a plan are delivered.

    Where the only device is the CPU whose memory TensorFlow uses, leaves are shared through DLPack and nothing is put;
    otherwise they are views, which `device_put` shares or copies, shard by shard.

    Raises:
        PlacementError: batches do not divide over the devices, or a spec is longer than a leaf's rank.
    """
    plan.element.require_deliverable()
    if plan.is_batched:
        target.check_batch(plan.batch_size, plan.tail)
    leaves, share = leaves_of(plan), target.is_host_memory
    shardings = [None if leaf.on_host else _sharding(target, leaf) for leaf in leaves]
    mapped = [without_host(jax.jit(fn), _host_keys(plan)) for fn in functions]
    ways = converters(leaves, share=share, committed=target.committed)
    return Delivery(plan.element.structure, ways, () if share else shardings, target.committed, mapped)


def delivered_spec(plan: Any, target: Target | None, functions: Sequence[DeviceFunction]) -> Any:
    """The pytree of `jax.ShapeDtypeStruct` that is delivered; no data is read.

    A dimension is None where it may differ from batch to batch. A leaf of strings, which JAX has no dtype for, is a
    `HostSpec`. Where batches are placed, the shardings that device functions give are those of the compiled functions.
    """
    leaves, host = leaves_of(plan), _host_keys(plan)

    def batch(times: int | None) -> Any:
        spec = plan.element.structure.unflatten([_struct(target, leaf, plan.batch_size, times) for leaf in leaves])
        for fn in functions:
            spec = without_host(functools.partial(_evaluated, fn, placed=target is not None), host)(spec)
        return spec

    if not functions or all(None not in leaf.shape for leaf in leaves):
        return batch(None)
    # JAX evaluates no open dimension: what differs between two sizes is open.
    return jax.tree.map(_open, batch(1), batch(2))


def _evaluated(fn: DeviceFunction, spec: Any, *, placed: bool) -> Any:
    out = jax.eval_shape(fn, spec)
    if not placed:
        return out
    shardings = jax.jit(fn).lower(spec).compile().output_shardings
    return jax.tree.map(lambda s, to: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=to), out, shardings)


@dataclass(frozen=True)
class HostSpec:
    """Shape and dtype of a leaf of strings, which stays on the host."""

    shape: tuple[int | None, ...]
    dtype: Any


def without_host(fn: DeviceFunction, host_keys: frozenset[str]) -> DeviceFunction:
    """A device function that is not shown the keys kept on the host; they are added to what it returns."""
    if not host_keys:
        return fn

    def shown(batch: dict[str, Any]) -> Any:
        kept = {k: v for k, v in batch.items() if k in host_keys}
        out = fn({k: v for k, v in batch.items() if k not in host_keys})
        if not isinstance(out, dict):
            raise TypeError(f"device_map returned a {type(out).__name__}: beside keys kept on the host, return a dict")
        if both := sorted(kept.keys() & out.keys()):
            raise ValueError(f"device_map returned {both[0]!r}, a key that is kept on the host: give it another name")
        return {**out, **kept}

    return shown


def _host_keys(plan: Any) -> frozenset[str]:
    return plan.element.host_keys  # type: ignore[no-any-return]


def _sharding(target: Target, leaf: Leaf) -> Any:
    sharding = target.shardings([len(leaf.shape)], [leaf.path])[0]
    known = tuple(n for n in leaf.shape if n is not None)
    if len(known) == len(leaf.shape) and not leaf.on_host:
        try:
            sharding.shard_shape(known)
        except ValueError as error:
            raise PlacementError(f"{leaf.path} of shape {leaf.shape} cannot be cut as {sharding}: {error}") from error
    return sharding


def _struct(target: Target | None, leaf: Leaf, batch_size: int | None, times: int | None) -> Any:
    """The spec of a leaf; with `times`, open dimensions are that many times what divides over the devices."""
    unit = batch_size or (target.batch_shards if target else 1)
    shape = leaf.shape if times is None else tuple(times * unit if n is None else n for n in leaf.shape)
    if leaf.dtype == np.dtype(object):
        return HostSpec(shape, leaf.dtype)
    sharding = None if target is None or leaf.on_host else _sharding(target, leaf)
    return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding)


def _open(one: Any, two: Any) -> Any:
    shape = tuple(n if n == m else None for n, m in zip(one.shape, two.shape, strict=True))
    if isinstance(one, HostSpec):
        return HostSpec(shape, one.dtype)
    return jax.ShapeDtypeStruct(shape, one.dtype, sharding=one.sharding)
