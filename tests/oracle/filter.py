"""`filter`: the rows for which a predicate holds."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .functions import Function
from .row import Context, Rows

if TYPE_CHECKING:
    import tfjax


@dataclass(frozen=True)
class Filter:
    """The rows that a predicate keeps, in their order and with their indices."""

    predicate: Function

    def apply(self, rows: Rows, context: Context) -> Rows:  # noqa: ARG002
        """One call a row."""
        return [row for row in rows if self.predicate.numpy(row.example)]

    def write(self, pipe: "tfjax.Pipeline") -> "tfjax.Pipeline":
        """The stage as a user writes it."""
        return pipe.filter(self.predicate.graph)
