"""`skip`: all but the first n rows of what there is, or all but the first n batches."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .row import Context, Rows

if TYPE_CHECKING:
    import tfjax


@dataclass(frozen=True)
class Skip:
    """What follows the first `n`."""

    n: int

    def apply(self, rows: Rows, context: Context) -> Rows:  # noqa: ARG002
        """A slice."""
        return rows[self.n :]

    def write(self, pipe: "tfjax.Pipeline") -> "tfjax.Pipeline":
        """The stage as a user writes it."""
        return pipe.skip(self.n)
