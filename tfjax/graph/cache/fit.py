"""Whether rows fit where they are to be kept: told before any is computed, or as an error with the sizes."""

from __future__ import annotations

import errno
import os
import shutil

from tfjax._memory import available_bytes
from tfjax.spec import format_bytes

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def most_rows(rows: int, row_bytes: int, limit_bytes: int | None) -> int:
    """How many rows are kept: all, or the first ones that fit.

    Raises:
        ValueError: not even one fits.

    >>> most_rows(10, 8, None), most_rows(10, 8, 63), most_rows(10, 8, 1000)
    (10, 7, 10)
    """
    if limit_bytes is None or not row_bytes:
        return rows
    if limit_bytes < row_bytes:
        raise ValueError(f"cache: limit_bytes={limit_bytes} holds no row, which takes {row_bytes} bytes: give more")
    return min(rows, limit_bytes // row_bytes)


def require_memory(rows: int, row_bytes: int) -> None:
    """Raise ValueError where rows do not fit into what memory is available."""
    need, free = rows * row_bytes, available_bytes()
    if free is not None and need > free:
        raise ValueError(
            f"cache('memory') takes {format_bytes(need)} ({rows} rows of {row_bytes} bytes), and {format_bytes(free)} "
            "of memory are available: give limit_bytes=, for the first rows that fit, or the path of a folder; or make "
            "rows smaller before it"
        )


def require_disk(path: str, need: int) -> None:
    """Raise OSError where so many bytes are not free on the disk of a path, which need not exist."""
    if need > _free_bytes(path):
        raise no_space(path, need, OSError(errno.ENOSPC, ""))


def no_space(path: str, need: int, error: OSError) -> OSError:
    """The error with the sizes in it, where it is that of a full disk."""
    if error.errno not in _NO_SPACE:
        return error
    return OSError(
        error.errno,
        f"cache: rows take {format_bytes(need)} more, and {format_bytes(_free_bytes(path))} are free on the disk, or "
        "less where a quota says so: make room, give another path, or limit_bytes= for the first rows that fit",
        path,
    )


def _free_bytes(path: str) -> int:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free
