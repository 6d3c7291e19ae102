"""What an element is: a structure of named leaves. Imports neither TensorFlow nor JAX.

Graph code sees flat tuples of leaves; the user's own structure (dict, tuple, NamedTuple, dataclass, any registered
pytree) travels beside them as a `Structure`, which only `tfjax.bridge` knows how to make.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Structure(Protocol):
    """How the flat leaves of an element fit into the user's own object."""

    @property
    def paths(self) -> tuple[str, ...]:
        """One readable key path a leaf, e.g. `"['image']"`."""
        ...

    @property
    def keys(self) -> tuple[str | None, ...]:
        """The top-level dictionary key of each leaf; None where the element is no dictionary."""
        ...

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """The user's object with these leaves."""
        ...

    def flatten(self, tree: Any) -> tuple[list[Any], Structure]:
        """The leaves of another object, and its structure; a list counts as one leaf, as in tf.data."""
        ...


def format_spec(shape: Sequence[int | None] | None, dtype: str) -> str:
    """A shape and a dtype in one word.

    >>> format_spec((None, 28, 28), "uint8")
    'uint8[None,28,28]'
    """
    return f"{dtype}[{'...' if shape is None else ','.join(str(n) for n in shape)}]"


def format_keys(keys: Sequence[str | None]) -> str:
    """The dictionary keys of an element for a message.

    >>> format_keys(("image", "image", "label"))
    "'image', 'label'"
    """
    return ", ".join(repr(k) for k in dict.fromkeys(k for k in keys if k is not None)) or "none"
