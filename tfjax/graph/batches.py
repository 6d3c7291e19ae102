"""How many batches and stacks an epoch has, how long the last ones are, and the mask that padding adds."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tfjax._tensorflow import tf
from tfjax.errors import SpecError
from tfjax.graph.element import Element
from tfjax.graph.stages import Batch, Chain, Skip, Stack, Take
from tfjax.spec import Structure


@dataclass(frozen=True)
class Batches:
    """Which batches of an epoch are delivered.

    Attributes:
        batch: the stage that makes them of examples; None where the source yields them, or nothing is batched.
        stack: the stage that makes one element of several; None where each is one.
        first: the first that is delivered.
        count: how many are.
    """

    batch: Batch | None
    stack: Stack | None
    first: int
    count: int

    @classmethod
    def of(cls, chain: Chain, rows: int, *, batched: bool = False) -> Batches:
        """Count the batches of `rows` examples, less what take, skip and stack after `batch` leave out.

        Args:
            chain: the stages.
            rows: examples before `batch`.
            batched: whether the source yields batches, of which there are `rows`.

        Raises:
            ValueError: none is left, or some are left over and that is an error, or they make no stack.
        """
        at, batch = next(((i, s) for i, s in enumerate(chain) if isinstance(s, Batch)), (0, None))
        if batch is None and not batched:
            return cls(None, None, 0, rows)
        first, count, stack = 0, full_count(batch, rows) if batch else rows, None
        for stage in chain[at + 1 :]:
            size = stack.k if stack else 1  # what take and skip count
            if isinstance(stage, Take):
                count = min(count, stage.n * size)
            elif isinstance(stage, Skip):
                first, count = first + min(stage.n * size, count), max(count - stage.n * size, 0)
            elif isinstance(stage, Stack):
                stack, count = stage, stackable_count(stage, count)
        found = cls(batch, stack, first, count)
        if stack and (tail := found.tail(rows)):
            raise unequal(stack, f"the last batch of an epoch has {tail} rows in place of {found.size}")
        return found

    @property
    def depth(self) -> int:
        """Batches of a full element."""
        return self.stack.k if self.stack else 1

    @property
    def steps(self) -> int:
        """Elements of an epoch: batches, or stacks of them."""
        return -(-self.count // self.depth)

    @property
    def leading(self) -> tuple[int | None, ...]:
        """The dimension of the stack, None where the last one is shorter; nothing where there is none."""
        return (self.depth if self.count % self.depth == 0 else None,) if self.stack else ()

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


def stackable_count(stack: Stack, count: int) -> int:
    """How many of `count` batches become part of a stack.

    Raises:
        ValueError: none, or some are left over and that is an error.
    """
    over = count % stack.k
    if stack.remainder == "error" and over:
        raise ValueError(
            f"{count} batches do not fill stacks of {stack.k}, {over} are left over: use another k, or "
            "remainder='keep' or 'drop'"
        )
    if stack.remainder == "drop" and 0 < count < stack.k:
        raise ValueError(
            f"a stack of {stack.k} is more than the {count} batches of an epoch, so that remainder='drop' leaves "
            f"nothing: use at most {count}, or remainder='keep'"
        )
    return count - over if stack.remainder == "drop" else count


def unequal(stack: Stack, why: str) -> SpecError:
    """The error of batches that make no stack."""
    return SpecError(
        f"{stack.describe()} takes batches of one size, and {why}: use batch(..., remainder='pad') or 'drop', or "
        "drop_remainder=True in the tf.data.Dataset"
    )


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
