"""A source and its stages: the elements of each epoch, their number and spec, and the pipeline to compare."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from .batch import Batch
from .commute import commute
from .device_map import DeviceMap
from .keep_on_host import KeepOnHost
from .narrow import narrow
from .random_map import RandomMap
from .row import Context, Row, Stage
from .seed import Seed
from .shuffle import Shuffle
from .source import Source
from .stack import Stack
from .tree import Path, Tree, leaves, map_tree, stack

if TYPE_CHECKING:
    import tfjax

Spec: TypeAlias = dict[Path, tuple[tuple[int | None, ...], np.dtype]]


@dataclass(frozen=True)
class Chain:
    """What is to be interpreted."""

    source: Source
    stages: tuple[Stage, ...] = ()

    def then(self, *stages: Stage) -> "Chain":
        """The chain with more stages."""
        return replace(self, stages=(*self.stages, *stages))

    def write(self) -> "tfjax.Pipeline":
        """The pipeline of this chain."""
        pipe = self.source.write()
        for stage in self.stages:
            pipe = stage.write(pipe)
        return pipe

    def has(self, *kinds: type) -> bool:
        """Whether a stage of these kinds is there."""
        return any(isinstance(stage, kinds) for stage in self.stages)

    @property
    def batch(self) -> Batch | None:
        """The batch stage."""
        return next((stage for stage in self.stages if isinstance(stage, Batch)), None)

    @property
    def stack(self) -> Stack | None:
        """The stack stage."""
        return next((stage for stage in self.stages if isinstance(stage, Stack)), None)

    @property
    def seed(self) -> int:
        """The pipeline's seed."""
        return next((stage.n for stage in reversed(self.stages) if isinstance(stage, Seed)), 0)

    def contexts(self, epoch: int) -> Iterator[tuple[Stage, Context]]:
        """Every stage in the order of acting, with what it may depend on."""
        op = 0
        for stage in commute(self.stages):
            yield stage, Context(epoch, self.seed, op, self.has(Shuffle))
            op += isinstance(stage, RandomMap)

    def raw(self, epoch: int) -> list[Tree]:
        """The elements of an epoch before they are delivered."""
        elements = self.source.rows()
        for stage, context in self.contexts(epoch):
            elements = stage.apply(elements, context)
        return [element.example if isinstance(element, Row) else element for element in elements]

    def epoch(self, number: int) -> list[Tree]:
        """The elements of an epoch as they are delivered."""
        return [self.deliver(element) for element in self.raw(number)]

    def deliver(self, element: Tree) -> Tree:
        """One element as it is delivered: host leaves as they are, the others narrowed and mapped."""
        kept = {key for stage in self.stages if isinstance(stage, KeepOnHost) for key in stage.keys}
        if kept:
            return element | {k: map_tree(narrow, v) for k, v in element.items() if k not in kept}
        element = map_tree(narrow, element)
        if self.stack is None:
            return self.mapped(element)
        length = len(next(leaves(element))[1])
        return stack([self.mapped(map_tree(lambda leaf, i=i: leaf[i], element)) for i in range(length)])

    def mapped(self, batch: Tree) -> Tree:
        """One batch after the device functions."""
        for stage in self.stages:
            batch = stage.fn.numpy(batch) if isinstance(stage, DeviceMap) else batch
        return batch

    def __len__(self) -> int:
        """How many elements one epoch yields."""
        return len(self.raw(0))

    def spec(self) -> Spec:
        """Shape and dtype of every leaf; None for the leading dimension where the last batch or stack is shorter."""
        first, last = self.epoch(0)[0], self.epoch(0)[-1]
        return {path: (self.shape(x, y), np.asarray(x).dtype) for (path, x), (_, y) in pairs(first, last)}

    def shape(self, first: np.ndarray, last: np.ndarray) -> tuple[int | None, ...]:
        """The shape of a leaf, from the first and the last element of an epoch."""
        full = self.batch is None or len(last) == (self.stack.k if self.stack else self.batch.size)
        return np.shape(first) if full else (None, *np.shape(first)[1:])


def pairs(first: Tree, last: Tree) -> Iterator[tuple[tuple[Path, Tree], tuple[Path, Tree]]]:
    """The corresponding leaves of two elements."""
    return zip(leaves(first), leaves(last), strict=True)
