"""From the leaves that leave the graph to the batch that the user gets: placed, in the user's structure, mapped."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from tfjax.bridge.leaf import Leaf, carried_of, converters, leaves_of
from tfjax.device_cache import DeviceRows, with_mask
from tfjax.device_functions import DeviceFunction, by_batch, composed, running
from tfjax.errors import PlacementError
from tfjax.graph.stages import DeviceMap
from tfjax.placement.put import Putter
from tfjax.placement.target import Target, batch_parts, check_batch, check_cut, over_stack
from tfjax.spec import Structure


@dataclass(frozen=True, eq=False)
class Delivery:
    """One element's way from the graph to the user.

    Args:
        structure: the user's structure.
        converters: for each leaf, how it leaves TensorFlow.
        moved: the leaves that are put on devices; the others stay on the host, or are shared already.
        put: puts those on their devices.
        function: applied to the placed batch and what is carried beside it; None where there is nothing to apply.
        held: rows that lie on the devices already, which the function is given in place of a batch.
    """

    structure: Structure
    converters: Sequence[Callable[[Any], Any]]
    moved: Sequence[int]
    put: Putter
    function: DeviceFunction | None
    held: DeviceRows | None = None

    def deliver(self, leaves: list[Any]) -> Any:
        """Put the leaves on their devices, rebuild the structure, apply the device functions."""
        placed = self.place(leaves)
        if self.held is not None and self.function is not None:
            return self.function(self.held.arrays, placed)
        if self.function is None:
            return self.structure.unflatten(placed)
        count = len(self.structure.paths)
        return self.function(self.structure.unflatten(placed[:count]), placed[count:])

    def place(self, leaves: list[Any]) -> list[Any]:
        """Put the leaves on their devices, all in one call."""
        if not self.moved:
            return leaves
        try:
            put = self.put([leaves[i] for i in self.moved])
        except ValueError as error:  # of a stream whose batch sizes were not known when it was planned
            if self.put.divides([leaves[i].shape for i in self.moved]):
                raise
            paths = self.structure.paths
            shapes = ", ".join(f"{paths[i]}: {leaves[i].shape}" for i in self.moved if i < len(paths))
            raise PlacementError(
                f"a batch of {shapes} does not divide over the {self.put.devices} devices: batch with "
                "remainder='pad' or 'drop', or drop_remainder=True in the tf.data.Dataset"
            ) from error
        out = list(leaves)
        for i, array in zip(self.moved, put, strict=True):
            out[i] = array
        return out


def delivery_of(plan: Any, target: Target, stages: Sequence[DeviceMap]) -> Delivery:
    """How the elements of a plan are delivered.

    Where the only device is the CPU whose memory TensorFlow uses, leaves are shared through DLPack and nothing is put;
    otherwise they are views, which `device_put` shares or copies, shard by shard.

    Raises:
        PlacementError: batches do not divide over the devices, or a spec is longer than a leaf's rank.
        ValueError: a random device function, over batches that are cut into one part a device.
    """
    plan.element.require_deliverable()
    if plan.held is not None:
        return _from_devices(plan, target, stages)
    leaves, share = [*leaves_of(plan), *carried_of(plan)], target.is_host_memory
    if plan.carried and target.per_device:
        raise ValueError(
            "random_device_map takes whole batches, and place_per_device cuts them: place them on a mesh, or split "
            "keys in the mapped step"
        )
    if target.per_device and _is_stacked(plan):
        raise ValueError("place_per_device cuts batches, and stack makes one element of several: place them on a mesh")
    of_batch = _shardings(target, leaves)
    moved = [i for i, leaf in enumerate(leaves) if not leaf.on_host]
    if plan.is_batched:
        check_batch([of_batch[i] for i in moved], plan.batch_size, plan.tail, axes=not target.per_device)
    shardings = _over_stacks(leaves, of_batch)
    for i in moved:
        _require_cut(leaves[i], target.split_shape(leaves[i].shape), shardings[i])
    put = Putter(
        [shardings[i] for i in moved], committed=target.committed, split=target.devices if target.per_device else 0
    )
    mapped = None
    if names := [*(repr(flip.op) for flip in plan.flips), *(stage.describe() for stage in stages)]:
        function = composed(stages, plan.flips)
        compiled = jax.jit(by_batch(function) if _is_stacked(plan) else function)
        mapped = without_host(running(compiled, names, leaves_of(plan)), _host_keys(plan))
    ways = converters(leaves, share=share, committed=target.committed)
    return Delivery(plan.element.structure, ways, () if share else moved, put, mapped)


def _from_devices(plan: Any, target: Target, stages: Sequence[DeviceMap]) -> Delivery:
    """The delivery of rows that a device cache holds.

    The graph yields which they are, and no leaf where it holds all; else leaves with the others.
    """
    own, carried = leaves_of(plan), carried_of(plan)
    if plan.element.host_keys or target.per_device:
        what = "keep_on_host" if plan.element.host_keys else "place_per_device"
        raise ValueError(
            f"cache('device') gathers batches on the devices, which {what} takes apart: use cache('memory')"
        )
    of_batch = _shardings(target, [*own, *carried])
    check_batch(of_batch[: len(own)], plan.batch_size, plan.tail)
    shardings = _over_stacks([*own, *carried], of_batch)
    for leaf, sharding in zip(own, shardings, strict=False):
        _require_cut(leaf, leaf.shape, sharding)
    structure = plan.element.structure
    mask = structure.paths.index("['mask']") if plan.batches.remainder == "pad" else None
    kept = [i for i in range(len(own)) if i != mask]
    held = DeviceRows(plan, [own[i] for i in kept], [of_batch[i] for i in kept], committed=target.committed)
    gather, rest = held.gather(), composed(stages)
    moved = 0 if plan.held.is_all else len(own)

    def function(arrays: Sequence[Any], given: Sequence[Any]) -> Any:
        others, position, left = given[:moved], given[moved], given[moved + 1 :]
        leaves = gather(arrays, position, [others[i] for i in kept if others])
        if mask is not None:
            real, left = (others[mask], left) if others else (left[0], left[1:])
            leaves = with_mask(leaves, real, mask)
        return rest(structure.unflatten(leaves), left)

    def stacked(arrays: Sequence[Any], given: Sequence[Any]) -> Any:
        return by_batch(lambda each, _: function(arrays, each))(given, [])

    names = [plan.held.owner.describe(), *(stage.describe() for stage in stages)]
    share, sent = target.is_host_memory, [*own[:moved], *carried]
    put = Putter([*shardings[:moved], *shardings[len(own) :]], committed=target.committed)
    ways = converters(sent, share=share, committed=target.committed)
    run = running(jax.jit(stacked if _is_stacked(plan) else function), names, own)
    return Delivery(structure, ways, () if share else range(len(sent)), put, run, held)


def delivered_spec(plan: Any, target: Target | None, stages: Sequence[DeviceMap]) -> Any:
    """The pytree of `jax.ShapeDtypeStruct` that is delivered; no data is read.

    A dimension is None where it may differ from batch to batch. A leaf of strings, which JAX has no dtype for, is a
    `HostSpec`. Where batches are placed, the shardings that device functions give are those of the compiled functions.
    """
    # Flips change no spec, nor does a device cache.
    keys = [leaf for leaf, carried in zip(carried_of(plan), plan.carried, strict=True) if carried.words == 2]
    leaves = [*leaves_of(plan), *keys]
    applied = by_batch(composed(stages)) if _is_stacked(plan) else composed(stages)
    function = without_host(functools.partial(_evaluated, applied, placed=target is not None), _host_keys(plan))
    shardings: Sequence[Any] = [None] * len(leaves)
    shardings = shardings if target is None else _over_stacks(leaves, _shardings(target, leaves))
    unit = plan.batch_size or (math.lcm(*(batch_parts(s) for s in shardings if s is not None)))

    def batch(times: int | None) -> Any:
        shapes = [_shape(leaf, times and times * unit, target) for leaf in leaves]
        specs = list(map(_struct, leaves, shapes, shardings))
        structure = plan.element.structure
        count = len(structure.paths)
        spec = structure.unflatten(specs[:count])
        return function(spec, specs[count:]) if stages else spec

    if not stages or all(None not in leaf.shape for leaf in leaves):
        return batch(None)
    # JAX evaluates no open dimension: what differs between two sizes is open.
    return jax.tree.map(_open, batch(1), batch(2))


def _evaluated(fn: DeviceFunction, spec: Any, carried: Sequence[Any], *, placed: bool) -> Any:
    out = jax.eval_shape(fn, spec, carried)
    if not placed:
        return out
    shardings = jax.jit(fn).lower(spec, carried).compile().output_shardings
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

    def shown(batch: dict[str, Any], carried: Sequence[Any]) -> Any:
        kept = {k: v for k, v in batch.items() if k in host_keys}
        out = fn({k: v for k, v in batch.items() if k not in host_keys}, carried)
        if not isinstance(out, dict):
            raise TypeError(f"device_map returned a {type(out).__name__}: beside keys kept on the host, return a dict")
        if both := sorted(kept.keys() & out.keys()):
            raise ValueError(f"device_map returned {both[0]!r}, a key that is kept on the host: give it another name")
        return {**out, **kept}

    return shown


def _is_stacked(plan: Any) -> bool:
    return len(plan.leading) > 1


def _host_keys(plan: Any) -> frozenset[str]:
    return plan.element.host_keys  # type: ignore[no-any-return]


def _shardings(target: Target, leaves: Sequence[Leaf]) -> list[Any]:
    """The shardings of one batch."""
    # A carried leaf without rows is the same everywhere, like a scalar.
    ranks = [None if leaf.on_host else len(leaf.shape) - leaf.stacked if leaf.has_rows else 0 for leaf in leaves]
    return target.shardings(ranks, [leaf.path for leaf in leaves])


def _over_stacks(leaves: Sequence[Leaf], of_batch: Sequence[Any]) -> list[Any]:
    """The shardings of what is delivered."""
    pairs = zip(leaves, of_batch, strict=True)
    return [over_stack(s) if leaf.stacked and not leaf.on_host else s for leaf, s in pairs]


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
