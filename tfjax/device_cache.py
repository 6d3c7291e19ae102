"""Rows as arrays on the devices, filled once, from which batches are gathered inside of the jitted function.

Where a limit leaves some rows out, a batch comes whole from the graph, with zeros for the rows that are there, and
those are put in their places. That moves the bytes of a full batch; what is saved is computing the rows.

The arrays belong to the stage: every pipeline and every run that holds it and places its batches alike shares them, and
they are freed with the last.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding

from tfjax._memory import aligned, available_bytes
from tfjax.bridge.leaf import Leaf
from tfjax.bridge.reader import read
from tfjax.bridge.tensor import as_view, narrows
from tfjax.errors import PlacementError
from tfjax.graph.plan import Run
from tfjax.placement.target import batch_parts
from tfjax.spec import format_bytes

_CHUNK_BYTES = 64 * 2**20
_IN_BOUNDS = "promise_in_bounds"
_lock = threading.Lock()
_of_stage: weakref.WeakKeyDictionary[Any, dict[Any, list[jax.Array]]] = weakref.WeakKeyDictionary()


class DeviceRows:
    """The rows of one device cache under the shardings of one target."""

    def __init__(self, plan: Any, leaves: Sequence[Leaf], shardings: Sequence[Any], *, committed: bool) -> None:
        """Hold what is to be filled.

        Args:
            plan: an indexed plan of which the first rows are held, or all.
            leaves: those of its rows, as delivered.
            shardings: of a batch of each; dimension 0 of the array is cut alike.
            committed: whether the arrays are bound to their devices.

        Raises:
            PlacementError: a device has not the memory.
        """
        self._plan, self._leaves, self._shardings, self._committed = plan, leaves, shardings, committed
        rows = [tuple(n or 0 for n in leaf.shape[1 + leaf.stacked :]) for leaf in leaves]
        self._shapes = [(self._rows(s), *shape) for shape, s in zip(rows, shardings, strict=True)]
        self._require_memory()

    def _rows(self, sharding: Any) -> int:
        """The rows that are held, and as many more as it takes to cut them evenly."""
        parts = batch_parts(sharding)
        return -(-int(self._plan.held.most) // parts) * parts

    def _require_memory(self) -> None:
        needed: dict[jax.Device, int] = {}
        for shape, leaf, sharding in zip(self._shapes, self._leaves, self._shardings, strict=True):
            size = int(np.prod(sharding.shard_shape(shape))) * leaf.dtype.itemsize
            for device in sharding.device_set:
                needed[device] = needed.get(device, 0) + size
        owner = self._plan.held.owner
        less = "" if owner.limit_bytes is None else "a smaller "
        for device, size in needed.items():
            limit = (device.memory_stats() or {}).get("bytes_limit") or available_bytes()
            if limit is not None and size > limit:
                raise PlacementError(
                    f"{owner.describe()} needs {format_bytes(size)} on {device}, which has {format_bytes(limit)}: give "
                    f"{less}limit_bytes=, for the first rows that fit, use cache('memory') or cache(path), or shard "
                    "the batch axis over more devices"
                )

    @property
    def arrays(self) -> list[jax.Array]:
        """One array a leaf, filled at the first call."""
        key = (tuple(self._shardings), self._committed, tuple(leaf.dtype for leaf in self._leaves))
        with _lock:
            kept = _of_stage.setdefault(self._plan.held.owner, {})
            if key not in kept:
                kept[key] = self._fill()
            return kept[key]

    def _fill(self) -> list[jax.Array]:
        host = [aligned(shape, leaf.dtype) for shape, leaf in zip(self._shapes, self._leaves, strict=True)]
        row = sum(array[:1].nbytes for array in host)
        plan = self._plan.rows_of(self._plan.held, max(1, _CHUNK_BYTES // max(row, 1)))
        plan.check()
        at, run = 0, Run(start_epoch=0, start=0, stop=plan.steps_per_epoch, epochs=1)
        for chunk in read(plan, run, [as_view] * len(host), narrow=narrows()):
            rows = len(chunk[0])
            for array, part in zip(host, chunk, strict=True):
                array[at : at + rows] = part
            at += rows
        placed = jax.device_put(host, list(self._shardings)) if self._committed else jax.device_put(host)
        return list(jax.block_until_ready(placed))

    def gather(self) -> Callable[[Sequence[jax.Array], jax.Array, Sequence[jax.Array]], list[jax.Array]]:
        """A function of the arrays, the positions of the rows of a batch, uint32 (batch,), and leaves that hold others.

        There are no such leaves where every row is held.
        """
        shardings, most = self._shardings, self._plan.held.most

        def gathered(arrays: Sequence[jax.Array], positions: jax.Array, others: Sequence[jax.Array]) -> list[jax.Array]:
            at = jnp.minimum(positions, most - 1) if others else positions
            rows = [_gathered(x, at, sharding) for x, sharding in zip(arrays, shardings, strict=True)]
            return [_where(positions < most, *pair) for pair in zip(rows, others, strict=True)] if others else rows

        return gathered


def _where(is_held: jax.Array, rows: jax.Array, others: jax.Array) -> jax.Array:
    which = jnp.broadcast_to(is_held.reshape(is_held.shape + (1,) * (rows.ndim - is_held.ndim)), rows.shape)
    sharding = jax.typeof(rows).sharding
    if AxisType.Explicit in sharding.mesh.axis_types:
        which = jax.sharding.reshard(which, sharding)
    return jnp.where(which, rows, others)


def _gathered(array: jax.Array, positions: jax.Array, sharding: Any) -> jax.Array:
    at = array.at[positions]
    if not isinstance(sharding, NamedSharding):
        return at.get(mode=_IN_BOUNDS)
    if AxisType.Explicit in sharding.mesh.axis_types:
        return at.get(mode=_IN_BOUNDS, out_sharding=sharding)
    rows: jax.Array = jax.lax.with_sharding_constraint(at.get(mode=_IN_BOUNDS), sharding)
    return rows


def with_mask(leaves: Sequence[Any], mask: jax.Array, at: int) -> list[Any]:
    """The leaves of a batch with its mask, bool (batch,), where the structure has it."""
    return [*leaves[:at], mask.astype(jnp.bool_), *leaves[at:]]
