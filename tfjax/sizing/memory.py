"""What device memory there is, and what pytrees of arrays take of it."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import jax

from tfjax.tools.doctor.machine import available_bytes


def bytes_of(leaf: Any) -> int:
    """Bytes of an array, or of what one is described by, on one of the devices that hold it; 0 of anything else.

    >>> bytes_of(jax.ShapeDtypeStruct((4, 3), "float32"))
    48
    """
    if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
        return 0
    sharding = getattr(leaf, "sharding", None)
    shape = leaf.shape if sharding is None else sharding.shard_shape(leaf.shape)
    return int(math.prod(shape) * leaf.dtype.itemsize)


def bytes_of_tree(tree: Any) -> int:
    """The same of all leaves."""
    return sum(map(bytes_of, jax.tree.leaves(tree)))


def devices_of(*trees: Any) -> set[jax.Device]:
    """This process's devices that leaves lie on, or are described to; JAX's default device where none says."""
    shardings = [s for leaf in jax.tree.leaves(trees) if (s := getattr(leaf, "sharding", None)) is not None]
    found = set().union(*(s.addressable_devices for s in shardings))
    return found or set(jax.numpy.zeros(()).devices())


def free_bytes(devices: Collection[jax.Device]) -> int | None:
    """What may still be taken of each device's memory; None where a device does not say.

    CPU devices share what this machine, or the limit of the control group, leaves.
    """
    if all(device.platform == "cpu" for device in devices):
        available = available_bytes()
        return None if available is None else available // len(devices)
    stats = [device.memory_stats() or {} for device in devices]
    if any("bytes_limit" not in s for s in stats):
        return None
    return min(int(s["bytes_limit"]) - int(s.get("bytes_in_use", 0)) for s in stats)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: XLA's, on a device, or Python's, on the host."""
    return isinstance(error, MemoryError) or (
        isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    )
