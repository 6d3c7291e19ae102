"""The iterator over a run: batches on their devices, counted as they are delivered."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfjax.bridge.reader import read
from tfjax.bridge.tensor import narrows
from tfjax.delivery import Delivery
from tfjax.graph.plan import Plan, Run
from tfjax.placement.context import CarriedContext
from tfjax.placement.prefetch import made_ahead
from tfjax.state import State

Reading = Callable[..., Iterator[list[Any]]]


@dataclass(frozen=True)
class Stats:
    """What an iterator has done so far.

    Args:
        batches: batches delivered.
        wait_s: seconds that `next` waited for data.
        elapsed_s: seconds since the iterator was made.
        hits: rows that the caches of the pipeline had when they were asked for, since the iterator was made; those
            that are prefetched count too, and those of other iterators over the same caches.
        misses: rows that they had not, and that were computed.
    """

    batches: int
    wait_s: float
    elapsed_s: float
    hits: int = 0
    misses: int = 0

    @property
    def wait_share(self) -> float:
        """The share of the elapsed time spent waiting for data, 0 to 1."""
        return self.wait_s / self.elapsed_s if self.elapsed_s else 0.0


class BatchIterator(Iterator[Any]):
    """Batches of one run; also a context manager, which closes it.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"x": np.arange(6, dtype=np.int32)}).batch(2)
        >>> with pipe.iterate(epochs=2) as batches:
        ...     first = next(batches)
        ...     batches.step, batches.epoch
        (1, 0)
    """

    def __init__(
        self,
        plan: Plan,
        delivery: Delivery,
        run: Run,
        make_state: Callable[[int], State],
        *,
        prefetch: int,
        reading: Reading = read,
    ) -> None:
        """Start a run.

        Args:
            plan: the graph.
            delivery: what becomes of each element.
            run: the steps to deliver.
            make_state: the state at a step.
            prefetch: batches held ready on a thread; 0: none, each is made when it is asked for.
            reading: yields the leaves of each step.
        """
        plan.check()
        self._plan, self._run, self._make_state = plan, run, make_state
        self._begin, self._delivered, self._closed = time.perf_counter(), 0, False
        self._cached_before = plan.cache_counts
        # What JAX is set to here holds for the run, also where it is set for this thread alone.
        open_items = functools.partial(_items, plan, delivery, run, narrows(), reading)
        self._items = made_ahead(open_items, size=prefetch, context=CarriedContext())

    def __next__(self) -> Any:
        """The next batch.

        Raises:
            StopIteration: the run has ended.
            ValueError: the iterator was closed.
        """
        if self._closed:
            raise ValueError("this iterator is closed: make another one with pipe.iterate(state=...)")
        batch = next(self._items)
        self._delivered += 1
        return batch

    @property
    def step(self) -> int:
        """Batches delivered since the start of the run's first epoch, the resumed ones included."""
        return self._run.start + self._delivered

    @property
    def epoch(self) -> int:
        """The epoch of the next batch; at the end of a run, the epoch after the last.

        Raises:
            TypeError: the pipeline streams, and how long an epoch is is not known.
        """
        steps = self._plan.steps_per_epoch
        if not steps:
            raise TypeError("how many steps an epoch has is not known for this streaming pipeline: count steps")
        return self._run.start_epoch + self.step // steps

    @property
    def state(self) -> State:
        """The position after the last delivered batch; what was prefetched beyond it does not count."""
        return self._make_state(self.step)

    @property
    def stats(self) -> Stats:
        """Batches, seconds spent waiting for them, and what caches had."""
        cached = zip(self._plan.cache_counts, self._cached_before, strict=True)
        hits, misses = (now - before for now, before in cached)
        return Stats(self._delivered, self._items.wait_s, time.perf_counter() - self._begin, hits, misses)

    @property
    def wait_s(self) -> float:
        """Seconds that `next` waited for data, as `stats` has them, at no cost."""
        return self._items.wait_s

    def examples(self, step: int) -> np.ndarray | None:
        """The index in its source of each example in a batch, -1 for rows that are padding, worked out anew.

        Args:
            step: as `step` counts them: 0 is the first batch of the run's first epoch.

        Returns:
            int64 (batch,), of a stack (k * batch,); None for a streaming pipeline, whose examples have no index.

        Example:
            >>> import numpy as np, tfjax
            >>> with tfjax.from_arrays({"x": np.arange(5)}).batch(3, remainder="pad").iterate() as batches:
            ...     batches.examples(1).tolist()
            [3, 4, -1]
        """
        return self._plan.examples(self._run, step)

    def close(self) -> None:
        """Stop and release everything; a second call does nothing."""
        self._closed = True
        self._items.close()

    def __enter__(self) -> BatchIterator:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


def _items(plan: Plan, delivery: Delivery, run: Run, narrow: bool, reading: Reading) -> Iterator[Any]:
    """Delivered batches."""
    for leaves in reading(plan, run, delivery.converters, narrow=narrow):
        # Neither the leaves nor the batch have a name here while the batch waits to be taken: it would keep them alive.
        held = [leaves]
        del leaves
        yield delivery.deliver(held.pop())
