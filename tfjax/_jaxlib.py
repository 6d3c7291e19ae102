"""Whether jaxlib's private functions, which are faster than the public ones, are those that tfjax was tested with."""

from __future__ import annotations

TESTED = ("0.10.",)


def is_tested() -> bool:
    """Whether private functions may be tried; each one is tried on an array before it is used."""
    import jaxlib.version

    return bool(jaxlib.version.__version__.startswith(TESTED))
