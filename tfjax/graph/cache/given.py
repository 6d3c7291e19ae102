"""The arguments of `cache`, checked."""

from __future__ import annotations

import os
from typing import Any

from tfjax._arguments import require_count
from tfjax.graph.stages import Cache

_WHERE = "give 'memory', 'device' or the path of a folder"


def cache_stage(where: Any, limit_bytes: Any, compression: Any) -> Cache:
    """The stage.

    Raises:
        TypeError: `where` is no path, or the limit no int.
        ValueError: rows cannot be kept there, or the compression is unknown.

    >>> cache_stage("memory", 100, None).describe()
    "cache('memory', limit_bytes=100)"
    """
    limit = limit_of(limit_bytes)
    if compression not in (None, "zlib"):
        raise ValueError(f"cache: compression={compression!r}: choose 'zlib' or None")
    return Cache(where=_place(where), limit_bytes=limit, compression=compression)


def limit_of(limit_bytes: Any) -> int | None:
    """The limit of a cache as an int of Python, from 1."""
    return None if limit_bytes is None else require_count("cache: limit_bytes", limit_bytes, least=1)


def _place(where: Any) -> str:
    try:
        place: str | bytes = os.fspath(where)
    except TypeError:
        raise TypeError(f"cache({where!r}): {_WHERE}") from None
    if not isinstance(place, str) or not place or where == "device":
        raise ValueError(f"cache({where!r}): {_WHERE}")
    if where == "memory":
        return "memory"
    if isinstance(where, str) and where.lower() in ("memory", "device"):
        raise ValueError(f"cache({where!r}): write {where.lower()!r}, or './{where}' for a folder of that name")
    if "://" in place:
        raise ValueError(
            f"cache({place!r}): rows are mapped into memory from files of this machine: {_WHERE} on a local disk"
        )
    return os.path.abspath(os.path.expanduser(place))
