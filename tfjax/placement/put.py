"""Host arrays to their devices, always the same leaves: what does not change from batch to batch is worked out once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from tfjax._jaxlib import is_tested
from tfjax.errors import SpecError

Put = Callable[[Any, Sharding, list[Any], list[Any], bool], jax.Array]


class _Cut(NamedTuple):
    """How a leaf of one shape and dtype is cut."""

    shape: tuple[int, ...]
    dtype: Any
    aval: Any
    parts: list[Any]
    devices: list[Any]


class Putter:
    """Puts lists of leaves on devices; where the devices share the host's memory, aligned shards are shared."""

    def __init__(self, shardings: Sequence[Sharding], *, committed: bool = True, split: int = 0) -> None:
        """Make ready.

        Args:
            shardings: one a leaf.
            committed: whether arrays are bound to them; False only for JAX's default device.
            split: cut the batch dimension in two, (split, rows / split), before; 0: leave it.
        """
        self._shardings, self._committed, self._split = tuple(shardings), committed, split
        self._local = [sharding.is_fully_addressable for sharding in shardings]
        self._cuts: list[_Cut | None] = [None] * len(self._shardings)

    @property
    def devices(self) -> int:
        """How many devices hold a part."""
        return len(set().union(*(sharding.device_set for sharding in self._shardings)))

    def divides(self, shapes: Sequence[tuple[int, ...]]) -> bool:
        """Whether leaves of these shapes can be cut into equal parts."""
        if self._split:
            return all(not shape or shape[0] % self._split == 0 for shape in shapes)
        try:
            for sharding, shape in zip(self._shardings, shapes, strict=True):
                sharding.shard_shape(shape)
        except ValueError:
            return False
        return True

    def __call__(self, leaves: Sequence[Any]) -> list[jax.Array]:
        """One jax.Array a leaf.

        Args:
            leaves: NumPy views, which nobody writes to any more, or jax.Arrays. Where a sharding spans processes,
                they are the part of this process.

        Raises:
            ValueError: a leaf cannot be cut into equal parts.
        """
        if self._split:
            leaves = [_split(leaf, self._split) for leaf in leaves]
        fast = _fast_put()
        if fast is None or not all(self._local):
            return self._put_public(leaves)
        return [self._put(fast, i, leaf) for i, leaf in enumerate(leaves)]

    def _put(self, put: Put, i: int, leaf: Any) -> jax.Array:
        sharding = self._shardings[i]
        if not isinstance(leaf, np.ndarray):
            return jax.device_put(leaf, sharding if self._committed else None)  # type: ignore[no-any-return]
        if jax.dtypes.canonicalize_dtype(leaf.dtype) != leaf.dtype:
            raise SpecError(
                f"JAX would cut a leaf of {leaf.dtype} down to 32 bits: set jax_enable_x64, or cast it before"
            )
        cut = self._cuts[i]
        if cut is None or cut.shape != leaf.shape or cut.dtype != leaf.dtype:
            cut = self._cuts[i] = _cut(leaf, sharding)
        shards = [leaf[part] for part in cut.parts] if leaf.ndim else [leaf] * len(cut.devices)
        return put(cut.aval, sharding, shards, cut.devices, self._committed)

    def _put_public(self, leaves: Sequence[Any]) -> list[jax.Array]:
        if not self._committed:
            return list(jax.device_put(list(leaves)))
        if all(self._local):
            return list(jax.device_put(list(leaves), list(self._shardings)))
        return [_put_part(leaf, sharding) for leaf, sharding in zip(leaves, self._shardings, strict=True)]


def _cut(leaf: np.ndarray, sharding: Sharding) -> _Cut:
    sharding.shard_shape(leaf.shape)  # raises where parts would differ
    parts = sharding.addressable_devices_indices_map(leaf.shape)
    aval = jax.device_put(leaf, sharding).aval  # holds mesh and memory kind
    return _Cut(leaf.shape, leaf.dtype, aval, list(parts.values()), list(parts))


def _split(leaf: Any, parts: int) -> Any:
    if leaf.ndim == 0:
        return np.broadcast_to(leaf, (parts,))
    if leaf.shape[0] % parts:
        raise ValueError(f"{leaf.shape[0]} rows do not divide over {parts} devices")
    return leaf.reshape(parts, leaf.shape[0] // parts, *leaf.shape[1:])


def _put_part(leaf: Any, sharding: Sharding) -> jax.Array:
    """The part that this process holds of a global array."""
    return jax.make_array_from_process_local_data(sharding, np.asarray(leaf))  # type: ignore[no-any-return]


@functools.cache
def _fast_put() -> Put | None:
    """What `jax.device_put` ends in, a third of its time for a leaf over 8 devices; None where it is not to be had."""
    if not is_tested():
        return None
    try:
        from jaxlib._jax import batched_device_put

        return batched_device_put if _is_right(batched_device_put) else None
    except (ImportError, AttributeError, TypeError, ValueError, RuntimeError):
        return None


def _is_right(put: Put) -> bool:
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), ("device",))
    sharding = NamedSharding(mesh, PartitionSpec("device"))
    rows = np.arange(16 * len(mesh.devices), dtype=np.float32)
    cut = _cut(rows, sharding)
    array = put(cut.aval, sharding, [rows[part] for part in cut.parts], cut.devices, True)
    shards = {s.device: np.asarray(s.data).tolist() for s in array.addressable_shards}
    right = isinstance(array, jax.Array) and array.sharding == sharding and bool(array.committed)
    one = put(cut.aval, SingleDeviceSharding(cut.devices[0]), [rows], cut.devices[:1], False)
    right = right and array.aval == jax.device_put(rows, sharding).aval and not one.committed
    return right and shards == {d: rows[part].tolist() for d, part in zip(cut.devices, cut.parts, strict=True)}
