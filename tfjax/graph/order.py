"""Index transforms: a position in an epoch to a row, as small frozen values that run in the graph.

`take`, `skip`, `split`, `filter` and `shuffle` are nothing else; they hold no examples.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

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
        words = permutation_words(self.seed, epoch)
        return tf.raw_ops.RandomIndexShuffle(index=positions, seed=words, max_index=last, rounds=8)


class Chosen:
    """A fixed list of rows: what `split` and `filter` keep."""

    def __init__(self, rows: np.ndarray) -> None:
        """Hold `rows`, int64 (n,)."""
        self.length = len(rows)
        self._rows = tf.constant(rows, tf.int64)

    def __call__(self, epoch: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:  # noqa: ARG002
        """See `Transform`."""
        return tf.gather(self._rows, positions)


@functools.lru_cache(maxsize=1)
def _words() -> tf.types.experimental.ConcreteFunction:
    """hash64 over (seed, epoch, each of a vector of last words), traced once a process."""
    scalar, vector = tf.TensorSpec((), tf.int64), tf.TensorSpec((None,), tf.int64)
    return tf.function(hash64_tf, autograph=False).get_concrete_function(scalar, scalar, vector)


def epoch_words(seed: int, epoch: tf.Tensor, last: Sequence[int]) -> tf.Tensor:
    """hash64(seed, epoch, word) for each last word, uint64 (len(last),)."""
    return _words()(tf.constant(seed, tf.int64), epoch, tf.constant(list(last), tf.int64))


def permutation_words(seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """The three uint32 that seed the permutation of an epoch."""
    words = tf.bitcast(epoch_words(seed, epoch, (0, 1)), tf.uint32)
    return tf.reshape(words, (4,))[:3]


def split_rows(index: np.ndarray, fractions: Sequence[float], part: int, seed: int) -> np.ndarray:
    """The rows of one part: ranked by hash64(seed, index), cut at the rounded cumulative fractions, in row order."""
    rank = np.lexsort((np.arange(len(index)), hash64_np(seed, index)))
    cuts = np.floor(np.cumsum((0.0, *fractions)) * len(index) + 0.5).astype(np.int64)
    return np.sort(rank[cuts[part] : cuts[part + 1]])
