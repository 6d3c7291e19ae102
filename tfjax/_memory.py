"""NumPy memory that comes from elsewhere: who may still write to it, and copies that a device can share."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

_ALIGNMENT = 64


def is_immutable(array: np.ndarray) -> bool:
    """Whether neither the array nor what it is a view of can be written to.

    >>> is_immutable(np.frombuffer(b"1234", np.uint8)), is_immutable(np.zeros(3)[:2])
    (True, False)
    """
    base: Any = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return False
        base = base.base
    if base is None or type(base).__name__ == "tensorflow_wrapper":  # its own memory; a tensor's, which never changes
        return True
    try:
        return memoryview(base).readonly
    except TypeError:
        return False  # whose memory it is is not known


def unshared(array: np.ndarray) -> np.ndarray:
    """The array itself where it is contiguous and nobody can write to it; else a read-only, aligned copy.

    >>> refilled = np.zeros(3)
    >>> kept = unshared(refilled)
    >>> refilled[:] = 7
    >>> kept.tolist()
    [0.0, 0.0, 0.0]
    """
    return array if is_immutable(array) and array.flags.c_contiguous else aligned_copy(array)


def aligned_copy(array: np.ndarray) -> np.ndarray:
    """A read-only copy that starts where a CPU device, and TensorFlow, can share it."""
    if array.dtype.hasobject:
        return frozen(array.copy())
    memory = np.empty(array.nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    out = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    np.copyto(out, array)
    memory.flags.writeable = False
    return frozen(out)


def aligned(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Zeros that start where a CPU device, and TensorFlow, can share them; pages are taken as they are written.

    They are mapped, because NumPy asks for huge pages, whose first writes cost four times as much.
    """
    count = math.prod(shape)
    memory = mmap.mmap(-1, max(count * dtype.itemsize, 1))
    return np.frombuffer(memory, dtype, count).reshape(shape)


def frozen(array: np.ndarray) -> np.ndarray:
    """The same array, read-only: for one that nobody else has."""
    array.flags.writeable = False
    return array


def physical_bytes() -> int | None:
    """This machine's memory; None where that cannot be found out."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def available_bytes() -> int | None:
    """The memory that can be taken without swapping; all of this machine's where only that is known."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return physical_bytes()


def native(array: np.ndarray) -> np.ndarray:
    """The same values in this machine's byte order.

    >>> native(np.array([1], ">i8")).dtype
    dtype('int64')
    """
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def refuse_mask(array: Any, what: str) -> None:
    """Raise TypeError where a value of an array is masked, which no tensor has.

    >>> refuse_mask(np.ma.masked_array([1, 2], mask=[True, False]), "['x']")
    Traceback (most recent call last):
    TypeError: ['x'] is a masked array, and its mask would be lost: give array.filled(value)
    """
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise TypeError(f"{what} is a masked array, and its mask would be lost: give array.filled(value)")
