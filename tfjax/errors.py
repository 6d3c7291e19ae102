"""The exceptions a caller would catch; everything else is a built-in TypeError, ValueError, KeyError or ImportError.

Each one is also the built-in exception that it refines, so that general handlers work:

    >>> from tfjax.errors import SpecError, TfjaxError
    >>> issubclass(SpecError, ValueError) and issubclass(SpecError, TfjaxError)
    True
"""

from __future__ import annotations


class TfjaxError(Exception):
    """Base class of every exception defined by tfjax."""


class SpecError(TfjaxError, ValueError):
    """An element's structure, shape or dtype is not what a stage or JAX can take."""


class StateMismatchError(TfjaxError, ValueError):
    """A state belongs to another pipeline, or to another format version."""


class CorruptDataError(TfjaxError, ValueError):
    """Stored data is damaged, truncated, or was changed while it was in use."""


class StalledPipelineError(TfjaxError, TimeoutError):
    """No batch arrived within the time that was allowed."""


class PlacementError(TfjaxError, ValueError):
    """A batch cannot be laid out over the devices as asked."""
