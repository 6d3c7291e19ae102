"""A shuffled epoch over images in memory, as CIFAR has them: uint8 32x32x3 and a label, batch 500, handed to JAX."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import grain
import jax
import numpy as np
import tensorflow_datasets as tfds

import tfjax
from benchmarks.consume import consume, receive, row_sums
from benchmarks.data import full_batches, photos
from benchmarks.harness import Bench, Contender, Timed, arguments, require_equal
from tfjax._tensorflow import tf

BATCH = 500
SHUFFLE_BUFFER = 10_000
SLICES = "slices.shuffle.batch + as_numpy + device_put"
TUNED = "slices.shuffle.repeat.batch.prefetch + the same"
FLOOR, PUT = "NumPy permuted gather", "NumPy permuted gather + device_put"
ROUNDS = 11
# Epochs a sample, and batches a sample of those that are 20 times slower; a third as many are taken before it.
EPOCHS, SLOW_STEPS = 3, 30
Rows = dict[str, np.ndarray]


def ours(rows: Rows) -> Iterator[Any]:
    """One iterator over all epochs, as `iterate(epochs=)` gives it."""
    return tfjax.from_arrays(rows).shuffle(seed=0).batch(BATCH).iterate(forever=True)


def slices(rows: Rows) -> Iterator[Any]:
    """The usual tf.data graph, and a new iterator an epoch, as `for batch in ds` makes one."""
    ds = tf.data.Dataset.from_tensor_slices(rows).shuffle(SHUFFLE_BUFFER, seed=0).batch(BATCH, drop_remainder=True)
    for _ in itertools.count():
        yield from map(jax.device_put, iter(tfds.as_numpy(ds)))


def tuned_slices(rows: Rows) -> Iterator[Any]:
    """The same with a thread that prefetches, and one iterator over all epochs."""
    ds = tf.data.Dataset.from_tensor_slices(rows).shuffle(SHUFFLE_BUFFER, seed=0).repeat()
    ds = ds.batch(BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    return map(jax.device_put, iter(tfds.as_numpy(ds)))


def grain_map_dataset(rows: Rows) -> Iterator[Any]:
    """Grain's in-memory form: globally shuffled, one Python call an example.

    Its default of 16 threads is slower here, and 500 batches made ahead would be counted as made in no time.
    """

    class Source:
        def __len__(self) -> int:
            return len(rows["label"])

        def __getitem__(self, index: int) -> Rows:
            return {key: value[index] for key, value in rows.items()}

    dataset = grain.MapDataset.source(Source()).shuffle(0).repeat().batch(BATCH)
    return map(jax.device_put, iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=8))))


def torch_loader(rows: Rows) -> Iterator[Any]:
    """DataLoader in this process with whole batches from one index call, which is its fastest way in memory."""
    import torch
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

    dataset = TensorDataset(torch.from_numpy(rows["image"]), torch.from_numpy(rows["label"]))
    batches = BatchSampler(RandomSampler(dataset), BATCH, drop_last=True)
    loader = DataLoader(dataset, sampler=batches, batch_size=None)
    for _ in itertools.count():
        for image, label in loader:
            yield jax.device_put({"image": image.numpy(), "label": label.numpy()})


def torch_usual(rows: Rows) -> Iterator[Any]:
    """DataLoader as its tutorial has it: shuffle=True, examples collated one by one."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    dataset = TensorDataset(torch.from_numpy(rows["image"]), torch.from_numpy(rows["label"]))
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True, drop_last=True)
    for _ in itertools.count():
        for image, label in loader:
            yield jax.device_put({"image": image.numpy(), "label": label.numpy()})


def numpy_gather(rows: Rows) -> Iterator[Any]:
    """A permutation, and `np.take` a batch; not handed to JAX."""
    rng = np.random.default_rng(0)
    for _ in itertools.count():
        for index in full_batches(rng.permutation(len(rows["label"])), BATCH):
            yield {key: np.take(value, index, axis=0) for key, value in rows.items()}


def numpy_put(rows: Rows) -> Iterator[Any]:
    """The same, put on the device."""
    return map(jax.device_put, numpy_gather(rows))


def contenders(bench: Bench, rows: Rows, how: Any) -> list[Contender]:
    """All of them, each an iterator that goes on from round to round."""
    ways = {"tfjax": ours, SLICES: slices, TUNED: tuned_slices, "Grain MapDataset + device_put": grain_map_dataset}
    try:
        import torch  # noqa: F401
    except ImportError:
        bench.skip("torch DataLoader", "torch is not installed: it is no dependency, install it to compare")
    else:
        ways["torch DataLoader, whole batches"] = torch_loader
        ways["torch DataLoader, shuffle=True"] = torch_usual
    ways |= {PUT: numpy_put, FLOOR: numpy_gather}
    steps = len(rows["label"]) // BATCH
    slow = {name for name in ways if name.startswith(("Grain", "torch"))}

    def opener(name: str) -> Any:
        batches = ways[name](rows)
        return lambda: _some(batches, SLOW_STEPS if name in slow else EPOCHS * steps, how)

    return [Contender(name, opener(name), floor=name == FLOOR) for name in ways]


def _some(batches: Iterator[Any], count: int, how: Any) -> Timed:
    how(itertools.islice(batches, count // EPOCHS))  # what threads made ready since the last sample
    return lambda: how(itertools.islice(batches, count))


def require_same(rows: Rows) -> None:
    """An epoch of tfjax holds each row once; so does one of the usual graph."""
    want, steps = row_sums([rows]), len(rows["label"]) // BATCH
    for name, way in (("tfjax", ours), (SLICES, slices), (PUT, numpy_put)):
        require_equal(f"an epoch of {name} and the arrays", row_sums(itertools.islice(way(rows), steps)), want)


def main() -> None:
    """Measure batches waited for, and batches read."""
    bench = Bench("memory_epoch", "a shuffled epoch of images in memory", quick=arguments(__doc__).quick)
    rows = photos(bench.size(50_000, 2_000))
    require_same(rows)
    for title, how in (("delivered", receive), ("delivered and read (jitted checksum)", consume)):
        table = bench.measure(
            f"{len(rows['label']):,} rows of 3 KiB, batch {BATCH}: {title}",
            contenders(bench, rows, how),
            unit="example",
            rounds=bench.size(ROUNDS, 1),
        )
        bench.claim_faster(f"shuffled epoch in memory, {title}", table, "tfjax", SLICES, firm=6)
        bench.claim_faster(f"shuffled epoch in memory, {title}", table, "tfjax", TUNED, firm=None)
        bench.claim_within(f"shuffled epoch in memory, {title}", table, "tfjax", FLOOR, firm=1.6, stretch=1.2)
    bench.write()


if __name__ == "__main__":
    main()
