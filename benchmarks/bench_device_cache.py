"""CIFAR-like images held on the device, shuffled, cropped, flipped and normalised there, to a jitted step.

The step is one checksum that reads every byte.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import tensorflow_datasets as tfds

import tfjax
from benchmarks.consume import consume, going_on, row_sums
from benchmarks.data import full_batches, photos
from benchmarks.harness import Bench, Contender, arguments, require_equal
from tfjax import on_device
from tfjax._tensorflow import tf

BATCH, SIDE, PADDING, PREFETCH = 500, 32, 4, 4
MEAN, STD = np.array((125.3, 123.0, 113.9), np.float32), np.array((63.0, 62.1, 66.7), np.float32)
# Batches a sample, of those that are fast and of those that are not.
STEPS, SLOW_STEPS, ROUNDS = 200, 40, 9
HELD, IN_MEMORY = "tfjax, cache('device')", "tfjax, images in host memory"
PEER, NUMPY = "tf.data: cache, shuffle, map, batch, prefetch", "NumPy, whole batches + device_put"
Rows = dict[str, np.ndarray]


def augmented(pipe: tfjax.Pipeline, padding: int) -> Iterator[Any]:
    """Shuffled batches, cropped, flipped and normalised under jit."""
    pipe = pipe.shuffle(seed=0).batch(BATCH)
    pipe = pipe.random_device_map(on_device.random_crop("image", SIDE, padding=padding))
    pipe = pipe.random_device_map(on_device.random_flip("image"))
    return pipe.device_map(on_device.normalize("image", MEAN, STD)).iterate(forever=True)


def held(rows: Rows, padding: int = PADDING) -> Iterator[Any]:
    """Images on the device."""
    return augmented(tfjax.from_arrays(rows).cache("device"), padding)


def in_memory(rows: Rows, padding: int = PADDING) -> Iterator[Any]:
    """Each batch handed over."""
    return augmented(tfjax.from_arrays(rows), padding)


def usual(rows: Rows, padding: int = PADDING) -> Iterator[Any]:
    """The usual tf.data graph, `as_numpy` and `device_put`."""

    def augment(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        image = tf.pad(example["image"], [(padding, padding), (padding, padding), (0, 0)])
        image = tf.image.random_flip_left_right(tf.image.random_crop(image, (SIDE, SIDE, 3)))
        return {**example, "image": (tf.cast(image, tf.float32) - MEAN) / STD}

    ds = tf.data.Dataset.from_tensor_slices(rows).cache().shuffle(len(rows["label"]), seed=0).repeat()
    ds = ds.map(augment, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH, drop_remainder=True)
    return map(jax.device_put, iter(tfds.as_numpy(ds.prefetch(PREFETCH))))


def numpy_batches(rows: Rows, padding: int = PADDING) -> Iterator[Any]:
    """The same by NumPy, a batch at a time."""
    rng, side = np.random.default_rng(0), np.arange(SIDE)
    padded = np.pad(rows["image"], [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    while True:
        for index in full_batches(rng.permutation(len(rows["label"])), BATCH):
            y, x = rng.integers(0, 2 * padding + 1, (2, BATCH, 1))
            columns = np.where(rng.random((BATCH, 1)) < 0.5, side, side[::-1]) + x
            image = padded[index[:, None, None], (side + y)[:, :, None], columns[:, None, :]]
            yield jax.device_put({"image": (image - MEAN) / STD, "label": rows["label"][index]})


WAYS = {HELD: held, IN_MEMORY: in_memory, PEER: usual, NUMPY: numpy_batches}


def require_same(rows: Rows) -> None:
    """Without the crop, an epoch of each holds each image once, normalised, and as it was or mirrored."""
    steps = len(rows["label"]) // BATCH
    want = _means((rows["image"] - MEAN) / STD, rows["label"])
    for name, way in WAYS.items():
        batches = list(itertools.islice(way(rows, 0), steps))
        image, label = (np.concatenate([np.asarray(batch[key]) for batch in batches]) for key in ("image", "label"))
        near = np.allclose(_means(image, label), want, atol=1e-4)
        require_equal(f"images of {name}, which are those of the arrays,", bool(near), True)
    plain = tfjax.from_arrays(rows).cache("device").shuffle(seed=0).batch(BATCH)
    require_equal("an epoch of the device cache and the arrays", row_sums(plain), row_sums([rows]))


def _means(image: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The label of each image with the mean of each of its channels, in their order."""
    table = np.concatenate([label[:, None], image.mean((1, 2), dtype=np.float64)], 1)
    return table[np.lexsort(np.round(table, 3).T[::-1])]


def contenders(bench: Bench, rows: Rows) -> list[Contender]:
    """Each goes on from round to round, read by the step."""
    steps = {name: bench.size(SLOW_STEPS if name in (PEER, NUMPY) else STEPS, 3) for name in WAYS}
    return [Contender(name, going_on(way(rows), steps[name], consume)) for name, way in WAYS.items()]


def main() -> None:
    """Compare a small set, then measure."""
    bench = Bench("device_cache", "CIFAR-like images on the device, to a jitted step", quick=arguments(__doc__).quick)
    require_same(photos(2_000))
    rows = photos(bench.size(50_000, 2_000))
    table = bench.measure(
        f"{len(rows['label']):,} images of 3 KiB, cropped, flipped, normalised: read by a step",
        contenders(bench, rows),
        unit="example",
        rounds=bench.size(ROUNDS, 1),
    )
    bench.claim_faster("device cache, augmented", table, HELD, PEER, firm=10)
    bench.claim_faster("device cache, augmented", table, HELD, NUMPY, firm=None)
    bench.write()


if __name__ == "__main__":
    main()
