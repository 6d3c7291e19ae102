"""How many batches an epoch has, how long the last one is, and the mask that padding adds."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tfjax._tensorflow import tf
from tfjax.graph.element import Element
from tfjax.graph.stages import Batch, Chain, Skip, Take
from tfjax.spec import Structure


@dataclass(frozen=True)
class Batches:
    """Which batches of an epoch are delivered."""

    batch: Batch | None
    first: int
    count: int

    @classmethod
    def of(cls, chain: Chain, rows: int) -> Batches:
        """Count the batches of `rows` examples, less what take and skip after `batch` leave out."""
        at, batch = next(((i, s) for i, s in enumerate(chain) if isinstance(s, Batch)), (0, None))
        if batch is None:
            return cls(None, 0, rows)
        first, count = 0, full_count(batch, rows)
        for stage in chain[at + 1 :]:
            if isinstance(stage, Take):
                count = min(count, stage.n)
            elif isinstance(stage, Skip):
                first, count = first + min(stage.n, count), max(count - stage.n, 0)
        return cls(batch, first, count)

    @property
    def size(self) -> int:
        """Rows of a full batch."""
        return self.batch.size if self.batch else 1

    @property
    def remainder(self) -> str:
        """What becomes of the rows that do not fill a batch."""
        return self.batch.remainder if self.batch else "keep"

    def left_out(self, rows: int) -> int:
        """Examples that an epoch does not deliver: a remainder that is dropped, and what take and skip leave out."""
        return rows - max(min((self.first + self.count) * self.size, rows) - self.first * self.size, 0)

    def tail(self, rows: int) -> int:
        """Rows of a shorter last batch; 0 if every delivered batch is full."""
        ragged = self.remainder == "keep" and (self.first + self.count) * self.size > rows
        return rows % self.size if ragged else 0


def full_count(batch: Batch, rows: int) -> int:
    """How many batches `rows` examples make.

    Raises:
        ValueError: none, or some rows are left over and that is an error.
    """
    if batch.remainder == "error" and rows % batch.size:
        raise ValueError(
            f"{rows} examples do not fill batches of {batch.size}, {rows % batch.size} are left over: "
            "use another size, or remainder='drop', 'pad' or 'keep'"
        )
    if batch.remainder == "drop" and 0 < rows < batch.size:
        raise ValueError(
            f"batch size {batch.size} is more than the {rows} examples, so that remainder='drop' leaves nothing: "
            f"use a size of at most {rows}, or remainder='pad' or 'keep'"
        )
    whole = rows // batch.size
    return whole if batch.remainder in ("drop", "error") else -(-rows // batch.size)


def delivered(element: Element, batch: Batch | None) -> Element:
    """The element with the boolean `mask` that remainder='pad' adds to every batch."""
    if batch is None or batch.remainder != "pad":
        return element
    example = element.structure.unflatten(element.specs)
    if not isinstance(example, dict):
        raise TypeError(
            f"remainder='pad' adds a 'mask' to dictionaries, but elements are {type(example).__name__}: return a "
            "dict from map, or use another remainder"
        )
    if "mask" in example:
        raise KeyError("remainder='pad' adds the key 'mask', which the elements have already: rename theirs in map")
    if not all(isinstance(key, str) for key in example):
        raise TypeError(f"remainder='pad' adds the key 'mask', but elements have the keys {list(example)}: use strings")
    leaves, structure = add_mask(element.structure, element.specs, tf.TensorSpec((), tf.bool))
    return Element(tuple(leaves), structure, element.host_keys)


def add_mask(structure: Structure, leaves: Sequence[Any], mask: Any) -> tuple[list[Any], Structure]:
    """The leaves of a dictionary with a `mask`, which takes the place that the kind of dictionary gives it."""
    example = copy.copy(structure.unflatten(leaves))
    example["mask"] = mask
    return structure.flatten(example)
