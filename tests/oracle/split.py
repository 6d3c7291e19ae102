"""`split`: one named part of the rows, chosen by the hash of their indices."""

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from .hashing import hash64
from .row import Context, Rows

if TYPE_CHECKING:
    import tfjax


@dataclass(frozen=True)
class Split:
    """The part `name` of `fractions`, a tuple of (name, fraction)."""

    fractions: tuple[tuple[str, float], ...]
    name: str
    seed: int

    def apply(self, rows: Rows, context: Context) -> Rows:  # noqa: ARG002
        """Rank the rows, cut the ranks, and give the part in the order of the rows."""
        return [rows[position] for position in sorted(self.chosen(rows))]

    def chosen(self, rows: Rows) -> list[int]:
        """The positions of the part."""
        ranked = sorted(range(len(rows)), key=lambda p: (hash64(self.seed, rows[p].index), p))
        ends = [math.floor(c * len(rows) + 0.5) for c in accumulate(f for _, f in self.fractions)]
        part = [name for name, _ in self.fractions].index(self.name)
        return ranked[([0, *ends])[part] : ends[part]]

    def write(self, pipe: "tfjax.Pipeline") -> "tfjax.Pipeline":
        """The stage as a user writes it."""
        return pipe.split(dict(self.fractions), seed=self.seed)[self.name]
