"""`seed`: the pipeline's seed, which holds for all its random ops wherever it stands."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .row import Context, Rows

if TYPE_CHECKING:
    import tfjax


@dataclass(frozen=True)
class Seed:
    """The seed `n`; the chain reads it, the rows pass."""

    n: int

    def apply(self, rows: Rows, context: Context) -> Rows:  # noqa: ARG002
        """The rows as they are."""
        return rows

    def write(self, pipe: "tfjax.Pipeline") -> "tfjax.Pipeline":
        """The stage as a user writes it."""
        return pipe.seed(self.n)
