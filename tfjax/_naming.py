"""What a function is called in messages and fingerprints: the same in every process.

>>> function_name(len), function_name(functools.partial(int, base=2))
('builtins.len', 'partial(builtins.int, base=2)')
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any


def function_name(fn: Callable[..., Any]) -> str:
    """Module and qualified name of a user's function; for a callable object, those of its class.

    The frozen values of tfjax are known by the call that makes them, a partial by its function and arguments.
    """
    if isinstance(fn, functools.partial):
        given = [*map(repr, fn.args), *(f"{name}={value!r}" for name, value in fn.keywords.items())]
        return f"partial({', '.join([function_name(fn.func), *given])})"
    if is_dataclass(fn) and type(fn).__module__.startswith("tfjax."):
        return repr(fn)
    named = fn if hasattr(fn, "__qualname__") else type(fn)
    return f"{named.__module__}.{named.__qualname__}"
