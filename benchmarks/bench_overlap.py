"""Producing a batch while a step runs: a step as long as the producer, and one that holds Python's lock.

The share is max(producer, step) over what a batch and its step take together; 1 is perfect, a serial loop has 0.5. The
step sleeps, as one on an accelerator does; the second table's step is pure Python.
"""

from __future__ import annotations

import gc
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import grain
import jax
import numpy as np
import tensorflow_datasets as tfds
from flax import jax_utils

import tfjax
from benchmarks import machine
from benchmarks.consume import wait_for
from benchmarks.harness import PATIENCE_S, Bench, arguments, spread
from tfjax._tensorflow import tf

BATCH, LARGE_BATCH, ROWS, SIDE = 64, 256, 512, 128
RECORD_BYTES = 8 * SIDE * SIDE * 3
PYTHON_STEP_S = 0.02
BARE = "in the graph: bare next(iterator), no thread of Python"
Batches = Iterator[dict[str, jax.Array]]


def rows() -> dict[str, np.ndarray]:
    """Images in memory."""
    rng = np.random.default_rng(0)
    return {"image": rng.integers(0, 256, (ROWS, SIDE, SIDE, 3), np.uint8), "label": np.arange(ROWS, dtype=np.int32)}


def blurred(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Something that takes the graph a while."""
    image = tf.image.resize(tf.image.resize(example["image"], (96, 96)), (SIDE, SIDE))
    return {"image": tf.cast(image, tf.uint8), "label": example["label"]}


def graph_of(data: dict[str, np.ndarray]) -> tfjax.Pipeline:
    """Rows in memory and a function that takes the graph a while."""
    return tfjax.from_arrays(data).shuffle(0).map(blurred)


def in_graph(data: dict[str, np.ndarray]) -> tf.data.Dataset:
    """The same by hand, for the peers."""
    ds = tf.data.Dataset.from_tensor_slices(data).repeat()
    return ds.map(blurred, num_parallel_calls=tf.data.AUTOTUNE).batch(LARGE_BATCH).prefetch(tf.data.AUTOTUNE)


def read_by_python(folder: str) -> tfjax.Pipeline:
    """Records of one image each, memory-mapped and fetched by one Python call a batch, then parsed."""
    path = os.path.join(folder, "images.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for i in range(ROWS):
            value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[os.urandom(RECORD_BYTES)]))
            number = tf.train.Feature(int64_list=tf.train.Int64List(value=[i]))
            features = tf.train.Features(feature={"image": value, "label": number})
            writer.write(tf.train.Example(features=features).SerializeToString())
    spec = {"image": tf.io.FixedLenFeature((), tf.string), "label": tf.io.FixedLenFeature((), tf.int64)}

    def pixels(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        image = tf.ensure_shape(tf.io.decode_raw(example["image"], tf.uint8), (RECORD_BYTES,))
        return {"image": image, "label": example["label"]}

    return tfjax.from_records(path, spec, memory_bytes=0).map(pixels)


def sources(folder: str) -> dict[str, Callable[[], Batches]]:
    """Our pipelines over each kind of source, for ever."""
    data = rows()

    def forever(pipe: tfjax.Pipeline, size: int = BATCH) -> Callable[[], Batches]:
        return lambda: pipe.batch(size).iterate(forever=True)

    images = {"image": np.repeat(data["image"], 4, axis=1), "label": data["label"]}
    plain = tfjax.from_arrays(images).shuffle(0)
    cached = tfjax.from_arrays(images).map(lambda e: dict(e)).cache("memory").shuffle(0)
    return {
        "array": forever(plain, LARGE_BATCH),
        "cache": forever(cached, LARGE_BATCH),
        "in the graph": forever(graph_of(data), LARGE_BATCH),
        "Python fetch": forever(read_by_python(folder).shuffle(0)),
    }


def peers() -> dict[str, Callable[[], Batches]]:
    """The work of "in the graph", handed over by others."""
    data = rows()

    def by_flax() -> Batches:
        ahead = (jax.tree.map(lambda x: x[None], b) for b in tfds.as_numpy(in_graph(data)))
        return jax_utils.prefetch_to_device(ahead, 2, jax.local_devices()[:1])

    def by_grain() -> Batches:
        numbers = grain.MapDataset.range(ROWS).repeat().batch(LARGE_BATCH)
        images = numbers.map(lambda at: {"image": np.repeat(data["image"][at], 4, axis=1), "label": at})
        # Its default is 500 batches ahead, which are 25 GB here.
        ahead = images.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))
        return iter(grain.experimental.device_put(ahead, jax.devices()[0]))

    def bare() -> Batches:
        # Whatever this costs a step is the cost of two busy cores: no thread of Python runs beside it.
        return ({} for _ in graph_of(data).batch(LARGE_BATCH).to_tf(epochs=10**6))

    return {
        BARE: bare,
        "in the graph: as_numpy + device_put, serial": lambda: map(jax.device_put, iter(tfds.as_numpy(in_graph(data)))),
        "in the graph: flax prefetch_to_device": by_flax,
        "array: grain.experimental.device_put": by_grain,
    }


def seconds(items: Batches, count: int, step: Callable[[], None] | None = None) -> tuple[float, float]:
    """A batch with its step, and the step alone, on average; some batches that may be ready are taken before."""
    for _ in range(8):
        wait_for(next(items))
    stepping, began = 0.0, time.perf_counter()
    for batch in itertools.islice(items, count):
        wait_for(batch)
        if step:
            before = time.perf_counter()
            step()
            stepping += time.perf_counter() - before
        del batch
    return (time.perf_counter() - began) / count, stepping / count


def python_work() -> Callable[[], None]:
    """A step of pure Python that never gives up the lock of its own accord: the same work each time, about 20 ms."""

    def work(count: int) -> None:
        total = 0
        for i in range(count):
            total ^= i

    began = time.perf_counter()
    work(10**6)
    count = round(PYTHON_STEP_S / (time.perf_counter() - began) * 10**6)
    return lambda: work(count)


def alone(step: Callable[[], None], count: int) -> float:
    """Seconds of a step with nothing beside it."""
    began = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - began) / count


def beside_sleep(items: Batches, count: int) -> tuple[float, float]:
    """max(producer, step) over both together, and the producer's milliseconds a batch."""
    producer, _ = seconds(items, count)
    both, step = seconds(items, count, lambda: time.sleep(producer))
    return max(producer, step) / both, producer * 1e3


def beside_python(open_items: Callable[[], Batches], count: int, step: Callable[[], None]) -> float:
    """Per cent that a batch and its step take over the step alone, which is timed before and after."""
    before = alone(step, count)
    items = open_items()
    both, _ = seconds(items, count, step)
    close(items)
    return (both / ((before + alone(step, count)) / 2) - 1) * 100


def main() -> None:
    """Each source and each peer in turn, round by round; each is opened anew, so that no other one runs beside it."""
    bench = Bench("overlap", "production beside a step", quick=arguments(__doc__).quick)
    with tempfile.TemporaryDirectory(prefix=Path(__file__).stem) as folder:
        ours = sources(folder)
        ways = {**ours, **peers()}
        shares: dict[str, list[float]] = {name: [] for name in ways}
        producers: dict[str, list[float]] = {name: [] for name in ways}
        excess: dict[str, list[float]] = {name: [] for name in ways}
        step = python_work()
        for number in range(bench.rounds):
            for name in list(ways) if number % 2 else reversed(list(ways)):
                machine.wait_until_quiet(0 if bench.quick else PATIENCE_S)
                items = ways[name]()
                share, producer_ms = beside_sleep(items, bench.size(60, 4))
                shares[name].append(share)
                producers[name].append(producer_ms)
                close(items)
                excess[name].append(beside_python(ways[name], bench.size(40, 4), step))
        report(bench, ours, producers, shares, excess)
        bench.write()


def close(items: Batches) -> None:
    """End the threads of an iterator."""
    if hasattr(items, "close"):
        items.close()
    del items
    gc.collect()


def report(
    bench: Bench,
    ours: Collection[str],
    producers: dict[str, list[float]],
    shares: dict[str, list[float]],
    excess: dict[str, list[float]],
) -> None:
    """Facts and claims; those of the peers have no target."""
    for name, found in producers.items():
        low, middle, high = spread(found)
        bench.fact(f"{name}: producer alone, ms a batch", f"{middle:.1f} ({low:.1f} to {high:.1f})")
    for name, found in shares.items():
        targets = (None, None) if name not in ours else (0.85, None) if name == "Python fetch" else (0.96, 0.985)
        bench.claim(f"{name}: share of max(producer, sleeping step)", found, "", "at least", *targets)
    for name, found in excess.items():
        firm = 5 if name in ours and name != "Python fetch" else None
        bench.claim(f"{name}: over a step of pure Python", found, "%", "at most", firm)
    added = [a - b for a, b in zip(excess["in the graph"], excess[BARE], strict=True)]
    bench.claim("in the graph: the same, on top of a bare next(iterator)", added, "points", "at most", None)


if __name__ == "__main__":
    main()
