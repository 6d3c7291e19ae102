"""MNIST by its TFDS name, globally shuffled, batch 256, decoded and handed to JAX: the first epoch, and later ones.

The first epoch begins with nothing planned, read or cached, and ends with its last batch; names are resolved and files
indexed before, for all contenders. Later epochs have the automatic caches of both.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

import tfjax
from benchmarks import mnist_peers as peers
from benchmarks.consume import consume, row_sums
from benchmarks.data import mnist_dir, mnist_records, write_array_record
from benchmarks.harness import Bench, Contender, Timed, arguments, require_equal
from tfjax._tensorflow import tf
from tfjax.graph.order import Permutation

BATCH = peers.BATCH
TFDS = "tfds.load + as_numpy + device_put"
STEP_S = 0.006
EPOCHS = 3


def load(folder: str, split: str) -> tfjax.Pipeline:
    """A new pipeline, nothing of it planned or cached."""
    return tfjax.load("mnist", split=split, data_dir=folder).shuffle(seed=0).batch(BATCH)


def epoch_of(batches: Callable[[], Iterator[Any]]) -> Timed:
    """Open, and read every byte of what comes."""
    return lambda: consume(batches())


def some_of(batches: Iterator[Any], count: int) -> Timed:
    """Read every byte of the next `count` batches of an iterator that goes on; a third as many are taken before."""
    consume(itertools.islice(batches, count // 3))
    return lambda: consume(itertools.islice(batches, count))


def fetch_alone(pipe: tfjax.Pipeline) -> Callable[[], Timed]:
    """The floor of the first epoch: the shuffled records, neither parsed nor decoded."""
    records = pipe._chain[0].source.records
    order, steps = Permutation(0, len(records)), len(records) // BATCH

    def batch(step: tf.Tensor) -> tf.Tensor:
        positions = step * BATCH + tf.range(BATCH, dtype=tf.int64)
        return records.fetch(order(tf.constant(0, tf.int64), positions)).leaves[0]

    def fetch() -> int:
        ds = tf.data.Dataset.range(steps).map(batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
        return sum(int(x.shape[0]) for x in ds)

    return lambda: fetch


def numpy_gather(rows: dict[str, np.ndarray]) -> Callable[[], Timed]:
    """The floor of later epochs: a permuted gather by NumPy, put on the device."""
    rng = np.random.default_rng(0)

    def batches() -> Iterator[Any]:
        order = rng.permutation(len(rows["label"]))
        for at in range(0, len(order) - BATCH + 1, BATCH):
            yield jax.device_put({k: v[order[at : at + BATCH]] for k, v in rows.items()})

    return lambda: epoch_of(batches)


def best_threads(bench: Bench, path: str) -> int:
    """The number of threads with which Grain is fastest here."""
    steps = bench.size(12, 1)
    threads = {f"{n} threads": n for n in (0, 1, 2, 4, 16)}
    contenders = [Contender(name, _grain_epoch(path, n, steps)) for name, n in threads.items()]
    table = bench.measure("Grain over ArrayRecord by threads", contenders, unit="example", rounds=bench.size(3, 1))
    return threads[min(table, key=lambda name: min(s.per_item_us for s in table[name]))]


def _grain_epoch(path: str, threads: int, steps: int) -> Callable[[], Timed]:
    def open_() -> Timed:
        batches = map(jax.device_put, peers.grain_batches(path, seed=1, threads=threads))
        return some_of(batches, steps)  # its threads start with the first batches, which are not counted

    return open_


def first_epoch(bench: Bench, folder: str, split: str, grain_path: str) -> None:
    """Everything from opening to the last batch."""
    threads = best_threads(bench, grain_path)

    def ours() -> Timed:
        pipe = load(folder, split)
        return epoch_of(lambda: pipe.iterate())

    def tfds_load() -> Timed:
        ds = peers.tfds_dataset(folder, split)
        return epoch_of(lambda: peers.to_device(ds))

    def by_hand() -> Timed:
        ds = peers.hand_tuned(folder, split)
        return epoch_of(lambda: peers.to_device(ds))

    grain_name = f"Grain over ArrayRecord, {threads} threads"
    some = bench.size(40, 2)  # an epoch takes it 7 seconds; figures are an example
    contenders = [
        Contender("tfjax", ours),
        Contender(TFDS, tfds_load),
        Contender("hand-tuned tf.data + device_put", by_hand),
        Contender(grain_name, _grain_epoch(grain_path, threads, some)),
        Contender("fetch alone", fetch_alone(load(folder, split)), floor=True),
    ]
    table = bench.measure("first epoch", contenders, unit="example", rounds=bench.size(7, 1))
    bench.claim_faster("first epoch", table, "tfjax", TFDS, firm=2.8, stretch=4)
    bench.claim_faster("first epoch", table, "tfjax", grain_name, firm=8, stretch=12)


def later_epochs(bench: Bench, folder: str, split: str, rows: dict[str, np.ndarray]) -> None:
    """One epoch after another, the caches full."""
    steps = len(rows["label"]) // BATCH
    pipe = load(folder, split)
    going = pipe.iterate(forever=True)
    consume(itertools.islice(going, steps))
    ds = peers.tfds_dataset(folder, split)
    consume(peers.to_device(ds))
    repeated = peers.to_device(peers.tfds_dataset(folder, split).repeat())
    consume(itertools.islice(repeated, 2 * steps))
    epochs = itertools.count(1)
    contenders = [
        Contender("tfjax", lambda: some_of(going, EPOCHS * steps)),
        Contender("tfjax, a new iterate() each epoch", lambda: _new_iterate(pipe, next(epochs))),
        Contender(TFDS, lambda: epoch_of(lambda: peers.to_device(ds))),
        Contender("the same, repeat() instead of a new iterator", lambda: some_of(repeated, EPOCHS * steps)),
        Contender("NumPy permuted gather + device_put", numpy_gather(rows), floor=True),
    ]
    table = bench.measure("later epochs", contenders, unit="example")
    bench.claim_faster("later epochs", table, "tfjax", TFDS, firm=3, stretch=5)
    going.close()


def _new_iterate(pipe: tfjax.Pipeline, epoch: int) -> Timed:
    return epoch_of(lambda: pipe.iterate(start_epoch=epoch))


def beside_a_step(bench: Bench, folder: str, split: str) -> None:
    """How long a training loop waits for a batch, beside a step that sleeps and beside one of pure Python."""
    steps = bench.size(150, 5)
    for title, step in (("a sleeping step", sleep_step), ("a step of pure Python", python_step)):
        for epoch, warm in (("first epoch", False), ("later epochs", True)):
            contenders = [
                Contender("tfjax", _waiting(lambda: load(folder, split).iterate(forever=True), step, steps, warm)),
                Contender(TFDS, _waiting(lambda: _tfds_forever(folder, split), step, steps, warm)),
                Contender("the step alone", _waiting(lambda: itertools.repeat(None), step, steps, False), floor=True),
            ]
            bench.measure(f"{epoch}, beside {title} of 6 ms: step and wait", contenders, unit="batch", rounds=3)


def _tfds_forever(folder: str, split: str) -> Iterator[Any]:
    return peers.to_device(peers.tfds_dataset(folder, split).repeat())


def _waiting(make: Callable[[], Iterator[Any]], step: Callable[[], None], steps: int, warm: bool) -> Any:
    kept = itertools.islice(make(), 0, None)
    if warm:
        consume(itertools.islice(kept, 2 * 60_000 // BATCH))

    def open_() -> Timed:
        batches = kept if warm else make()
        next(batches)

        def timed() -> int:
            for batch in itertools.islice(batches, steps):
                step()
                del batch
            return steps

        return timed

    return open_


def sleep_step() -> None:
    """A step that leaves the GIL to others, as one on an accelerator does."""
    time.sleep(STEP_S)


def python_step() -> None:
    """A step that holds the GIL."""
    end = time.perf_counter() + STEP_S
    while time.perf_counter() < end:
        pass


def require_same(folder: str, split: str, grain_path: str) -> dict[str, np.ndarray]:
    """Compare what all deliver in an epoch, row by row in any order; the rows as arrays."""
    size = 1000
    rows = list(tfjax.load("mnist", split=split, data_dir=folder).batch(size))
    everything = {k: np.concatenate([np.asarray(b[k]) for b in rows]) for k in rows[0]}
    want = row_sums([everything])
    pipe = tfjax.load("mnist", split=split, data_dir=folder).shuffle(seed=0).batch(size, remainder="keep")
    require_equal("tfjax shuffled and in order", row_sums(pipe), want)
    whole = peers.tfds_dataset(folder, split).unbatch().batch(size)
    left = len(want) % BATCH
    theirs = row_sums(peers.to_device(whole))
    require_equal("rows of tfds.load that are not tfjax's", len(set(theirs) - set(want)), 0)
    require_equal("rows of tfds.load", len(theirs), len(want) - left)
    some = row_sums(itertools.islice(peers.grain_batches(grain_path, seed=1, threads=1), 8))
    require_equal("rows of Grain that are not tfjax's", len(set(some) - set(want)), 0)
    return everything


def main() -> None:
    """Measure both claims, and the waits."""
    options = arguments(__doc__, data_dir="")
    bench = Bench("mnist", "MNIST by its TFDS name, globally shuffled, batch 256", quick=options.quick)
    folder, reason = mnist_dir(options.data_dir)
    if folder is None:
        bench.skip("all of it", reason)
        bench.write()
        return
    split = "train[:4096]" if bench.quick else "train"
    with tempfile.TemporaryDirectory() as scratch:
        grain_path = write_array_record(Path(scratch) / "mnist.array_record", mnist_records(folder))
        rows = require_same(folder, "train", grain_path)
        first_epoch(bench, folder, split, grain_path)
        later_epochs(bench, folder, split, rows)
        beside_a_step(bench, folder, split)
    bench.write()


if __name__ == "__main__":
    main()
