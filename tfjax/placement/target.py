"""Where the leaves of a batch go: one sharding a leaf, worked out once from what the user gave.

>>> import jax, numpy as np
>>> mesh = jax.make_mesh((1,), ("data",))
>>> target(mesh, "data").shardings([2, 0], ["['image']", "['step']"])[1].spec
P()
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from tfjax.errors import PlacementError


@dataclass(frozen=True)
class Target:
    """A sharding that is applied to every leaf: its first entry to the batch dimension, scalars replicated.

    Attributes:
        sharding: where leaves go.
        committed: whether arrays are bound to it; those that go to JAX's default device are not, like any other array
            that is made there.
    """

    sharding: Sharding
    committed: bool = True

    @property
    def devices(self) -> int:
        """How many devices hold a part."""
        return len(self.sharding.device_set)

    @property
    def batch_shards(self) -> int:
        """Into how many parts the batch dimension is cut."""
        if not isinstance(self.sharding, NamedSharding):
            return 1
        entry = self.sharding.spec[0] if len(self.sharding.spec) else None
        names = () if entry is None else (entry,) if isinstance(entry, str) else entry
        return math.prod(self.sharding.mesh.shape[name] for name in names)

    @property
    def is_host_memory(self) -> bool:
        """Whether leaves go as they are to the CPU device that shares TensorFlow's memory."""
        return bool(self.sharding == SingleDeviceSharding(jax.local_devices(backend="cpu")[0]))

    def shardings(self, ranks: Sequence[int], paths: Sequence[str]) -> list[Sharding]:
        """One sharding a leaf.

        Args:
            ranks: the rank of each leaf of a batch.
            paths: a key path for each, for messages.

        Raises:
            PlacementError: the spec is longer than the rank of a leaf.
        """
        return [self._of(rank, path) for rank, path in zip(ranks, paths, strict=True)]

    def _of(self, rank: int, path: str) -> Sharding:
        sharding = self.sharding
        if not isinstance(sharding, NamedSharding):
            return sharding
        if rank == 0:
            return NamedSharding(sharding.mesh, PartitionSpec(), memory_kind=sharding.memory_kind)
        if len(sharding.spec) > rank:
            raise PlacementError(
                f"{sharding.spec} has {len(sharding.spec)} entries, but {path} has rank {rank}: give a spec of one "
                "entry, which shards the batch dimension of every leaf"
            )
        return sharding

    def check_batch(self, size: int | None, tail: int | None) -> None:
        """Raise PlacementError where a batch cannot be cut into equal parts.

        Args:
            size: rows of a full batch; None if unknown.
            tail: rows of a shorter last batch, 0 if there is none, None if unknown.
        """
        parts = self.batch_shards
        if size is not None and size % parts:
            below, above = size // parts * parts, -(-size // parts) * parts
            fix = f"use {above}" if below == 0 else f"use {below} or {above}"
            raise PlacementError(f"batch size {size} does not divide over the {parts} devices of {self._axis()}: {fix}")
        if tail and tail % parts:
            raise PlacementError(
                f"the last batch of an epoch has {tail} rows, which do not divide over the {parts} devices of "
                f"{self._axis()}: use batch(..., remainder='pad') or 'drop'"
            )

    def _axis(self) -> str:
        spec = tuple(self.sharding.spec) if isinstance(self.sharding, NamedSharding) else ()
        return f"mesh axis {spec[0]!r}" if len(spec) else "the sharding"


def target(where: Any = None, axis: Any = None) -> Target:
    """What `place(where, axis)` means.

    Args:
        where: None (JAX's default device), a device, a Sharding, or a Mesh.
        axis: for a Mesh: an axis name, a tuple of names, or a PartitionSpec.

    Raises:
        PlacementError: the axis is not in the mesh, or devices belong to another process.
        TypeError: `where` is something else, or an axis is given without a mesh.
    """
    if axis is not None and not isinstance(where, Mesh):
        raise TypeError(f"place: axis {axis!r} needs a Mesh, but where is {where!r}: leave the axis out")
    if isinstance(where, Mesh):
        found: Sharding = NamedSharding(where, _spec(where, axis))
    elif isinstance(where, Sharding):
        found = where
    elif where is None or isinstance(where, jax.Device):
        found = SingleDeviceSharding(where or _default_device())
    else:
        raise TypeError(f"place: {where!r} is no Mesh, Sharding or device: pass one of these")
    if not found.is_fully_addressable:
        raise PlacementError(f"{found} spans devices of other processes: place on jax.local_devices()")
    return Target(found, committed=where is not None)


def _default_device() -> jax.Device:
    chosen = jax.config.jax_default_device  # type: ignore[attr-defined]
    if isinstance(chosen, str):
        return jax.local_devices(backend=chosen)[0]
    return chosen or jax.local_devices()[0]


def _spec(mesh: Mesh, axis: Any) -> PartitionSpec:
    if axis is None:
        if len(mesh.axis_names) != 1:
            raise PlacementError(f"place: the mesh has the axes {mesh.axis_names}: say which one shards the batch")
        axis = mesh.axis_names[0]
    if not isinstance(axis, str | tuple | PartitionSpec):
        raise TypeError(f"place: axis is {axis!r}: pass an axis name, a tuple of names, or a PartitionSpec")
    spec = axis if isinstance(axis, PartitionSpec) else PartitionSpec(axis)
    for entry in spec:
        for name in entry if isinstance(entry, tuple) else () if entry is None else (entry,):
            if name not in mesh.axis_names:
                raise PlacementError(f"place: {name!r} is no axis of the mesh; its axes are {mesh.axis_names}")
    return spec
