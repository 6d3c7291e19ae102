"""The plan of a streaming pipeline: the stages of a source one after the other.

Nothing can be fetched by index. A state is resumed by replay, where the steps before it are computed and thrown away,
or from TensorFlow's own checkpoint of the graph's iterator.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

from tfjax._tensorflow import tf
from tfjax.errors import CorruptDataError, TfjaxError
from tfjax.graph.batches import Batches, delivered, unequal
from tfjax.graph.element import Element, size_bytes
from tfjax.graph.fold import Functions
from tfjax.graph.moment import Moment
from tfjax.graph.narrow import narrow_leaves, narrowed, narrowing_error
from tfjax.graph.plan import FOREVER, Run, origin_of
from tfjax.graph.settings import graph_settings
from tfjax.graph.stages import Batch, Chain, Filter, ShuffleWindow, Skip, Stack, Take
from tfjax.graph.stream_cost import checkpoint_note, window_note
from tfjax.graph.stream_epoch import EpochGraph, marked
from tfjax.graph.stream_state import refuse_stateful
from tfjax.sources.stream import Opened, Resume, Stream

_no_autograph = tf.autograph.experimental.do_not_convert
_REPLAY = "a state is resumed by replay: the steps before it are computed again and thrown away"


class StreamPlan:
    """A plan that reads its source from the beginning."""

    kind = "streaming"
    held = None
    flips = ()
    cache_counts = 0, 0

    def __init__(self, chain: Chain, functions: Functions, element: Element) -> None:
        """Plan a chain whose last stage yields `element`."""
        self._chain, self._settings = chain, graph_settings(chain)
        self._source: Stream = origin_of(chain).source
        self._batch = next((s for s in chain if isinstance(s, Batch)), None)
        self._stack = next((s for s in chain if isinstance(s, Stack)), None)
        if self._batch is not None or self._stack is not None:
            element.require_static()
        self._row = element
        self.element = delivered(element, self._batch)
        self._epoch = EpochGraph(chain, functions, element.structure, parallel_calls=self._settings.parallel_calls)
        self.carried = self._epoch.keys.carried

    @property
    def on_host(self) -> StreamPlan:
        """See `Plan`."""
        return self

    @property
    def resume(self) -> Resume:
        """How a state of it is taken."""
        return self._source.resume

    @property
    def notes(self) -> list[str]:
        """See `Plan`."""
        window = next((s for s in self._chain if isinstance(s, ShuffleWindow)), None)
        row = size_bytes(self._row)
        notes = list(self._source.notes)
        notes += [] if window is None else [window_note(window, row)]
        if self.resume == "replay":
            return [*notes, _REPLAY]
        rows = self.batch_size if self.is_batched else 1
        batch = None if row is None or rows is None else row * rows * (self._stack.k if self._stack else 1)
        return [*notes, checkpoint_note(self._chain, self._source.buffers(), row, batch)]

    @property
    def is_batched(self) -> bool:
        """See `Plan`."""
        return self._batch is not None or self._source.batched

    @property
    def batch_size(self) -> int | None:
        """See `Plan`."""
        return self._source.rows_of_a_batch if self._batch is None else self._batch.size

    @property
    def tail(self) -> int | None:
        """See `Plan`."""
        if self._batch is None:
            return None if self.is_batched and self.batch_size is None else 0
        if self._batch.remainder != "keep" or self.is_endless:
            return 0
        return None if self._batches is None else self._batches.tail(self._rows or 0)

    @property
    def leading(self) -> tuple[int | None, ...]:
        """See `Plan`."""
        if not self.is_batched:
            return ()
        rows = self.batch_size if self.tail == 0 else None
        if self._stack is None:
            return (rows,)
        unknown = None if self._stack.remainder == "keep" and not self.is_endless else self._stack.k
        return (*(self._batches.leading if self._batches else (unknown,)), rows)

    @property
    def steps_per_epoch(self) -> int | None:
        """See `Plan`."""
        return None if self._batches is None or self.is_endless else self._batches.steps

    @property
    def is_endless(self) -> bool:
        """See `Plan`."""
        return self._source.is_endless and not any(isinstance(s, Take) for s in self._chain)

    @cached_property
    def _batches(self) -> Batches | None:
        """Which batches of an epoch are delivered; None where that is not known.

        Raises:
            SpecError: they are stacked, and it is not known whether they are of one size.
        """
        if self._rows is not None:
            found = Batches.of(self._chain, self._rows, batched=self._source.batched)
        else:
            found = None
        kept = self._batch is not None and self._batch.remainder == "keep" and not self.is_endless
        if self._stack is not None and (self.batch_size is None or (kept and found is None)):
            raise unequal(self._stack, "how many rows the last one of an epoch has is not known")
        return found

    @cached_property
    def _rows(self) -> int | None:
        """Examples of an epoch before `batch`, or the batches of a source that yields them; None if not known."""
        count = self._source.cardinality
        if self._source.is_endless:
            # Whole batches and stacks, more than any `take` asks for.
            count = FOREVER * (self._batch.size if self._batch else 1) * (self._stack.k if self._stack else 1)
        endless = self._source.is_endless
        for stage in () if self._source.batched else self._chain[1:]:
            if isinstance(stage, Batch):
                break
            if count is None or isinstance(stage, Filter):
                return None
            if isinstance(stage, Take):
                count, endless = min(count, stage.n), False
            elif isinstance(stage, Skip) and not endless:
                count = max(count - stage.n, 0)
        return count

    def check(self) -> None:
        """See `Plan`; what a foreign graph reads is not known."""
        self._source.check()
        if self.resume == "checkpoint":
            self._refuse_stateful  # noqa: B018 - once

    @cached_property
    def _refuse_stateful(self) -> None:
        refuse_stateful(self.dataset(Run(start_epoch=0, start=0, stop=None, epochs=1), narrow=False), "the pipeline")

    def marks(self, run: Run) -> bool:
        """Whether whoever reads a run has to see where its epochs end.

        Where their length is not known, and the run is to end after some of them, or one without elements would be
        gone round for ever.
        """
        unknown = self.steps_per_epoch is None and not self.is_endless
        return unknown and (self.resume == "checkpoint" or (run.epochs is None and run.start == 0))

    def dataset(self, run: Run, *, narrow: bool) -> tf.data.Dataset:
        """See `Plan`."""
        opened = self._source.open(0)
        if run.epochs == 1:
            steps = self._epoch.dataset(opened, _moment(run, tf.constant(run.start_epoch, tf.int64)))
        else:
            last = FOREVER if run.epochs is None else run.start_epoch + run.epochs
            steps = self._epochs(opened, run, last, marks=False)
        steps = steps.take(run.stop) if run.stop is not None else steps
        steps = steps.skip(run.start) if run.start else steps
        return _owning(self._settings.apply(self._narrowed(steps, narrow=narrow)), opened)

    def endless(self, run: Run, *, narrow: bool, entropy: int = 0) -> tf.data.Dataset:
        """All epochs from `run.start_epoch` on: the same graph for every run, so that any can resume from any.

        Where `marks(run)`, elements are led by a bool that says that an epoch ends there.

        Args:
            run: its first epoch counts.
            narrow: whether 64-bit leaves become 32 bits.
            entropy: see `Stream.open`.
        """
        opened, marks = self._source.open(entropy), self.marks(run)
        steps = self._epochs(opened, run, FOREVER, marks=marks)
        steps = self._settings.apply(self._narrowed(steps, narrow=narrow, marks=marks))
        options = tf.data.Options()
        # Symbolic checkpoints hang under a parallel interleave, and slow each `next` down.
        options.experimental_symbolic_checkpoint = False
        return _owning(steps.with_options(options), opened)

    def _epochs(self, opened: Opened, run: Run, last: int, *, marks: bool) -> tf.data.Dataset:
        def epoch(number: tf.Tensor) -> tf.data.Dataset:
            return self._epoch.dataset(opened, _moment(run, number))

        return tf.data.Dataset.range(run.start_epoch, last).flat_map(_no_autograph(marked(epoch) if marks else epoch))

    def _narrowed(self, steps: tf.data.Dataset, *, narrow: bool, marks: bool = False) -> tf.data.Dataset:
        if all(narrowed(self.element, i, narrow=narrow) == s.dtype for i, s in enumerate(self.element.specs)):
            return steps

        def leaves(*given: Any) -> tuple[tf.Tensor, ...]:
            flat = tf.nest.flatten(given)
            mark, rest = (flat[:1], flat[1:]) if marks else ([], flat)
            count = len(self.element.specs)
            return (*mark, *narrow_leaves(self.element, rest[:count], narrow=narrow), *rest[count:])

        return steps.map(_no_autograph(leaves), num_parallel_calls=self._settings.parallel_calls)

    def examples(self, run: Run, step: int) -> None:
        """See `Plan`."""

    def diagnose(self, run: Run, step: int, error: Exception) -> Exception:  # noqa: ARG002
        """See `Plan`: a stream has no index to compute one example again."""
        known = narrowing_error(self.element, error) or self._source.diagnose(error)
        if known is not None:
            return known
        stage = self._epoch.failed_stage(error) or "the graph"
        failed = CorruptDataError if isinstance(error, tf.errors.DataLossError) else TfjaxError
        return failed(f"{stage} failed at step {step}: {_fact(error)}")


def _moment(run: Run, epoch: tf.Tensor) -> Moment:
    """The steps before an epoch are not counted in a stream: a strength that follows them is refused."""
    values = {name: tf.constant(v, tf.float32) for name, v in run.values.items()}
    return Moment(epoch, tf.constant(0, tf.int64), values)


def _owning(dataset: tf.data.Dataset, opened: Opened) -> tf.data.Dataset:
    """The dataset; it keeps alive what its graph holds only a handle to."""
    dataset._tfjax_owner = opened.owner
    return dataset


def _fact(error: Exception) -> str:
    """What went wrong, without the names of nodes and iterators around it."""
    text = error.message if isinstance(error, tf.errors.OpError) else str(error)
    text = re.sub(r"Error in user-defined function passed to .*? transformation with iterator: \S+: ", "", text)
    text = re.sub(r"\{\{[^}]*\}\}", "", text).split("[[")[0].split(" [Op:")[0]
    return " ".join(text.split()) or type(error).__name__
