"""Every byte of a batch read, by one jitted function that is the same for all contenders."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import machine

# How long threads are given to come to rest; what a batch takes at most that was ready; how many are taken for ready.
REST_S, READY_S, LEAST_READY, MOST_READY = 5.0, 0.01, 12, 64
_LANES = 64


@jax.jit
def checksum(total: jax.Array, batch: Any) -> jax.Array:
    """Add the sums of all leaves to `total`, a uint32; they wrap around or round, but every byte has been read.

    A sum runs down 64 columns in the leaf's own dtype, which XLA on CPU does at the speed of memory; one sum over all,
    or over floats taken as integers, takes it 10 to 20 times as long.
    """
    for leaf in jax.tree.leaves(batch):
        total = total + _sum(leaf)
    return total


def _sum(leaf: jax.Array) -> jax.Array:
    columns = leaf.reshape(-1, _LANES) if leaf.size % _LANES == 0 else leaf.reshape(-1, 1)
    found = columns.sum(axis=0, dtype=leaf.dtype).sum()
    return found.astype(jnp.uint32) if jnp.issubdtype(leaf.dtype, jnp.integer) else found.view(jnp.uint32)


def zero() -> jax.Array:
    """The checksum of nothing."""
    return jnp.zeros((), jnp.uint32)


def consume(batches: Iterable[Any]) -> int:
    """Read every byte of every batch; how many rows there were."""
    total, rows = zero(), 0
    for batch in batches:
        total = checksum(total, batch)
        rows += len(jax.tree.leaves(batch)[0])
        del batch
    jax.block_until_ready(total)
    return rows


def wait_for(batch: dict[str, jax.Array]) -> None:
    """Wait for every leaf to be there: `jax.block_until_ready` takes 3 us more for its walk over the tree."""
    for leaf in batch.values():
        leaf.block_until_ready()


def receive(batches: Iterable[Any]) -> int:
    """Wait for every batch to be there, without reading it; how many rows there were."""
    rows = 0
    for batch in batches:
        jax.block_until_ready(batch)
        rows += len(jax.tree.leaves(batch)[0])
        del batch
    return rows


def going_on(
    batches: Iterator[Any], steps: int, how: Callable[[Iterable[Any]], int] = receive
) -> Callable[[], Callable[[], int]]:
    """What a `Contender` opens: the next `steps` batches of an iterator without an end.

    A sample begins when its threads rest and what they made ready has been used up, so that as much is unfinished at
    its beginning as at its end.
    """

    def open_() -> Callable[[], int]:
        machine.wait_until_idle(REST_S)
        for taken in range(MOST_READY):
            began = time.perf_counter()
            how(itertools.islice(batches, 1))
            if time.perf_counter() - began > READY_S and taken >= min(LEAST_READY, steps):
                break
        return lambda: how(itertools.islice(batches, steps))

    return open_


def put(batches: Iterator[Any]) -> Iterator[Any]:
    """Each pytree of NumPy arrays put on the default device: the usual `jax.device_put` a batch."""
    for batch in batches:
        yield jax.device_put(batch)


def row_sums(batches: Iterable[Any], image: str = "image", label: str = "label") -> list[tuple[int, int]]:
    """(sum of the image, label) of every row, sorted: the same for the same rows in any order."""
    found: list[tuple[int, int]] = []
    for batch in batches:
        pixels = np.asarray(batch[image]).reshape(len(batch[image]), -1)
        weights = np.arange(1, pixels.shape[1] + 1, dtype=np.int64)
        sums = pixels.astype(np.int64) @ weights
        found += zip(sums.tolist(), np.asarray(batch[label]).tolist(), strict=True)
    return sorted(found)
