"""Arrays in `.npy` files whose disk space is reserved, mapped into memory, and written row by row."""

from __future__ import annotations

import os
import weakref
from typing import IO, Any, NamedTuple

import numpy as np

from tfjax.errors import CorruptDataError
from tfjax.graph.cache.store import Column

_PAGE_BYTES = 4096
_ZEROS = bytes(1 << 20)


class Layout(NamedTuple):
    """What an array file holds."""

    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the array alone."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


def reserve(path: str, layout: Layout) -> None:
    """Make a file of zeros that has its space on the disk, so that a page of it can always be written.

    Raises:
        OSError: there is no such space.
    """
    with open(path, "xb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(layout.dtype), "fortran_order": False, "shape": layout.shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, file.tell() + layout.nbytes)
            return
        for start in range(0, layout.nbytes, len(_ZEROS)):
            file.write(_ZEROS[: layout.nbytes - start])


class Descriptor:
    """The number of an open file, which is closed when nothing refers to it any more."""

    def __init__(self, number: int) -> None:
        """Own it."""
        self.number = number
        # At the end of the process threads that fill a cache may still write to it.
        weakref.finalize(self, os.close, number).atexit = False


class FileColumn(Column):
    """A column in a file, which other processes may write to at the same time."""

    def __init__(self, descriptor: Descriptor, path: str, layout: Layout, *, writable: bool) -> None:
        """Map an open file, whose `path` is for messages.

        Raises:
            CorruptDataError: the file is not as `reserve` left it.
        """
        self._descriptor, size = descriptor, os.fstat(descriptor.number).st_size
        with open(descriptor.number, "r+b" if writable else "rb", buffering=0, closefd=False) as file:
            self._start = _header_end(file, layout)
            if size != self._start + layout.nbytes:
                raise CorruptDataError(
                    f"{path!r} has {size} bytes, and {self._start + layout.nbytes} were written: it was cut off or "
                    "replaced; delete the folder, and the cache is filled anew"
                )
            mapped = np.memmap(file, layout.dtype, "r+" if writable else "r", self._start, layout.shape)
        super().__init__(np.asarray(mapped))
        self._row_bytes = layout.nbytes // max(layout.shape[0], 1)

    def put(self, positions: np.ndarray, rows: np.ndarray) -> None:
        """See `Column`; a page that is new costs five times as much through the map as through a write."""
        if self._row_bytes < _PAGE_BYTES:
            super().put(positions, rows)
            return
        raw = rows.reshape(-1).view(np.uint8).reshape(len(rows), self._row_bytes)
        for position, row in zip(positions.tolist(), raw, strict=True):
            write_all(self._descriptor.number, row, self._start + position * self._row_bytes)


def _header_end(file: IO[bytes], layout: Layout) -> int:
    """Where the array starts; 0 where the header is not that of the layout."""
    try:
        if np.lib.format.read_magic(file) == (1, 0):
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
            if (dtype, shape, is_fortran) == (layout.dtype, layout.shape, False):
                return file.tell()
    except ValueError:
        pass
    return 0


def write_all(descriptor: int, data: Any, offset: int) -> None:
    """Write all bytes at an offset; the system may take fewer at a time."""
    left = memoryview(data)
    while left:
        done = os.pwrite(descriptor, left, offset)
        left, offset = left[done:], offset + done
