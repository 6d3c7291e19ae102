"""Where rows come from: arrays with a leading dimension, or a list of examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .row import Row, Rows
from .tree import Tree, map_tree, stack

if TYPE_CHECKING:
    import tfjax


class Source(Protocol):
    """Anything that has rows and can be written as a pipeline."""

    def rows(self) -> Rows:
        """Every row, in the order of the source."""
        ...

    def write(self) -> "tfjax.Pipeline":
        """The pipeline over the same rows."""
        ...


@dataclass(frozen=True)
class Examples:
    """`from_examples`: a sequence of examples, whose leaves may vary in shape."""

    examples: Sequence[Tree]

    def rows(self) -> Rows:
        """One row an example."""
        return [Row(i, map_tree(as_leaf, example)) for i, example in enumerate(self.examples)]

    def write(self) -> "tfjax.Pipeline":
        """The pipeline over the same examples."""
        import tfjax

        return tfjax.from_examples(list(self.examples))


@dataclass(frozen=True)
class Arrays(Examples):
    """`from_arrays`: the same examples, of one shape, stacked."""

    def write(self) -> "tfjax.Pipeline":
        """The pipeline over the stacked examples."""
        import tfjax

        return tfjax.from_arrays(stack([row.example for row in self.rows()]))


def as_leaf(value: Tree) -> np.ndarray:
    """A leaf as an array; bytes as an array of objects, so that no trailing zero byte is lost."""
    return np.array(value, object) if isinstance(value, bytes) else np.asarray(value)
