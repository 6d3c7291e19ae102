"""A hash of what a user's function computes: its code, constants, defaults, closure, and the globals that it names.

A module of the user's own is not hashed, for what is in it may change; of TensorFlow, NumPy and Python's own modules
the name alone counts, whatever their version.

Where any of these holds something that cannot be hashed for sure, there is no hash, and nothing is kept by it.

>>> code_hash(lambda x: x + 1) == code_hash(lambda x: x + 1)
True
>>> code_hash(lambda x: x + 1) == code_hash(lambda x: x + 2)
False
"""

from __future__ import annotations

import hashlib
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

_PLAIN = (int, float, complex, str, bytes, bool, type(None), type(Ellipsis))


class _Unhashable(Exception):
    """Something whose value cannot be told for sure."""


def code_hash(fn: Callable[..., Any]) -> str | None:
    """A digest of a function; None where it uses something that cannot be hashed."""
    try:
        return hashlib.sha256("\n".join(_function(fn, ())).encode()).hexdigest()
    except _Unhashable:
        return None


def _function(fn: Any, seen: tuple[Any, ...]) -> Iterator[str]:
    if not isinstance(fn, types.FunctionType):
        raise _Unhashable(fn)
    if fn in seen:
        yield "itself"
        return
    yield from _code(fn.__code__)
    inside = (*seen, fn)
    for value in (fn.__defaults__, fn.__kwdefaults__, fn.__dict__, *_cells(fn)):
        yield from _value(value, inside)
    for name in sorted(_names(fn.__code__)):
        if name in fn.__globals__:
            yield name
            yield from _value(fn.__globals__[name], inside)


def _cells(fn: types.FunctionType) -> Iterator[Any]:
    for cell in fn.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError as empty:
            raise _Unhashable(fn) from empty


def _code(code: types.CodeType) -> Iterator[str]:
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    yield repr((code.co_code, code.co_exceptiontable, names, counts))
    for constant in code.co_consts:
        yield from _code(constant) if isinstance(constant, types.CodeType) else _value(constant, ())


def _names(code: types.CodeType) -> set[str]:
    inner = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return set(code.co_names).union(*(_names(c) for c in inner))


def _is_library(module: types.ModuleType) -> bool:
    """Whether a module is nobody's own, who might edit it."""
    top = module.__name__.split(".")[0]
    return top in sys.stdlib_module_names or top in ("tensorflow", "numpy")


def _value(value: Any, seen: tuple[Any, ...]) -> Iterator[str]:
    if isinstance(value, _PLAIN):
        yield repr((type(value).__name__, value))
    elif isinstance(value, tuple | list):
        yield type(value).__name__ + str(len(value))
        for item in value:
            yield from _value(item, seen)
    elif isinstance(value, frozenset | set):
        yield from _value(sorted(value, key=repr), seen)
    elif isinstance(value, dict):
        yield from _value(list(value.items()), seen)
    elif isinstance(value, types.ModuleType) and _is_library(value):
        yield value.__name__
    else:
        yield from _function(value, seen)
