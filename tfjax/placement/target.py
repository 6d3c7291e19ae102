"""Where the leaves of a batch go: one sharding a leaf, found by its key path.

>>> import jax
>>> from jax.sharding import NamedSharding, PartitionSpec
>>> mesh = jax.make_mesh((1,), ("data",))
>>> target = Target((("", NamedSharding(mesh, PartitionSpec("data"))),))
>>> [s.spec for s in target.shardings([2, 0], ["['image']", "['step']"])]
[P('data',), P()]
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from tfjax.errors import PlacementError


@dataclass(frozen=True)
class Target:
    """Shardings by key path.

    Attributes:
        rules: pairs of a key path and the sharding of every leaf at or below it; the longest path wins.
        batch: the sharding of leaves that no rule names, which cuts the batch dimension as the named ones do; None
            where those differ.
        committed: whether arrays are bound to it; those that go to JAX's default device are not, like any other array
            that is made there.
        per_device: whether the batch dimension is split in two, (devices, rows of each), as `jax.pmap` takes it.
    """

    rules: tuple[tuple[str, Sharding], ...]
    batch: Sharding | None = None
    committed: bool = True
    per_device: bool = False

    @property
    def devices(self) -> int:
        """How many devices hold a part of a batch."""
        return len(set().union(*(sharding.device_set for _, sharding in self.rules)))

    @property
    def is_host_memory(self) -> bool:
        """Whether leaves go as they are to the CPU device that shares TensorFlow's memory."""
        cpu = SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
        return not self.per_device and all(sharding == cpu for _, sharding in self.rules)

    @property
    def is_accelerator(self) -> bool:
        """Whether whole batches go to devices other than CPUs."""
        devices: set[Any] = set().union(*(sharding.device_set for _, sharding in self.rules))
        return not self.per_device and all(device.platform != "cpu" for device in devices)

    @property
    def spans_processes(self) -> bool:
        """Whether devices belong to other processes."""
        return not all(sharding.is_fully_addressable for _, sharding in self.rules)

    def __str__(self) -> str:
        """Where leaves go, in one line."""
        if self.per_device:
            return f"{self.devices} devices"
        if [path for path, _ in self.rules] == [""]:
            return str(self.rules[0][1])
        return "{" + ", ".join(f"{path}: {getattr(s, 'spec', s)}" for path, s in self.rules) + "}"

    def shardings(self, ranks: Sequence[int | None], paths: Sequence[str]) -> list[Any]:
        """One sharding a leaf.

        Args:
            ranks: the rank of each leaf of a batch; None for one that stays on the host, whose sharding is None.
            paths: the key path of each.

        Raises:
            PlacementError: a spec is longer than the rank of its leaf, or names no leaf, or a leaf has none.
        """
        lost = [rule for rule, _ in self.rules if rule and not any(_covers(rule, path) for path in paths)]
        if lost:
            raise PlacementError(
                f"place names {lost[0]}, and there is no such leaf; the leaves are {', '.join(paths)}; "
                "for several devices give a Mesh, for several axes of one dimension a tuple of names"
            )
        return [None if rank is None else self._of(rank, path) for rank, path in zip(ranks, paths, strict=True)]

    def _of(self, rank: int, path: str) -> Sharding:
        found = [(len(rule), s) for rule, s in self.rules if _covers(rule, path)]
        length, sharding = max(found, key=lambda pair: pair[0]) if found else (0, self.batch)
        if sharding is None:
            named = ", ".join(f"{rule}: {getattr(s, 'spec', s)}" for rule, s in self.rules)
            raise PlacementError(
                f"place does not name {path}, and the named leaves do not agree on a batch axis ({named}): name it"
            )
        if self.per_device or not isinstance(sharding, NamedSharding):
            return sharding
        is_exact = length == len(path)
        if rank == 0 and not is_exact:
            return NamedSharding(sharding.mesh, PartitionSpec(), memory_kind=sharding.memory_kind)
        if len(sharding.spec) > rank:
            raise PlacementError(
                f"{sharding.spec} has {len(sharding.spec)} entries, but {path} has rank {rank}: give longer specs by "
                f"leaf, as in place(mesh, {{'image': PartitionSpec(...)}}); leaves that are not named follow the batch "
                "axis"
            )
        return sharding

    def split_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape that a leaf is delivered with; (devices, rows of each, ...) where the batch dimension is split."""
        if not self.per_device:
            return shape
        if not shape:
            return (self.devices,)
        return (self.devices, None if shape[0] is None else shape[0] // self.devices, *shape[1:])


def _covers(rule: str, path: str) -> bool:
    return not rule or (path.startswith(rule) and (len(path) == len(rule) or path[len(rule)] in "[."))


def over_stack(sharding: Sharding) -> Sharding:
    """The sharding of a stack of batches, each of which is cut as a sharding says; the stack is never cut.

    >>> mesh = jax.make_mesh((1,), ("data",))
    >>> over_stack(NamedSharding(mesh, PartitionSpec("data"))).spec
    P(None, 'data')
    """
    if isinstance(sharding, NamedSharding):
        spec = PartitionSpec(None, *sharding.spec) if len(sharding.spec) else sharding.spec
        return NamedSharding(sharding.mesh, spec, memory_kind=sharding.memory_kind)
    if len(sharding.device_set) > 1:
        raise PlacementError(f"stack cannot tell which dimensions {sharding} cuts: place on a mesh, by a NamedSharding")
    return sharding


def batch_parts(sharding: Sharding) -> int:
    """Into how many parts a sharding cuts dimension 0."""
    return _parts(sharding, _batch_entry(sharding))


def _parts(sharding: Sharding, entry: str | tuple[str, ...] | None) -> int:
    if not isinstance(sharding, NamedSharding) or entry is None:
        return 1
    return math.prod(sharding.mesh.shape[name] for name in ((entry,) if isinstance(entry, str) else entry))


def check_batch(shardings: Iterable[Sharding], size: int | None, tail: int | None, *, axes: bool = True) -> None:
    """Raise PlacementError where a batch cannot be cut into equal parts.

    Args:
        shardings: those of the leaves that are put on devices.
        size: rows of a full batch; None if unknown.
        tail: rows of a shorter last batch, 0 if there is none, None if unknown.
        axes: whether the user named the axes of a mesh, so that a message may.
    """
    cuts = {batch_parts(sharding): sharding for sharding in shardings}
    parts = math.lcm(*cuts)
    over = f"{parts} devices" + (f" of {_axis(cuts[max(cuts)])}" if cuts and axes else "")
    if size is not None and size % parts:
        below, above = size // parts * parts, -(-size // parts) * parts
        fix = f"use {above}" if below == 0 else f"use {below} or {above}"
        raise PlacementError(f"batch size {size} does not divide over the {over}: {fix}")
    if tail and tail % parts:
        raise PlacementError(
            f"the last batch of an epoch has {tail} rows, which do not divide over the {over}: use "
            "batch(..., remainder='pad') or 'drop'"
        )


def check_cut(path: str, shape: tuple[int, ...], sharding: Sharding) -> None:
    """Raise PlacementError where a leaf of a shape cannot be cut into equal parts as a sharding says."""
    spec = sharding.spec if isinstance(sharding, NamedSharding) else ()
    for number, (rows, entry) in enumerate(zip(shape, spec, strict=False)):
        parts = _parts(sharding, entry)
        if rows % parts:
            raise PlacementError(
                f"{path} of shape {shape} cannot be cut as {spec}: dimension {number} has {rows} rows, which do not "
                f"divide over {parts} devices; drop or pad what is left over"
            )
    try:
        sharding.shard_shape(shape)
    except ValueError as error:
        raise PlacementError(f"{path} of shape {shape} cannot be cut as {sharding}: {error}") from error


def _axis(sharding: Sharding) -> str:
    entry = _batch_entry(sharding)
    return "the sharding" if entry is None else f"mesh axis {entry!r}"


def _batch_entry(sharding: Sharding) -> str | tuple[str, ...] | None:
    spec = tuple(sharding.spec) if isinstance(sharding, NamedSharding) else ()
    return next(iter(spec), None)


def batch_sharding(shardings: Sequence[Sharding]) -> Sharding | None:
    """The sharding of the batch axis alone on which all agree that cut it; None where they do not."""
    cutting = [s for s in shardings if _batch_entry(s) is not None]
    found: set[Sharding] = set()
    for sharding in cutting or shardings:
        if isinstance(sharding, NamedSharding):
            entry = PartitionSpec(_batch_entry(sharding)) if cutting else PartitionSpec()
            sharding = NamedSharding(sharding.mesh, entry, memory_kind=sharding.memory_kind)
        found.add(sharding)
    return found.pop() if len(found) == 1 else None
