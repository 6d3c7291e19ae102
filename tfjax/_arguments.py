"""Checks of arguments that several methods share; each error shows what was given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def require_count(name: str, value: Any, *, least: int) -> int:
    """An int of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} takes an int, given {value!r}")
    if value < least:
        raise ValueError(f"{name} takes an int of at least {least}, given {value}")
    return value


def require_seed(name: str, value: Any) -> int:
    """An int that fits 64 bits."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} takes an int as its seed, given {value!r}")
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{name}: the seed {value} does not fit 64 bits")
    return value


def require_function(name: str, fn: Any) -> Callable[..., Any]:
    """Something that can be called."""
    if not callable(fn):
        raise TypeError(f"{name} takes a function, given {fn!r}")
    return fn  # type: ignore[no-any-return]


def require_keys(name: str, keys: tuple[Any, ...]) -> None:
    """One key or more, all strings."""
    if not keys:
        raise ValueError(f"{name} takes one key or more, e.g. {name}('image')")
    for key in keys:
        if not isinstance(key, str):
            raise TypeError(f"{name} takes keys as strings, given {key!r}: write {name}('a', 'b')")


def require_shares(name: str, fractions: Any) -> tuple[tuple[str, float], ...]:
    """Named shares, each above 0, together at most 1."""
    if not isinstance(fractions, Mapping) or not fractions:
        raise TypeError(
            f"{name} takes a dict of name to share, such as {{'train': 0.8, 'val': 0.2}}, given {fractions!r}"
        )
    for part, share in fractions.items():
        if not isinstance(part, str) or not isinstance(share, int | float) or isinstance(share, bool):
            raise TypeError(f"{name} takes a dict of name to share, given {part!r}: {share!r}")
        if not share > 0:
            raise ValueError(f"{name}: the share of {part!r} is {share}: shares are above 0")
    total = sum(fractions.values())
    if total > 1 + 1e-9:
        raise ValueError(f"{name}: the shares add up to {total:g}: together they are at most 1")
    return tuple((part, float(share)) for part, share in fractions.items())
