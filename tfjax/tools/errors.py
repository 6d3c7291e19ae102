"""The one exception that the command line prints without a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

from tfjax.errors import TfjaxError


class UserError(Exception):
    """What the user gave cannot be used; the text says why and what to change."""


@contextmanager
def refused_input(*also: type[Exception]) -> Iterator[None]:
    """Turn the errors with which tfjax refuses input, and `also`, into a UserError of the same text."""
    refused: tuple[type[Exception], ...] = (TfjaxError, *also)
    try:
        yield
    except refused as e:
        text = e.args[0] if isinstance(e, KeyError) and e.args else e  # str(KeyError) puts its text in quotes
        raise UserError(str(text)) from e
