"""Checks of arguments that several methods share; each error shows what was given."""

from __future__ import annotations

import dataclasses
import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

MOST = 2**62


def require_count(name: str, value: Any, *, least: int) -> int:
    """An int from `least` to 2**62, NumPy's included."""
    number = _int(f"{name} takes an int", value)
    if not least <= number <= MOST:
        raise ValueError(f"{name} takes an int from {least} to 2**62, given {number}")
    return number


def require_seed(name: str, value: Any) -> int:
    """An int that fits 64 bits, NumPy's included."""
    number = _int(f"{name} takes an int as its seed", value)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{name}: the seed {number} does not fit 64 bits")
    return number


def require_bool(name: str, value: Any) -> None:
    """True or False, and nothing that only counts as one."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} takes True or False, given {value!r}")


def _int(rule: str, value: Any) -> int:
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{rule}, given {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{rule}, given {value!r}") from None


def require_numbers(name: str, value: Any) -> float | tuple[float, ...]:
    """A finite number, or one a channel, as what can be hashed."""
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} takes a number, or one a channel, given {value!r}") from None
    if numbers.ndim > 1 or not numbers.size or not np.isfinite(numbers).all():
        raise ValueError(f"{name} takes a finite number, or one a channel, given {value!r}")
    return tuple(numbers.tolist()) if numbers.ndim else float(numbers)


def require_function(name: str, fn: Any) -> Callable[..., Any]:
    """Something that can be called."""
    if not callable(fn):
        raise TypeError(f"{name} takes a function, given {fn!r}")
    return fn  # type: ignore[no-any-return]


def require_call(name: str, fn: Any, arguments: Sequence[str], other: str) -> Callable[..., Any]:
    """Something that can be called with these arguments; else the stage that may be meant is named."""
    require_function(name, fn)
    try:
        inspect.signature(fn).bind(*arguments)
    except ValueError:  # some builtins have no signature
        pass
    except TypeError as error:
        given = repr(fn) if dataclasses.is_dataclass(fn) else getattr(fn, "__qualname__", repr(fn))
        raise TypeError(
            f"{name} calls fn({', '.join(arguments)}), and {given} cannot be called so ({error}): {other}"
        ) from error
    return fn  # type: ignore[no-any-return]


def require_version(name: str, version: Any) -> str | None:
    """A string, or None."""
    if version is not None and not isinstance(version, str):
        raise TypeError(f"{name} takes a version as text, given {version!r}")
    return version


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
        if not isinstance(part, str) or isinstance(share, bool) or not isinstance(share, int | float | np.number):
            raise TypeError(f"{name} takes a dict of name to share, given {part!r}: {share!r}")
        if not share > 0:
            raise ValueError(f"{name}: the share of {part!r} is {share}: shares are above 0")
    total = sum(float(share) for share in fractions.values())
    if total > 1 + 1e-9:
        raise ValueError(f"{name}: the shares add up to {total:g}: together they are at most 1")
    return tuple((str(part), float(share)) for part, share in fractions.items())
