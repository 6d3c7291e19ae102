"""`take`: the first n rows of what there is, or the first n batches."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .row import Context, Rows

if TYPE_CHECKING:
    import tfjax


@dataclass(frozen=True)
class Take:
    """The first `n`, or all where there are fewer."""

    n: int

    def apply(self, rows: Rows, context: Context) -> Rows:  # noqa: ARG002
        """A slice."""
        return rows[: self.n]

    def write(self, pipe: "tfjax.Pipeline") -> "tfjax.Pipeline":
        """The stage as a user writes it."""
        return pipe.take(self.n)
