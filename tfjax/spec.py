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


def format_spec(shape: Sequence[int | str | None] | None, dtype: str) -> str:
    """A shape and a dtype in one word.

    >>> format_spec((None, 28, 28), "uint8")
    'uint8[None,28,28]'
    """
    return f"{dtype}[{'...' if shape is None else ','.join(str(n) for n in shape)}]"


def format_like(of: Any, *leading: str) -> str:
    """The same of an array or a spec of a tensor, after dimensions that stand before its own.

    >>> import numpy as np
    >>> format_like(np.zeros((3, 2), np.float32)), format_like(np.array(["a"], object), "n")
    ('float32[3,2]', 'string[n,1]')
    """
    known = getattr(of.shape, "rank", 0) is not None
    own = tuple(of.shape) if known else ("...",)
    return format_spec((*leading, *own), "string" if of.dtype.name == "object" else of.dtype.name)


def format_bytes(count: int) -> str:
    """A number of bytes for a reader.

    >>> format_bytes(0), format_bytes(3 * 2**20)
    ('0 B', '3.0 MiB')
    """
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def format_keys(keys: Sequence[str | None]) -> str:
    """The dictionary keys of an element for a message.

    >>> format_keys(("image", "image", "label"))
    "'image', 'label'"
    """
    return ", ".join(repr(k) for k in dict.fromkeys(k for k in keys if k is not None)) or "none"
