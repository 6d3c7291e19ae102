"""Index transforms: a position in an epoch to a row, as small frozen values that run in the graph.

`take`, `skip`, `split`, `filter` and `shuffle` are nothing else; they hold no examples.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tfjax._tensorflow import tf
from tfjax.graph.hashing import hash64_np, hash64_tf


class Transform(Protocol):
    """A function of positions, with the length that it has."""

    @property
    def length(self) -> int:
        """Rows that it yields in one epoch."""
        ...

    def __call__(self, epoch: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        """Positions, int64 (n,), to the rows of what lies before, int64 (n,)."""
        ...


@dataclass(frozen=True)
class Window:
    """`length` rows from `start`."""

    start: int
    length: int

    def __call__(self, epoch: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:  # noqa: ARG002
        """See `Transform`."""
        return positions + self.start if self.start else positions


@dataclass(frozen=True)
class Permutation:
    """All rows, in an order drawn from (seed, epoch) in constant memory.

    The op is a block cipher over the range; 8 rounds and a hashed seed of three words keep any two epochs at chance.
    """

    seed: int
    length: int

    def __call__(self, epoch: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        """See `Transform`."""
        last = tf.constant(self.length - 1, tf.int64)
        rows = _permuted()(positions, _begun(self.seed), epoch, last)
        rows.set_shape(positions.shape)
        return rows


class Chosen:
    """A fixed list of rows: what `split` and `filter` keep."""

    def __init__(self, rows: np.ndarray) -> None:
        """Hold `rows`, int64 (n,)."""
        self.length = len(rows)
        self._rows = tf.constant(rows, tf.int64)

    def __call__(self, epoch: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:  # noqa: ARG002
        """See `Transform`."""
        return tf.gather(self._rows, positions)


# Tracing an op costs half a millisecond. What every plan needs is therefore traced once a process, as functions.
_SCALAR, _VECTOR = tf.TensorSpec((), tf.int64), tf.TensorSpec((None,), tf.int64)
_HASH = tf.TensorSpec((), tf.uint64)


def _begun(seed: int) -> tf.Tensor:
    return tf.constant(int(hash64_np(seed)), tf.uint64)


@functools.cache
def _words() -> Any:
    """hash64 over (seed, epoch, each of a vector of last words), given the hash of the seed."""
    return tf.function(hash64_tf, autograph=False).get_concrete_function(_HASH, _SCALAR, _VECTOR)


@functools.cache
def _permuted() -> Any:
    """Positions to rows, for the hash of a seed, an epoch and the last row."""

    def permuted(positions: tf.Tensor, begun: tf.Tensor, epoch: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
        words = tf.bitcast(hash64_tf(begun, epoch, tf.constant([0, 1], tf.int64)), tf.uint32)
        three = tf.reshape(words, (4,))[:3]
        return tf.raw_ops.RandomIndexShuffle(index=positions, seed=three, max_index=last, rounds=8)

    return tf.function(permuted, autograph=False).get_concrete_function(_VECTOR, _HASH, _SCALAR, _SCALAR)


@functools.cache
def batch_positions() -> Any:
    """A global step to its epoch and the positions of its rows.

    Takes the step, the steps of an epoch, the first row that is delivered, the rows of a step, the row where an epoch
    ends and the first epoch, all int64; a last step that is shorter ends with the rows.
    """

    def positions(*given: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        step, steps, first, size, end, start_epoch = given
        begin = first + step % steps * size
        return start_epoch + step // steps, tf.range(begin, tf.minimum(begin + size, end))

    return tf.function(positions, autograph=False).get_concrete_function(*([_SCALAR] * 6))


def epoch_words(seed: int, epoch: tf.Tensor, last: Sequence[int]) -> tf.Tensor:
    """hash64(seed, epoch, word) for each last word, uint64 (len(last),)."""
    words = _words()(_begun(seed), epoch, tf.constant(list(last), tf.int64))
    words.set_shape((len(last),))
    return words


def row_seeds(words: tf.Tensor, index: tf.Tensor) -> list[tf.Tensor]:
    """[word, index] for each row and word: the stateless seeds of a batch, each int64 (n, 2).

    Args:
        words: uint64 (k,), one for each random function.
        index: int64 (n,), the identity of each row in its source.
    """
    bits = tf.unstack(tf.bitcast(words, tf.int64)) if words.shape[0] else []
    return [tf.stack([tf.fill(tf.shape(index), word), index], axis=1) for word in bits]


def split_rows(index: np.ndarray, fractions: Sequence[float], part: int, seed: int) -> np.ndarray:
    """The rows of one part: ranked by hash64(seed, index), cut at the rounded cumulative fractions, in row order."""
    rank = np.lexsort((np.arange(len(index)), hash64_np(seed, index)))
    cuts = np.floor(np.cumsum((0.0, *fractions)) * len(index) + 0.5).astype(np.int64)
    return np.sort(rank[cuts[part] : cuts[part + 1]])


@functools.cache
def golden_permutation() -> list[int]:
    """Some rows of a fixed permutation: TensorFlow does not promise that the op stays the same."""
    positions = tf.range(0, 1000, 50, dtype=tf.int64)
    rows = Permutation(seed=1, length=1000)(tf.constant(2, tf.int64), positions)
    return [int(r) for r in rows.numpy()]
