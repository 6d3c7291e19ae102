"""One epoch of a streaming pipeline: its stages as datasets, one after the other."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from tfjax._tensorflow import tf
from tfjax.graph.batches import add_mask
from tfjax.graph.carried import DeviceKeys
from tfjax.graph.fold import Functions
from tfjax.graph.moment import Moment
from tfjax.graph.order import epoch_words
from tfjax.graph.stages import (
    Batch,
    Chain,
    Filter,
    Map,
    ShuffleWindow,
    Skip,
    Stack,
    Stage,
    Take,
    pipeline_seed,
)
from tfjax.sources.stream import Opened
from tfjax.spec import Structure

_no_autograph = tf.autograph.experimental.do_not_convert
_STAGES = (Map, Take, Skip, Batch, Stack, ShuffleWindow)
# tf.data shows the name of a dataset in the message of an error inside its function.
_NAME = "tfjax_stage_"
_SHUFFLE_WORDS = (2**32, 2**32 + 1)  # apart from those of random ops, which count from 0


class EpochGraph:
    """The graph of any epoch."""

    def __init__(self, chain: Chain, functions: Functions, rows: Structure, *, parallel_calls: int) -> None:
        """Hold the stages.

        Args:
            chain: all stages.
            functions: the traced function of each.
            rows: the structure of an example where it is batched.
            parallel_calls: examples computed at a time.
        """
        self._chain, self._functions, self._rows, self._parallel = chain, functions, rows, parallel_calls
        self._stages = [s for s in chain[1:] if isinstance(s, _STAGES)]
        self._batched = any(isinstance(s, Batch) for s in chain)
        self._stacked = any(isinstance(s, Stack) for s in chain)
        self.keys = DeviceKeys(chain)

    def dataset(self, opened: Opened, moment: Moment) -> tf.data.Dataset:
        """Leaves as flat tuples, or in what tf.nest flattens in that order.

        Between the stages the number of each row leads them, for what is random.
        """
        steps = self._steps(opened, moment)
        return steps if self._stacked else self._with_keys(steps, moment)

    def _with_keys(self, batches: tf.data.Dataset, moment: Moment) -> tf.data.Dataset:
        if not self.keys.carried:
            return batches

        def with_keys(number: tf.Tensor, *leaves: Any) -> tuple[Any, ...]:
            return (*tf.nest.flatten(leaves), *self.keys(moment, number, None))

        return batches.enumerate().map(_no_autograph(lambda number, tree: with_keys(number, *_arguments(tree))))

    def _steps(self, opened: Opened, moment: Moment) -> tf.data.Dataset:
        elements = opened.epoch(moment.epoch)
        if not self._stages:
            return elements if opened.is_flat else elements.map(_no_autograph(lambda *e: tuple(opened.leaves(*e))))
        dataset = elements.enumerate().map(
            _no_autograph(lambda index, tree: (index, *opened.leaves(*_arguments(tree))))
        )
        seeds = epoch_words(pipeline_seed(self._chain), moment.epoch, range(len(self._stages)))
        ordinal = 0
        for number, stage in enumerate(self._stages):
            dataset = self._apply(stage, dataset, seeds[ordinal], moment, f"{_NAME}{number}")
            ordinal += isinstance(stage, Map) and not isinstance(stage, Filter) and self._functions[stage].random
        return dataset if self._batched or self._stacked else dataset.map(_no_autograph(_without_index))

    def _apply(
        self, stage: Stage, dataset: tf.data.Dataset, word: tf.Tensor, moment: Moment, name: str
    ) -> tf.data.Dataset:
        if isinstance(stage, Take):
            return dataset.take(stage.n)
        if isinstance(stage, Skip):
            return dataset.skip(stage.n)
        if isinstance(stage, ShuffleWindow):
            return _shuffled(dataset, stage, moment.epoch)
        if isinstance(stage, Batch):
            return _batched(dataset, stage, self._rows)
        if isinstance(stage, Stack):
            batches = dataset if self._batched else dataset.map(_no_autograph(_without_index))
            return _stacked(self._with_keys(batches, moment), stage)
        fn = self._functions[stage]
        if isinstance(stage, Filter):
            return dataset.filter(_no_autograph(lambda _, *leaves: fn(leaves)[0]), name=name)

        numbers = fn.numbers(moment)

        def one(index: tf.Tensor, *leaves: tf.Tensor) -> tuple[tf.Tensor, ...]:
            seed = tf.stack([tf.bitcast(word, tf.int64), index]) if fn.random else None
            return (index, *fn(leaves, seed, numbers))

        return dataset.map(_no_autograph(one), num_parallel_calls=self._parallel, name=name)

    def failed_stage(self, error: Exception) -> str | None:
        """The stage whose function failed, as TensorFlow's message names it; None where it names none of them."""
        found = re.search(rf"passed to {_NAME}(\d+) transformation", str(error))
        return None if found is None else self._stages[int(found[1])].describe()


def _arguments(tree: Any) -> tuple[Any, ...]:
    """What tf.data would hand a function for this element: a tuple is several arguments."""
    return tree if isinstance(tree, tuple) else (tree,)


def _without_index(_: tf.Tensor, *leaves: Any) -> tuple[Any, ...]:
    return leaves


def _shuffled(dataset: tf.data.Dataset, stage: ShuffleWindow, epoch: tf.Tensor) -> tf.data.Dataset:
    """The op without a generator of seeds: its order is that of (seed, epoch), whoever iterated before."""
    # The op allocates its slots at once: no more than there are elements, where that is known; the order is the same.
    count = tf.cast(dataset.cardinality(), tf.int64)
    size = tf.constant(stage.buffer_size, tf.int64)
    words = tf.bitcast(epoch_words(stage.seed, epoch, _SHUFFLE_WORDS), tf.int64)
    variant = tf.raw_ops.ShuffleDataset(
        input_dataset=dataset._variant_tensor,
        buffer_size=tf.where(count > 0, tf.minimum(size, count), size),
        seed=words[0],
        seed2=tf.where(words[1] == 0, tf.constant(1, tf.int64), words[1]),  # two zeros would mean chance
        output_types=[s.dtype for s in tf.nest.flatten(dataset.element_spec)],
        output_shapes=[s.shape for s in tf.nest.flatten(dataset.element_spec)],
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(variant, dataset.element_spec)


def _batched(dataset: tf.data.Dataset, batch: Batch, structure: Structure) -> tf.data.Dataset:
    size = batch.size
    whole = dataset.map(_no_autograph(_without_index)).batch(size, drop_remainder=batch.remainder == "drop")
    if batch.remainder in ("drop", "keep"):
        return whole

    def fill(*leaves: tf.Tensor) -> tuple[tf.Tensor, ...]:
        rows = tf.shape(leaves[0])[0]
        if batch.remainder == "error":
            return _all_of(
                size, leaves, f"the examples do not fill batches of {size}: use remainder='drop', 'pad' or 'keep'"
            )
        # The last row is repeated: real values keep every statistic finite; `mask` tells them apart.
        at = tf.minimum(tf.range(size), rows - 1)
        return tuple(add_mask(structure, [tf.gather(leaf, at) for leaf in leaves], tf.range(size) < rows)[0])

    return whole.map(_no_autograph(fill))


def _stacked(batches: tf.data.Dataset, stack: Stack) -> tf.data.Dataset:
    whole = batches.batch(stack.k, drop_remainder=stack.remainder == "drop")
    if stack.remainder != "error":
        return whole
    text = f"the batches do not fill stacks of {stack.k}: use remainder='keep' or 'drop'"
    return whole.map(_no_autograph(lambda *leaves: _all_of(stack.k, leaves, text)))


def _all_of(count: int, leaves: Sequence[tf.Tensor], text: str) -> tuple[tf.Tensor, ...]:
    """The leaves, where each has `count` rows; else the graph fails with the text."""
    with tf.control_dependencies([tf.debugging.Assert(tf.equal(tf.shape(leaves[0])[0], count), [text])]):
        return tuple(tf.ensure_shape(leaf, (count, *leaf.shape[1:])) for leaf in leaves)


def marked(epoch: Callable[[tf.Tensor], tf.data.Dataset]) -> Callable[[tf.Tensor], tf.data.Dataset]:
    """Epochs that end with a mark: (True, and leaves without meaning); every element before it begins with False."""

    def with_mark(number: tf.Tensor) -> tf.data.Dataset:
        dataset = epoch(number)
        specs = tf.nest.flatten(dataset.element_spec)
        filler = tuple(tf.zeros([n or 0 for n in s.shape], s.dtype) for s in specs)
        end = tf.data.Dataset.from_tensors((True, *filler))
        return dataset.map(_no_autograph(lambda *tree: (False, *tf.nest.flatten(tree)))).concatenate(end)

    return with_mark
