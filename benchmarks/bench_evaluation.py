"""Photos of 1280 pixels to a short side of 256, antialiased, and the 224 in the middle: how fast, and how near.

CPU time of all threads is what is claimed. Batches are waited for, and not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorflow_datasets as tfds

import tfjax
from benchmarks.consume import going_on
from benchmarks.harness import Bench, Contender, arguments, require_equal
from benchmarks.photo_decode import decode_whole, why_missing
from benchmarks.photos import LARGE, SIDE, Photos, photos, why_no_photos
from tfjax import image
from tfjax._tensorflow import tf

BATCH, SHORT, PREFETCH = 20, 256, 2
# Batches a sample: each photo once.
STEPS, ROUNDS = 10, 5
OURS, WHOLE = "tfjax, decoded at a half", "tfjax, decoded whole"
PEER, DECODE = "tf.data: decode, resize(antialias=True), crop", "simplejpeg: full decode, one thread"


def ours(found: Photos, min_short_side: int | None) -> tfjax.Pipeline:
    """uint8 batches, in order."""
    ops = (image.Decode(min_short_side=min_short_side), image.ResizeShortSide(SHORT, antialias=True))
    files = tfjax.from_files(found.paths, label=found.labels).apply(*ops, image.CenterCrop(SIDE))
    return files.batch(BATCH).options(prefetch_batches=PREFETCH)


def usual(found: Photos) -> tf.data.Dataset:
    """float32 batches of 0 to 255, in the same order."""

    def example(path: tf.Tensor, label: tf.Tensor) -> dict[str, tf.Tensor]:
        photo = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        size = tf.shape(photo)[:2]
        size = size * SHORT // tf.reduce_min(size)
        small = tf.image.resize(photo, size, antialias=True)
        y, x = tf.unstack((size - SIDE) // 2)
        return {"image": tf.ensure_shape(small[y : y + SIDE, x : x + SIDE], (SIDE, SIDE, 3)), "label": label}

    ds = tf.data.Dataset.from_tensor_slices((found.paths, found.labels)).repeat()
    ds = ds.map(example, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH, drop_remainder=True)
    return ds.prefetch(PREFETCH)


def delivered(dataset: tf.data.Dataset) -> Iterator[Any]:
    """`as_numpy` and `device_put`."""
    return map(jax.device_put, iter(tfds.as_numpy(dataset)))


def similarity(found: Photos) -> np.ndarray:
    """The SSIM of each of our photos to the usual one, float (photos,); both come in the same order."""
    steps, values = len(found.paths) // BATCH, []
    for mine, theirs in zip(ours(found, SHORT), delivered(usual(found).take(steps)), strict=True):
        require_equal("labels", np.asarray(mine["label"]).tolist(), np.asarray(theirs["label"]).tolist())
        pair = (tf.constant(np.asarray(b["image"], np.float32)) for b in (mine, theirs))
        values.append(tf.image.ssim(*pair, max_val=255).numpy())
    return np.concatenate(values)


def full_decode(found: Photos) -> list[Contender]:
    """libjpeg-turbo alone, of bytes in memory."""
    if why_missing("simplejpeg"):
        return []
    held = [Path(path).read_bytes() for path in found.paths]
    return [Contender(DECODE, lambda: lambda: len([decode_whole(jpeg) is None for jpeg in held]), floor=True)]


def main() -> None:
    """Compare the photos, then measure."""
    bench = Bench("evaluation", f"1280 px photos to {SHORT} and {SIDE}, antialiased", quick=arguments(__doc__).quick)
    if reason := why_no_photos():
        bench.skip("all of it", reason)
        bench.write()
        return
    found = photos(LARGE, bench.size(200, 20))
    bench.fact("photos", found.about)
    near, steps = similarity(found), bench.size(STEPS, 1)
    low, tenth = float(near.min()), float(np.quantile(near, 0.1))
    bench.fact("SSIM", f"mean {near.mean():.4f}, lowest {low:.4f}, 10th percentile {tenth:.4f}")
    bench.claim("evaluation: mean SSIM to resize(antialias=True)", [float(near.mean())], "", "at least", 0.98)
    contenders = [
        Contender(OURS, going_on(ours(found, SHORT).iterate(forever=True), steps)),
        Contender(WHOLE, going_on(ours(found, None).iterate(forever=True), steps)),
        Contender(PEER, going_on(delivered(usual(found)), steps)),
        *full_decode(found),
    ]
    table = bench.measure("evaluation", contenders, unit="photo", rounds=bench.size(ROUNDS, 1))
    bench.claim_cheaper("evaluation", table, OURS, PEER, firm=2)
    bench.write()


if __name__ == "__main__":
    main()
