"""Rows that a cache had when they were asked for, and that it had not, counted in the graph."""

from __future__ import annotations

from tfjax._tensorflow import tf


class Counts:
    """Two numbers that only grow.

    >>> counts = Counts()
    >>> counts.add(3, 1)
    >>> counts.total
    (3, 1)
    """

    def __init__(self) -> None:
        """Begin at zero."""
        with tf.init_scope():  # it may be made while a graph is traced
            self._counts = tf.Variable(tf.zeros((2,), tf.int64), trainable=False)

    def add(self, hits: tf.Tensor | int, misses: tf.Tensor | int) -> None:
        """Count rows, in the graph."""
        self._counts.assign_add(tf.cast(tf.stack([hits, misses]), tf.int64))

    @property
    def total(self) -> tuple[int, int]:
        """Rows that were there, and that were not, so far."""
        hits, misses = self._counts.numpy().tolist()
        return hits, misses
