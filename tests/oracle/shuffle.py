"""`shuffle`: another order of the same rows in every epoch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .permutation import permutation
from .row import Context, Rows

if TYPE_CHECKING:
    import tfjax


@dataclass(frozen=True)
class Shuffle:
    """The permutation of the epoch over the rows that there are."""

    seed: int

    def apply(self, rows: Rows, context: Context) -> Rows:
        """Position p holds row permutation[p]."""
        return [rows[i] for i in permutation(len(rows), self.seed, context.epoch)] if rows else []

    def write(self, pipe: "tfjax.Pipeline") -> "tfjax.Pipeline":
        """The stage as a user writes it."""
        return pipe.shuffle(seed=self.seed)
