"""`random_map`: a function of an example and a seed, made of pipeline seed, epoch, op and index."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .functions import Function
from .hashing import example_seed
from .row import Context, Rows

if TYPE_CHECKING:
    import tfjax


@dataclass(frozen=True)
class RandomMap:
    """The function on every row, with the seed of the row."""

    fn: Function

    def apply(self, rows: Rows, context: Context) -> Rows:
        """One call a row."""
        words = (context.pipeline_seed, context.epoch, context.op)
        return [row.with_example(self.fn.numpy(row.example, example_seed(*words, row.index))) for row in rows]

    def write(self, pipe: "tfjax.Pipeline") -> "tfjax.Pipeline":
        """The stage as a user writes it."""
        return pipe.random_map(self.fn.graph)
