"""`apply` of image ops: a function of one example, with a seed where the op is random."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .map import Map
from .random_map import RandomMap

if TYPE_CHECKING:
    import tfjax


@dataclass(frozen=True)
class Apply(Map):
    """The op on every row."""

    def write(self, pipe: "tfjax.Pipeline") -> "tfjax.Pipeline":
        """The stage as a user writes it."""
        return pipe.apply(self.fn.graph)


@dataclass(frozen=True)
class RandomApply(RandomMap):
    """The op on every row, with the seed of the row."""

    def write(self, pipe: "tfjax.Pipeline") -> "tfjax.Pipeline":
        """The stage as a user writes it."""
        return pipe.apply(self.fn.graph)
