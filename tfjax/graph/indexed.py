"""The graph of an indexed pipeline: `Dataset.range` over the global steps of a whole run, one function a step.

Epoch, seeds and rows are worked out inside, so that resuming starts the range elsewhere and costs nothing, and no
iterator is made between two epochs.
"""

from __future__ import annotations

import functools

from tfjax._tensorflow import tf
from tfjax.errors import TfjaxError
from tfjax.graph.batches import Batches, add_mask, delivered
from tfjax.graph.element import Element
from tfjax.graph.fold import Folded, Functions, fold
from tfjax.graph.narrow import narrow_leaves, narrowing_error
from tfjax.graph.order import batch_positions
from tfjax.graph.plan import Run, origin_of
from tfjax.graph.rows import Rows, failure_error
from tfjax.graph.settings import graph_settings
from tfjax.graph.stages import Batch, Chain


class IndexedPlan:
    """A plan whose every row can be fetched by index."""

    kind = "indexed"

    def __init__(self, chain: Chain, functions: Functions, element: Element) -> None:
        """Plan a chain whose last stage yields `element`; rows are worked out when they are first needed.

        Raises:
            SpecError: a leaf cannot be batched.
        """
        self._chain, self._functions = chain, functions
        self._settings = graph_settings(chain)
        self._batch_stage = next((s for s in chain if isinstance(s, Batch)), None)
        if self.is_batched:
            element.require_static()
        self._row_structure = element.structure
        self.element = delivered(element, self._batch_stage)

    @functools.cached_property
    def _folded(self) -> Folded:
        return fold(self._chain, self._functions, caches=self._settings.caches)

    @property
    def rows(self) -> Rows:
        """The rows before `batch`; a filter is applied to the whole source here."""
        return self._folded.rows

    @property
    def notes(self) -> list[str]:
        """See `Plan`."""
        return self._folded.notes

    @functools.cached_property
    def batches(self) -> Batches:
        """Which batches of an epoch are delivered.

        Raises:
            ValueError: no batch would be left, or rows would be left over with remainder="error".
        """
        return Batches.of(self._chain, self.rows.length)

    @property
    def is_batched(self) -> bool:
        """See `Plan`."""
        return self._batch_stage is not None

    @property
    def batch_size(self) -> int | None:
        """See `Plan`."""
        return self._batch_stage.size if self._batch_stage else None

    @property
    def tail(self) -> int | None:
        """See `Plan`."""
        kept = self._batch_stage is not None and self._batch_stage.remainder == "keep"
        return self.batches.tail(self.rows.length) if kept else 0

    @property
    def steps_per_epoch(self) -> int | None:
        """See `Plan`."""
        return self.batches.count

    @property
    def is_endless(self) -> bool:
        """See `Plan`."""
        return False

    def check(self) -> None:
        """See `Plan`."""
        origin_of(self._chain).source.check()

    def dataset(self, run: Run, *, narrow: bool) -> tf.data.Dataset:
        """See `Plan`."""

        def step(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return tuple(narrow_leaves(self.element, self._batch(run.start_epoch, number), narrow=narrow))

        step = tf.autograph.experimental.do_not_convert(step)
        steps = tf.data.Dataset.range(run.start, run.end)
        # One range and one map: there is nothing in it for tf.data to rewrite.
        return self._settings.apply(steps.map(step, num_parallel_calls=self._settings.parallel_calls), rewrite=False)

    def where(self, start_epoch: int, number: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
        """The epoch of a global step, the positions of its rows, and which are real where some are padding."""
        size, length = self.batches.size, self.rows.length
        padded = self.batches.remainder == "pad"
        # Where rows are padded, positions run on past the last row, and are clipped below.
        rows = -(-length // size) * size if padded else length
        given = (number, self.batches.count, self.batches.first, size, rows, start_epoch)
        epoch, positions = batch_positions()(*(tf.convert_to_tensor(n, tf.int64) for n in given))
        positions.set_shape((None if self.tail else size,))
        if not padded:
            return epoch, positions, None
        return epoch, tf.minimum(positions, length - 1), positions < length

    def _batch(self, start_epoch: int, number: tf.Tensor) -> list[tf.Tensor]:
        epoch, positions, real = self.where(start_epoch, number)
        got = self.rows.fetch(epoch, positions)
        leaves = list(got.leaves)
        if got.ok is not None:
            with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(got.ok), ["unreadable example"])]):
                leaves[:1] = [tf.identity(leaf) for leaf in leaves[:1]]
        if not self.is_batched:
            return [tf.squeeze(leaf, 0) if isinstance(leaf, tf.Tensor) else leaf[0] for leaf in leaves]
        if real is not None:
            leaves, _ = add_mask(self._row_structure, leaves, real)
        size = None if self.tail else self.batches.size
        for leaf, spec in zip(leaves, self.element.specs, strict=True):
            leaf.set_shape((size, *spec.shape))  # known to be so; costs nothing when the graph runs
        return leaves

    def diagnose(self, run: Run, step: int, error: Exception) -> Exception:
        """See `Plan`: the batch is computed again, one example and one stage at a time."""
        unfit = narrowing_error(self.element, error)
        if unfit is not None:
            return unfit
        epoch, positions, _ = self.where(run.start_epoch, step)
        for position in tf.unstack(positions[:, None]):
            failure = self.rows.diagnose(epoch, position)
            if failure is not None:
                index = int(self.rows.index(epoch, position)[0])
                return failure_error(failure, index, origin_of(self._chain).source)
        return TfjaxError(f"step {step} failed, and did not when its examples were computed one by one: {error}")
