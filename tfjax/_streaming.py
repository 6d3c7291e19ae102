"""The iterator over a streaming run whose state holds a checkpoint, or whose epochs have no known length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from tfjax.bridge.stream_reader import StreamReading
from tfjax.delivery import Delivery
from tfjax.graph.plan import Run
from tfjax.graph.stream import StreamPlan
from tfjax.iterator import BatchIterator
from tfjax.placement.prefetch import release
from tfjax.state import State


class StreamIterator(BatchIterator):
    """Batches of a run that can be checkpointed between any two of them."""

    def __init__(
        self,
        plan: StreamPlan,
        delivery: Delivery,
        run: Run,
        make_state: Callable[[int], State],
        *,
        prefetch: int,
        reading: StreamReading,
    ) -> None:
        """Start a run; see `BatchIterator`.

        Args:
            plan: the graph.
            delivery: what becomes of each element.
            run: the steps to deliver.
            make_state: the state at a step, without a checkpoint.
            prefetch: batches held ready on a thread.
            reading: the graph, opened.
        """
        self._reading, self._checkpoints = reading, plan.resume == "checkpoint"

        def read(*given: Any, narrow: bool) -> Iterator[list[Any]]:  # noqa: ARG001
            _, _, convert = given
            return reading.read(convert)

        super().__init__(plan, delivery, run, make_state, prefetch=prefetch, reading=read)

    def __next__(self) -> Any:
        """See `BatchIterator`."""
        batch = super().__next__()
        self._reading.delivered(self.step)
        return batch

    @property
    def state(self) -> State:
        """The position after the last delivered batch; waits for a read that is under way, and writes a checkpoint.

        Raises:
            ValueError: the iterator was closed.
        """
        if not self._checkpoints:
            return super().state
        step, checkpoint = self._reading.checkpoint()
        return replace(self._make_state(step), checkpoint=checkpoint)

    def close(self) -> None:
        """Stop and release everything; a second call does nothing."""
        super().close()
        release(self._reading.release())
