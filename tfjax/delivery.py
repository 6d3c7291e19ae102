"""From the leaves that leave the graph to the batch that the user gets: placed, in the user's structure, mapped."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from tfjax.bridge.leaf import Leaf, converters, leaves_of
from tfjax.errors import PlacementError
from tfjax.placement.put import Putter
from tfjax.placement.target import Target, batch_parts, check_batch, check_cut
from tfjax.spec import Structure

DeviceFunction = Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class Delivery:
    """One element's way from the graph to the user.

    Args:
        structure: the user's structure.
        converters: for each leaf, how it leaves TensorFlow.
        moved: the leaves that are put on devices; the others stay on the host, or are shared already.
        put: puts those on their devices.
        functions: applied to the placed batch, in this order.
    """

    structure: Structure
    converters: Sequence[Callable[[Any], Any]]
    moved: Sequence[int]
    put: Putter
    functions: Sequence[DeviceFunction]

    def deliver(self, leaves: list[Any]) -> Any:
        """Put the leaves on their devices, rebuild the structure, apply the device functions."""
        batch = self.structure.unflatten(self.place(leaves))
        for fn in self.functions:
            batch = fn(batch)
        return batch

    def place(self, leaves: list[Any]) -> list[Any]:
        """Put the leaves on their devices, all in one call."""
        if not self.moved:
            return leaves
        try:
            put = self.put([leaves[i] for i in self.moved])
        except ValueError as error:  # of a stream whose batch sizes were not known when it was planned
            if self.put.divides([leaves[i].shape for i in self.moved]):
                raise
            shapes = ", ".join(f"{self.structure.paths[i]}: {leaves[i].shape}" for i in self.moved)
            raise PlacementError(
                f"a batch of {shapes} does not divide over the {self.put.devices} devices: batch with "
                "remainder='pad' or 'drop', or drop_remainder=True in the tf.data.Dataset"
            ) from error
        out = list(leaves)
        for i, array in zip(self.moved, put, strict=True):
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
    leaves, share = leaves_of(plan), target.is_host_memory
    shardings = _shardings(target, leaves)
    moved = [i for i, leaf in enumerate(leaves) if not leaf.on_host]
    if plan.is_batched:
        check_batch([shardings[i] for i in moved], plan.batch_size, plan.tail, axes=not target.per_device)
    for i in moved:
        _require_cut(leaves[i], target.split_shape(leaves[i].shape), shardings[i])
    put = Putter(
        [shardings[i] for i in moved], committed=target.committed, split=target.devices if target.per_device else 0
    )
    mapped = [without_host(jax.jit(fn), _host_keys(plan)) for fn in functions]
    ways = converters(leaves, share=share, committed=target.committed)
    return Delivery(plan.element.structure, ways, () if share else moved, put, mapped)


def delivered_spec(plan: Any, target: Target | None, functions: Sequence[DeviceFunction]) -> Any:
    """The pytree of `jax.ShapeDtypeStruct` that is delivered; no data is read.

    A dimension is None where it may differ from batch to batch. A leaf of strings, which JAX has no dtype for, is a
    `HostSpec`. Where batches are placed, the shardings that device functions give are those of the compiled functions.
    """
    leaves, host = leaves_of(plan), _host_keys(plan)
    shardings: Sequence[Any] = [None] * len(leaves) if target is None else _shardings(target, leaves)
    unit = plan.batch_size or (math.lcm(*(batch_parts(s) for s in shardings if s is not None)))

    def batch(times: int | None) -> Any:
        shapes = [_shape(leaf, times and times * unit, target) for leaf in leaves]
        spec = plan.element.structure.unflatten(list(map(_struct, leaves, shapes, shardings)))
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


def _shardings(target: Target, leaves: Sequence[Leaf]) -> list[Any]:
    return target.shardings(
        [None if leaf.on_host else len(leaf.shape) for leaf in leaves], [leaf.path for leaf in leaves]
    )


def _require_cut(leaf: Leaf, shape: tuple[int | None, ...], sharding: Any) -> None:
    known = tuple(n for n in shape if n is not None)
    if len(known) == len(shape):
        check_cut(leaf.path, known, sharding)


def _shape(leaf: Leaf, rows: int | None, target: Target | None) -> tuple[int | None, ...]:
    """The shape that a leaf is delivered with, a number of rows in place of what is open."""
    shape = leaf.shape if rows is None else tuple(rows if n is None else n for n in leaf.shape)
    return shape if target is None or leaf.on_host else target.split_shape(shape)


def _struct(leaf: Leaf, shape: tuple[int | None, ...], sharding: Any) -> Any:
    if leaf.dtype == np.dtype(object):
        return HostSpec(shape, leaf.dtype)
    return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding)


def _open(one: Any, two: Any) -> Any:
    shape = tuple(n if n == m else None for n, m in zip(one.shape, two.shape, strict=True))
    if isinstance(one, HostSpec):
        return HostSpec(shape, one.dtype)
    return jax.ShapeDtypeStruct(shape, one.dtype, sharding=one.sharding)
