"""The 64-bit hash of which every seed and rank is made, in Python integers."""

import numpy as np

WORD = 2**64


def mix(z: int) -> int:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def hash64(*words: int) -> int:
    """One word from several; a negative one is taken as two's complement."""
    h = 0
    for word in words:
        h = mix(((h ^ (word % WORD)) + 0x9E3779B97F4A7C15) % WORD)
    return h


def as_int64(word: int) -> np.int64:
    """The signed integer of the same 64 bits."""
    return np.uint64(word).astype(np.int64)


def example_seed(pipeline_seed: int, epoch: int, op: int, index: int) -> np.ndarray:
    """The seed of one random op for one example, int64 (2,)."""
    return np.array([as_int64(hash64(pipeline_seed, epoch, op)), index], np.int64)
