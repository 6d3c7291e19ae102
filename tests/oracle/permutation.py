"""The order of one epoch, from TensorFlow's index shuffle with seeds hashed here."""

import numpy as np

from tfjax._tensorflow import tf

from .hashing import hash64


def seed_words(seed: int, epoch: int) -> list[int]:
    """Three uint32 words of (seed, epoch)."""
    first, second = hash64(seed, epoch, 0), hash64(seed, epoch, 1)
    return [first % 2**32, first // 2**32, second % 2**32]


def permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    """Which row stands at each of n positions in this epoch, int64 (n,)."""
    return tf.raw_ops.RandomIndexShuffle(
        index=tf.range(n, dtype=tf.int64),
        seed=tf.constant(seed_words(seed, epoch), tf.uint32),
        max_index=tf.constant(n - 1, tf.int64),
        rounds=8,
    ).numpy()
