"""A 64-bit hash of integers, the same in NumPy and in the graph; every seed and order is drawn from it.

    >>> from tfjax.graph.hashing import hash64_np
    >>> int(hash64_np(0, 1)) != int(hash64_np(1, 0))
    True

The mixing function is the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfjax._tensorflow import tf

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_MASK = (1 << 64) - 1


def _mix_np(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_FIRST)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_SECOND)
    mixed: np.ndarray = z ^ (z >> np.uint64(31))
    return mixed


def hash64_np(*words: Any) -> np.ndarray:
    """Hash integers or integer arrays, broadcast against each other, to uint64."""
    h = np.zeros(1, np.uint64)
    for word in words:
        w = np.uint64(word & _MASK) if isinstance(word, int) else np.asarray(word).astype(np.uint64)
        h = _mix_np((h ^ w) + np.uint64(_GOLDEN))
    return h.reshape(np.broadcast_shapes(*(np.shape(w) for w in words)))


def _constant(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint64)


def _mix_tf(z: tf.Tensor) -> tf.Tensor:
    shift, xor = tf.bitwise.right_shift, tf.bitwise.bitwise_xor
    z = xor(z, shift(z, _constant(30))) * _constant(_FIRST)
    z = xor(z, shift(z, _constant(27))) * _constant(_SECOND)
    return xor(z, shift(z, _constant(31)))


def hash64_tf(begun: tf.Tensor, *words: tf.Tensor) -> tf.Tensor:
    """Go on with a hash in the graph: `hash64_tf(hash64_np(a), b)` is `hash64_np(a, b)`.

    Args:
        begun: uint64, the hash of the words before.
        words: integer tensors, broadcast against each other.
    """
    h = begun
    for word in words:
        h = _mix_tf(tf.bitwise.bitwise_xor(h, tf.cast(word, tf.uint64)) + _constant(_GOLDEN))
    return h
