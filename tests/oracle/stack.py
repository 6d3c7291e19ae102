"""`stack`: batches in order, k at a time."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .remainder import groups
from .row import Context, Rows
from .tree import Tree, stack

if TYPE_CHECKING:
    import tfjax


@dataclass(frozen=True)
class Stack:
    """Stacks of `k` batches."""

    k: int
    remainder: str = "keep"

    def apply(self, rows: Rows, context: Context) -> list[Tree]:  # noqa: ARG002
        """Stacked batches."""
        return [stack(part) for part in groups(rows, self.k, self.remainder)]

    def write(self, pipe: "tfjax.Pipeline") -> "tfjax.Pipeline":
        """The stage as a user writes it."""
        return pipe.stack(self.k, self.remainder)
