"""Where rows come from: arrays with a leading dimension, or a list of examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .row import Row, Rows
from .tree import Tree, is_text, map_tree, stack

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


@dataclass(frozen=True, repr=False)
class Examples:
    """`from_examples`: a sequence of examples, whose leaves may vary in shape."""

    examples: Sequence[Tree]

    def __repr__(self) -> str:
        """Their number, and dtypes and shapes of the first."""
        first = map_tree(lambda x: f"{x.dtype}{x.shape}", self.rows()[0].example)
        return f"{type(self).__name__}({len(self.examples)} of {first})"

    def _repr_pretty_(self, printer: Any, _: bool) -> None:
        """What hypothesis prints."""
        printer.text(repr(self))

    def rows(self) -> Rows:
        """One row an example."""
        return [Row(i, map_tree(as_leaf, example)) for i, example in enumerate(self.examples)]

    def write(self) -> "tfjax.Pipeline":
        """The pipeline over the same examples."""
        import tfjax

        return tfjax.from_examples([map_tree(as_python, example) for example in self.examples])


@dataclass(frozen=True, repr=False)
class Arrays(Examples):
    """`from_arrays`: the same examples, of one shape, stacked."""

    def write(self) -> "tfjax.Pipeline":
        """The pipeline over the stacked examples."""
        import tfjax

        return tfjax.from_arrays(stack([row.example for row in self.rows()]))


def as_python(value: Tree) -> Tree:
    """A leaf as a user has it: bytes where it is one text."""
    return value.item() if isinstance(value, np.ndarray) and is_text(value) and not value.ndim else value


def as_leaf(value: Tree) -> np.ndarray:
    """A leaf as an array; bytes as an array of objects, so that no trailing zero byte is lost."""
    return np.array(value, object) if isinstance(value, bytes) else np.asarray(value)
