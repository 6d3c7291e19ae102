"""Checks of arguments that several helpers share."""

from __future__ import annotations

from typing import Any


def require_pipeline(name: str, pipe: Any, method: str) -> None:
    """Raise TypeError for what has not the method that is asked for.

    >>> require_pipeline("assert_zero_copy", [1], "copy_report")
    Traceback (most recent call last):
    TypeError: assert_zero_copy takes a Pipeline, as tfjax.load and from_... return it; given a list
    """
    if not hasattr(pipe, method):
        given = type(pipe).__name__
        raise TypeError(f"{name} takes a Pipeline, as tfjax.load and from_... return it; given a {given}")
