"""`map`: a function of one example."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .functions import Function
from .row import Context, Rows

if TYPE_CHECKING:
    import tfjax


@dataclass(frozen=True)
class Map:
    """The function on every row."""

    fn: Function

    def apply(self, rows: Rows, context: Context) -> Rows:  # noqa: ARG002
        """One call a row."""
        return [row.with_example(self.fn.numpy(row.example)) for row in rows]

    def write(self, pipe: "tfjax.Pipeline") -> "tfjax.Pipeline":
        """The stage as a user writes it."""
        return pipe.map(self.fn.graph)
