"""The graph of a streaming pipeline: a foreign dataset with the stages applied one after the other.

Nothing can be fetched by index, so a state is resumed by replay: the steps before it are computed and thrown away.
"""

from __future__ import annotations

import math
from typing import Any

from tfjax._tensorflow import tf
from tfjax.errors import CorruptDataError, TfjaxError
from tfjax.graph.batches import Batches, add_mask, delivered, full_count
from tfjax.graph.element import Element
from tfjax.graph.fold import Functions, pipeline_seed
from tfjax.graph.narrow import narrow_leaves, narrowed, narrowing_error
from tfjax.graph.order import epoch_words
from tfjax.graph.plan import FOREVER, Run, origin_of
from tfjax.graph.rows import fact
from tfjax.graph.settings import graph_settings
from tfjax.graph.stages import Batch, Chain, Filter, Map, Skip, Stage, Take
from tfjax.sources.foreign import Foreign
from tfjax.spec import Structure

_no_autograph = tf.autograph.experimental.do_not_convert


class StreamPlan:
    """A plan that reads its source from the beginning."""

    kind = "streaming"

    def __init__(self, chain: Chain, functions: Functions, element: Element) -> None:
        """Plan a chain whose last stage yields `element`."""
        self._chain, self._functions, self._settings = chain, functions, graph_settings(chain)
        self._foreign: Foreign = origin_of(chain).source
        self._batch = next((s for s in chain if isinstance(s, Batch)), None)
        if self._batch is not None:
            element.require_static()
        self._rows_structure = element.structure
        self.element = delivered(element, self._batch)
        self.notes = ["a state is resumed by replay: the steps before it are computed again and thrown away"]

    @property
    def is_batched(self) -> bool:
        """See `Plan`."""
        return self._batch is not None or self._foreign.batched

    @property
    def batch_size(self) -> int | None:
        """See `Plan`."""
        if self._batch is not None:
            return self._batch.size
        shapes = [s.shape for s in tf.nest.flatten(self._foreign.dataset.element_spec) if isinstance(s, tf.TensorSpec)]
        known = {shape[0] for shape in shapes if self._foreign.batched and shape.rank}
        return known.pop() if len(known) == 1 else None

    @property
    def tail(self) -> int | None:
        """See `Plan`."""
        if self._batch is None:
            return None if self.is_batched and self.batch_size is None else 0
        if self._batch.remainder != "keep":
            return 0
        examples = self._count(before_batch=True)
        return None if examples is None else Batches.of(self._chain, examples).tail(examples)

    @property
    def steps_per_epoch(self) -> int | None:
        """See `Plan`."""
        return self._count(before_batch=False)

    @property
    def is_endless(self) -> bool:
        """See `Plan`."""
        return self._foreign.is_endless and not any(isinstance(s, Take) for s in self._chain)

    def _count(self, *, before_batch: bool) -> int | None:
        count: float | None = math.inf if self._foreign.is_endless else self._foreign.cardinality
        for stage in self._chain[1:]:
            if count is None or isinstance(stage, Filter) or (before_batch and isinstance(stage, Batch)):
                return None if isinstance(stage, Filter) else _finite(count)
            if isinstance(stage, Take):
                count = min(count, stage.n)
            elif isinstance(stage, Skip):
                count = max(count - stage.n, 0)
            elif isinstance(stage, Batch):
                count = math.inf if count == math.inf else full_count(stage, int(count))
        return _finite(count)

    def check(self) -> None:
        """See `Plan`: what a foreign graph reads is not known."""

    def dataset(self, run: Run, *, narrow: bool) -> tf.data.Dataset:
        """See `Plan`."""
        if run.epochs is None and self.steps_per_epoch is None and not self.is_endless:
            self._require_some(run)
        if run.epochs == 1:
            steps = self._one_epoch(tf.constant(run.start_epoch, tf.int64))
        else:
            last = FOREVER if run.epochs is None else run.start_epoch + run.epochs
            steps = tf.data.Dataset.range(run.start_epoch, last).flat_map(_no_autograph(self._one_epoch))
        steps = steps.take(run.stop) if run.stop is not None else steps
        steps = steps.skip(run.start) if run.start else steps
        if any(narrowed(self.element, i, narrow=narrow) != s.dtype for i, s in enumerate(self.element.specs)):
            steps = steps.map(
                _no_autograph(lambda *tree: tuple(narrow_leaves(self.element, self._flat(tree), narrow=narrow))),
                num_parallel_calls=self._settings.parallel_calls,
            )
        return self._settings.apply(steps)

    def _require_some(self, run: Run) -> None:
        """Raise where a run without an end would go round epochs that yield nothing."""
        first = self._one_epoch(tf.constant(run.start_epoch, tf.int64)).take(1)
        if not any(True for _ in first):
            raise ValueError("an epoch of this streaming pipeline yields nothing: there is nothing to go round for")

    def _one_epoch(self, epoch: tf.Tensor) -> tf.data.Dataset:
        """Flat tuples of leaves; while functions need it, the number of each row leads them."""
        stages = [s for s in self._chain[1:] if isinstance(s, Map | Take | Skip | Batch)]
        if not stages:
            plain = self._foreign.is_flat_alike
            return self._foreign.dataset if plain else self._foreign.dataset.map(_no_autograph(self._leaves))
        rows = self._foreign.dataset.enumerate()
        dataset = rows.map(_no_autograph(lambda index, tree: (index, *self._flat((tree,)))))
        seeds = epoch_words(pipeline_seed(self._chain), epoch, range(len(stages)))
        ordinal = 0
        for stage in stages:
            dataset = self._apply(stage, dataset, seeds[ordinal])
            ordinal += isinstance(stage, Map) and not isinstance(stage, Filter) and self._functions[stage].random
        return dataset if self._batch is not None else dataset.map(_no_autograph(lambda _, *leaves: leaves))

    def _leaves(self, *tree: Any) -> tuple[tf.Tensor, ...]:
        return tuple(self._flat(tree))

    def _flat(self, tree: tuple[Any, ...]) -> list[tf.Tensor]:
        """The leaves of an element, which tf.data hands over as one argument, or a tuple as several."""
        structure = origin_of(self._chain).structure
        return structure.flatten(tree[0] if len(tree) == 1 else tree)[0]  # type: ignore[no-any-return]

    def _apply(self, stage: Stage, dataset: tf.data.Dataset, word: tf.Tensor) -> tf.data.Dataset:
        if isinstance(stage, Take):
            return dataset.take(stage.n)
        if isinstance(stage, Skip):
            return dataset.skip(stage.n)
        if isinstance(stage, Batch):
            return _batched(dataset, stage, self._rows_structure)
        fn = self._functions[stage]
        if isinstance(stage, Filter):
            return dataset.filter(_no_autograph(lambda _, *leaves: fn(leaves)[0]))

        def one(index: tf.Tensor, *leaves: tf.Tensor) -> tuple[tf.Tensor, ...]:
            seed = tf.stack([tf.bitcast(word, tf.int64), index]) if fn.random else None
            return (index, *fn(leaves, seed))

        return dataset.map(_no_autograph(one), num_parallel_calls=self._settings.parallel_calls)

    def diagnose(self, run: Run, step: int, error: Exception) -> Exception:  # noqa: ARG002
        """See `Plan`: a stream has no index to compute one example again."""
        unfit = narrowing_error(self.element, error)
        if unfit is not None:
            return unfit
        failed = CorruptDataError if isinstance(error, tf.errors.DataLossError) else TfjaxError
        return failed(f"the graph failed at step {step}: {fact(error)}")


def _finite(count: float | None) -> int | None:
    return None if count is None or count == math.inf else int(count)


def _batched(dataset: tf.data.Dataset, batch: Batch, structure: Structure) -> tf.data.Dataset:
    size = batch.size
    whole = dataset.map(_no_autograph(lambda _, *leaves: leaves)).batch(size, drop_remainder=batch.remainder == "drop")
    if batch.remainder in ("drop", "keep"):
        return whole

    def fill(*leaves: tf.Tensor) -> tuple[tf.Tensor, ...]:
        rows = tf.shape(leaves[0])[0]
        if batch.remainder == "error":
            text = f"the examples do not fill batches of {size}: use remainder='drop', 'pad' or 'keep'"
            with tf.control_dependencies([tf.debugging.Assert(tf.equal(rows, size), [text])]):
                return tuple(tf.ensure_shape(leaf, (size, *leaf.shape[1:])) for leaf in leaves)
        # The last row is repeated: real values keep every statistic finite; `mask` tells them apart.
        at = tf.minimum(tf.range(size), rows - 1)
        return tuple(add_mask(structure, [tf.gather(leaf, at) for leaf in leaves], tf.range(size) < rows)[0])

    return whole.map(_no_autograph(fill))
