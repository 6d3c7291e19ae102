"""What a stage sees: the examples of one epoch in order, and where in the run and the chain it stands."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeAlias

from .tree import Tree

if TYPE_CHECKING:
    import tfjax


@dataclass(frozen=True)
class Row:
    """One example and its identity: the number of its row in the source."""

    index: int
    example: Tree

    def with_example(self, example: Tree) -> "Row":
        """The same row with another content."""
        return replace(self, example=example)


Rows: TypeAlias = list[Row]


@dataclass(frozen=True)
class Context:
    """What a stage may depend on besides its rows."""

    epoch: int
    pipeline_seed: int
    op: int  # how many random ops stand before this stage
    shuffled: bool


class Stage(Protocol):
    """One stage: what it does to the rows of an epoch, and how a user writes it."""

    def apply(self, rows: Rows, context: Context) -> Rows:
        """The rows (after `batch`: the batches) of one epoch that come out."""
        ...

    def write(self, pipe: "tfjax.Pipeline") -> "tfjax.Pipeline":
        """The same stage, written on a pipeline."""
        ...
