"""What it costs to make a pipeline and get its first batch, over `iter(dataset)` and its first batch.

Each sample makes a new pipeline: nothing of it is planned or traced. A process's very first pipeline also pays for what
TensorFlow and tfjax set up once; that is measured in processes of their own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import tfjax
from benchmarks.harness import Bench, Contender, Table, Timed, arguments, require_equal
from tfjax._tensorflow import tf

ROWS, BATCH = 10_000, 100
_FIRST = """
import time
import benchmarks.bench_planning as bench
way = bench.WAYS[{name!r}]
arrays = bench.arrays()
began = time.perf_counter()
way(arrays)
print(time.perf_counter() - began)
"""
Arrays = dict[str, Any]


def arrays() -> Arrays:
    """Some rows, as TensorFlow holds them, so that no copy is timed."""
    x = np.arange(ROWS * 16, dtype=np.float32).reshape(ROWS, 16)
    return {"x": tf.constant(x), "y": tf.range(ROWS)}


def plain_dataset(rows: Arrays) -> tf.data.Dataset:
    """What a user of tf.data has: one gather a batch."""
    steps = tf.data.Dataset.range(ROWS // BATCH)
    return steps.map(
        lambda step: {
            key: tf.gather(value, step * BATCH + tf.range(BATCH, dtype=tf.int64)) for key, value in rows.items()
        }
    ).prefetch(tf.data.AUTOTUNE)


def from_tf(rows: Arrays) -> Any:
    """`from_tf(dataset)`, its first batch."""
    with tfjax.from_tf(tf.data.Dataset.from_tensors(rows), batched=True).iterate() as batches:
        return next(batches)


def from_arrays(rows: Arrays) -> Any:
    """`from_arrays(...).batch(...)`, its first batch."""
    with tfjax.from_arrays(rows).batch(BATCH).iterate() as batches:
        return next(batches)


def shuffled(rows: Arrays) -> Any:
    """The same, shuffled."""
    with tfjax.from_arrays(rows).shuffle(seed=0).batch(BATCH).iterate() as batches:
        return next(batches)


def mapped(rows: Arrays) -> Any:
    """The same, with a function."""
    pipe = tfjax.from_arrays(rows).shuffle(seed=0).map(lambda e: {**e, "x": e["x"] * 2}).batch(BATCH)
    with pipe.iterate() as batches:
        return next(batches)


def plain_from_tensors(rows: Arrays) -> Any:
    """`iter(dataset)`, its first batch, for `from_tf`."""
    return next(iter(tf.data.Dataset.from_tensors(rows).prefetch(tf.data.AUTOTUNE)))


def plain_gather(rows: Arrays) -> Any:
    """`iter(dataset)`, its first batch, for arrays."""
    return next(iter(plain_dataset(rows)))


WAYS: dict[str, Callable[[Arrays], Any]] = {
    "tfjax.from_tf": from_tf,
    "iter(from_tensors)": plain_from_tensors,
    "tfjax.from_arrays": from_arrays,
    "tfjax.from_arrays.shuffle": shuffled,
    "tfjax.from_arrays.shuffle.map": mapped,
    "iter(range.map(gather))": plain_gather,
}
PEERS = {
    "tfjax.from_tf": "iter(from_tensors)",
    "tfjax.from_arrays": "iter(range.map(gather))",
    "tfjax.from_arrays.shuffle": "iter(range.map(gather))",
}


def repeated(way: Callable[[Arrays], Any], rows: Arrays, times: int) -> Callable[[], Timed]:
    """The way, some times over."""

    def timed() -> int:
        for _ in range(times):
            way(rows)
        return times

    return lambda: timed


def claim(bench: Bench, table: Table) -> None:
    """Milliseconds over the plain dataset, round by round."""
    for ours, peer in PEERS.items():
        over = [(a.per_item_us - b.per_item_us) / 1e3 for a, b in zip(table[ours], table[peer], strict=True)]
        bench.claim(f"{ours}: planning, over {peer}", over, "ms", "at most", 20, 10)


def first_in_process(name: str) -> float:
    """Milliseconds of a way in a new process, imports done."""
    done = subprocess.run([sys.executable, "-c", _FIRST.format(name=name)], capture_output=True, text=True, check=True)
    return round(float(done.stdout.split()[-1]) * 1e3, 1)


def main() -> None:
    """Measure new pipelines in one process, and the first of a process."""
    bench = Bench("planning", "a new pipeline and its first batch", quick=arguments(__doc__).quick)
    rows = arrays()
    require_equal(
        "first batches", np.asarray(from_arrays(rows)["x"]).tolist(), plain_gather(rows)["x"].numpy().tolist()
    )
    contenders = [Contender(name, repeated(way, rows, bench.size(10, 1))) for name, way in WAYS.items()]
    claim(bench, bench.measure("made, planned, first batch delivered, closed", contenders, unit="pipeline"))
    if not bench.quick:
        for name in WAYS:
            bench.fact(f"the first in its process, ms: {name}", sorted(first_in_process(name) for _ in range(3))[1])
    bench.write()


if __name__ == "__main__":
    main()
