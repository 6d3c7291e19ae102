"""The graph of an indexed pipeline: `Dataset.range` over the global steps of a whole run, one function a step.

Epoch, seeds and rows are worked out inside, so that resuming starts the range elsewhere and costs nothing, and no
iterator is made between two epochs.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from tfjax._tensorflow import tf
from tfjax.errors import TfjaxError
from tfjax.graph.batches import Batches, add_mask, delivered
from tfjax.graph.carried import Carried, DeviceKeys
from tfjax.graph.element import Element
from tfjax.graph.fold import Folded, Functions, fold
from tfjax.graph.held import Held, carried_positions
from tfjax.graph.moment import Moment
from tfjax.graph.narrow import narrow_leaves, narrowing_error
from tfjax.graph.order import batch_positions
from tfjax.graph.plan import Run, origin_of
from tfjax.graph.rewrites.late_flip import LateFlip
from tfjax.graph.rows import Rows, failure_error
from tfjax.graph.settings import graph_settings
from tfjax.graph.stages import Batch, Chain, DeviceCache, Map, Take
from tfjax.ops.image.flip import RandomFlip


class IndexedPlan:
    """A plan whose every row can be fetched by index."""

    kind = "indexed"

    def __init__(
        self,
        chain: Chain,
        functions: Functions,
        element: Element,
        *,
        on_host: bool = False,
        accelerated: Callable[[], bool] = lambda: False,
    ) -> None:
        """Plan a chain whose last stage yields `element`; rows are worked out when they are first needed.

        Args:
            chain: the stages.
            functions: the traced function of each.
            element: what they yield.
            on_host: leave nothing to the devices: compute the rows of a device cache, and flip.
            accelerated: whether batches go to an accelerator; asked where that makes a difference.

        Raises:
            SpecError: a leaf cannot be batched.
        """
        self._chain, self._functions = chain, functions
        self._settings = graph_settings(chain)
        self._keys = DeviceKeys(chain)
        self._batch_stage = next((s for s in chain if isinstance(s, Batch)), None)
        self._leaves_work, self._accelerated = self.is_batched and not on_host, accelerated
        if self.is_batched:
            element.require_static()
        self._row_element, self._row_structure = element, element.structure
        self.element = delivered(element, self._batch_stage)

    @functools.cached_property
    def _folded(self) -> Folded:
        return fold(
            self._chain,
            self._functions,
            caches=self._settings.caches,
            holds=self._leaves_work,
            leaves_flips=self._leaves_work and _flips(self._chain) and self._accelerated(),
        )

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
    def leading(self) -> tuple[int | None, ...]:
        """See `Plan`."""
        if self._batch_stage is None:
            return ()
        return (*self.batches.leading, None if self.tail else self._batch_stage.size)

    @property
    def steps_per_epoch(self) -> int | None:
        """See `Plan`."""
        return self.batches.steps

    @property
    def is_endless(self) -> bool:
        """See `Plan`."""
        return False

    def check(self) -> None:
        """See `Plan`; caches are opened here, where what is wrong with them can be said."""
        origin_of(self._chain).source.check()
        for cache in self._folded.caches:
            cache.open()

    @property
    def cache_counts(self) -> tuple[int, int]:
        """See `Plan`."""
        counts = [cache.counts for cache in self._folded.caches] + ([self.held.counts.total] if self.held else [])
        return sum(hits for hits, _ in counts), sum(misses for _, misses in counts)

    def dataset(self, run: Run, *, narrow: bool) -> tf.data.Dataset:
        """See `Plan`."""

        def step(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
            leaves, carried = self._batch(run, number)
            return (*narrow_leaves(self.element, leaves, narrow=narrow), *carried)

        step = tf.autograph.experimental.do_not_convert(step)
        steps = tf.data.Dataset.range(run.start, run.end)
        # One range and one map: there is nothing in it for tf.data to rewrite.
        return self._settings.apply(steps.map(step, num_parallel_calls=self._settings.parallel_calls), rewrite=False)

    def where(self, run: Run, number: int | tf.Tensor) -> tuple[Moment, tf.Tensor, tf.Tensor | None]:
        """The moment of a step of a run, the positions of its rows, and which are real where some are padding.

        A stack is fetched as the rows of all its batches.
        """
        batches, length = self.batches, self.rows.length
        padded = batches.remainder == "pad"
        end = (batches.first + batches.count) * batches.size
        # Where rows are padded, positions run on past the last row, and are clipped below.
        end = end if padded else min(end, length)
        size = batches.depth * batches.size
        given = (number, batches.steps, batches.first * batches.size, size, end, run.start_epoch)
        epoch, positions = batch_positions()(*(tf.convert_to_tensor(n, tf.int64) for n in given))
        positions.set_shape((None if None in self.leading else size,))
        # Counted from epoch 0, so that an epoch is the same whichever run it is of.
        step = epoch * batches.count + tf.cast(number, tf.int64) % batches.steps * batches.depth
        if batches.stack is not None:
            step += tf.range(tf.shape(positions, tf.int64)[0] // batches.size)
        moment = Moment(epoch, step, {name: tf.constant(v, tf.float32) for name, v in run.values.items()})
        if not padded:
            return moment, positions, None
        return moment, tf.minimum(positions, length - 1), positions < length

    def _batch(self, run: Run, number: tf.Tensor) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """The leaves of a step, and what is carried beside them."""
        moment, positions, real = self.where(run, number)
        got = self.rows.fetch(moment, positions)
        leaves, which = list(got.leaves), []
        if self.held is not None:
            which, leaves = leaves[:1], leaves[1:]
            if not leaves:  # every row is held, and of the batch only the mask is left
                which += [] if real is None else [real]
                return [], self._carry([tf.cast(t, tf.uint32) for t in which], moment, got.index)
        if got.ok is not None:
            with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(got.ok), ["unreadable example"])]):
                leaves[:1] = [tf.identity(leaf) for leaf in leaves[:1]]
        if not self.is_batched:
            return [tf.squeeze(leaf, 0) if isinstance(leaf, tf.Tensor) else leaf[0] for leaf in leaves], []
        if real is not None:
            leaves, _ = add_mask(self._row_structure, leaves, real)
        leaves = [self._stacked(leaf) for leaf in leaves]
        for leaf, spec in zip(leaves, self.element.specs, strict=True):
            leaf.set_shape((*self.leading, *spec.shape))  # known to be so; costs nothing when the graph runs
        decided = [flip.decisions(moment, got.index) for flip in self.flips]
        return leaves, self._carry([*(tf.cast(t, tf.uint32) for t in which), *decided], moment, got.index)

    def _carry(self, by_row: list[tf.Tensor], moment: Moment, index: tf.Tensor) -> list[tf.Tensor]:
        """What is carried: something of each row, and then the keys."""
        in_epoch = moment.step - moment.epoch * self.batches.count + self.batches.first
        keys = zip(self._keys(moment, in_epoch, index), self._keys.carried, strict=True)
        return [*map(self._stacked, by_row), *(self._stacked(key) if leaf.by_row else key for key, leaf in keys)]

    def _stacked(self, rows: tf.Tensor) -> tf.Tensor:
        """The rows of a stack, batch by batch: the same memory in another shape."""
        return tf.reshape(rows, (-1, self.batches.size, *rows.shape[1:])) if self.batches.stack else rows

    @property
    def carried(self) -> Sequence[Carried]:
        """See `Plan`."""
        held = carried_positions(self.held, padded=self.batches.remainder == "pad") if self.held else ()
        return (*held, *(flip.carried for flip in self.flips), *self._keys.carried)

    @property
    def flips(self) -> Sequence[LateFlip]:
        """See `Plan`."""
        return self._folded.flips if self._leaves_work and _flips(self._chain) else ()

    @property
    def held(self) -> Held | None:
        """The rows of a device cache: their positions are carried, and leaves are zeros, or none if it holds all."""
        return self._folded.held if any(isinstance(s, DeviceCache) for s in self._chain) else None

    @property
    def on_host(self) -> IndexedPlan:
        """See `Plan`."""
        if self.held is None and not self.flips:
            return self
        return IndexedPlan(self._chain, self._functions, self._row_element, on_host=True)

    def rows_of(self, held: Held, size: int) -> IndexedPlan:
        """What a device cache holds, in order and by batches of a size."""
        origin = dataclasses.replace(origin_of(held.chain), auto_cache=False)  # its rows are read once
        chain = (origin, *held.chain[1:], Take(n=held.most), Batch(size=size, remainder="keep"))
        return IndexedPlan(chain, self._functions, held.rows.element)

    def examples(self, run: Run, step: int) -> np.ndarray:
        """See `Plan`."""
        moment, positions, real = self.where(run, step)
        index: np.ndarray = self.rows.index(moment, positions).numpy()
        return index if real is None else np.where(real.numpy(), index, -1)

    def diagnose(self, run: Run, step: int, error: Exception) -> Exception:
        """See `Plan`: the batch is computed again, one example and one stage at a time."""
        unfit = narrowing_error(self.element, error)
        if unfit is not None:
            return unfit
        moment, positions, _ = self.where(run, step)
        steps = tf.repeat(moment.step, self.batches.size)  # of each row
        for position, at in zip(tf.unstack(positions[:, None]), steps, strict=False):
            then = dataclasses.replace(moment, step=at)
            failure = self.rows.diagnose(then, position)
            if failure is not None:
                index = int(self.rows.index(then, position)[0])
                return failure_error(failure, index, origin_of(self._chain).source)
        return TfjaxError(f"step {step} failed, and did not when its examples were computed one by one: {error}")


def _flips(chain: Chain) -> bool:
    return any(isinstance(s, Map) and isinstance(s.op, RandomFlip) for s in chain)
