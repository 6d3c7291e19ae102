"""What an indexed source is: its length, its spec, its identity, and a fetch by index; the rest is for messages.

A source is flat: its examples are tuples of leaves. Their structure travels beside it. An object of a user's is made
into one by `tfjax.from_source`: it needs the first four members, and its spec and rows may be any pytree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from tfjax._tensorflow import tf


class Raw(NamedTuple):
    """A batch of raw examples.

    Attributes:
        leaves: tensors of shape (n, ...).
        ok: whether each example could be read, bool (n,); None where every one can.
    """

    leaves: Sequence[tf.Tensor]
    ok: tf.Tensor | None = None


class Source(Protocol):
    """Examples that can be fetched by index."""

    def __len__(self) -> int:
        """How many examples there are."""
        ...

    @property
    def spec(self) -> tuple[tf.TypeSpec, ...]:
        """The leaves of one raw example; where a dimension is None, `fetch` returns a ragged tensor."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """Names, sizes and counts that tell this source from another; JSON types, never absolute paths."""
        ...

    def fetch(self, indices: tf.Tensor) -> Raw:
        """A batch of raw examples, inside the graph, for int64 indices of shape (n,)."""
        ...

    def describe(self) -> str:
        """How examples are fetched, in a few words."""
        ...

    def locate(self, index: int) -> str:
        """Where an example is stored, for messages; empty where its index says it all."""
        ...

    def stamp(self) -> str | None:
        """Differs when what is stored differs; None where examples are not stored in files."""
        ...

    def check(self) -> None:
        """Raise CorruptDataError where what is stored changed since the source was made."""
        ...
