"""Rows that are counted as they are computed, and caches that are waited for."""

import os
import time
from typing import Any

import jax
import numpy as np
import tensorflow as tf

import tfjax
from tfjax.graph.cache.cached import store_of
from tfjax.graph.cache.store import RowStore

Example = dict[str, tf.Tensor]


class Counted:
    """A function that counts how often rows are computed."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, e: Example) -> Example:
        return {"x": tf.ensure_shape(tf.numpy_function(self.note, [e["x"]], tf.int64), ())}

    def note(self, x: np.ndarray) -> np.ndarray:
        self.rows.append(int(x))
        return x * 10


def counted(where: Any, rows: int = 8, **how: Any) -> tuple["tfjax.Pipeline", Counted]:
    fn = Counted()
    return tfjax.from_arrays({"x": np.arange(rows)}).map(fn).cache(where, **how), fn


def cache_of(pipe: "tfjax.Pipeline") -> RowStore:
    """The cache of the last stage."""
    store = store_of(pipe._chain[-1])
    assert store is not None
    return store


def values(pipe: Any, **how: Any) -> list[Any]:
    with pipe.iterate(**how) as batches:
        return [jax.tree.map(lambda a: np.asarray(a).tolist(), b) for b in batches]


def bits(pipe: Any, **how: Any) -> list[list[tuple[str, bytes]]]:
    """The batches of a run, to the bit."""
    with pipe.iterate(**how) as batches:
        arrays = [[np.asarray(leaf) for leaf in jax.tree.leaves(b)] for b in batches]
    return [
        [(str(a.dtype), repr(a.tolist()).encode() if a.dtype == object else a.tobytes()) for a in b] for b in arrays
    ]


def stats(pipe: Any, **how: Any) -> tuple[int, int]:
    """Hits and misses of a run."""
    with pipe.iterate(**how) as batches:
        for _ in batches:
            pass
        return batches.stats.hits, batches.stats.misses


def wait_whole(path: Any) -> None:
    """Until the cache in a folder has its manifest."""
    deadline = time.monotonic() + 30
    while not os.path.exists(os.path.join(path, "manifest.json")):
        assert time.monotonic() < deadline, f"{sorted(os.listdir(path))} and no manifest"
        time.sleep(0.01)
