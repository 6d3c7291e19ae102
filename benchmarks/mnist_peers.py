"""MNIST by its TFDS name, in the ways that people have today."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import grain
import jax
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from tfjax._tensorflow import tf

BATCH = 256
SHUFFLE_BUFFER = 10_000


def tfds_dataset(folder: str, split: str) -> tf.data.Dataset:
    """`tfds.load` as it ships, with its automatic cache; shuffled, batched, prefetched."""
    ds = tfds.load("mnist", split=split, data_dir=folder)
    return ds.shuffle(SHUFFLE_BUFFER, seed=0).batch(BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def to_device(dataset: tf.data.Dataset) -> Iterator[Any]:
    """One pass: `tfds.as_numpy` and `device_put`."""
    return map(jax.device_put, iter(tfds.as_numpy(dataset)))


def hand_tuned(folder: str, split: str) -> tf.data.Dataset:
    """The same by hand: raw records, shuffled while they are small, parsed and decoded in parallel, no cache."""
    files = tfds.builder("mnist", data_dir=folder).info.splits[split].filepaths
    spec = {"image": tf.io.FixedLenFeature((), tf.string), "label": tf.io.FixedLenFeature((), tf.int64)}

    def decode(record: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_single_example(record, spec)
        image = tf.ensure_shape(tf.io.decode_png(parsed["image"], 1), (28, 28, 1))
        return {"image": image, "label": tf.cast(parsed["label"], tf.int32)}

    records = tf.data.TFRecordDataset(files, buffer_size=8 << 20).shuffle(SHUFFLE_BUFFER, seed=0)
    batches = records.map(decode, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH, drop_remainder=True)
    return batches.prefetch(tf.data.AUTOTUNE)


class DecodeExample(grain.transforms.Map):
    """A serialized tf.train.Example of MNIST to arrays, by protobuf and PIL."""

    def map(self, element: bytes) -> dict[str, np.ndarray]:
        """Parse and decode one record."""
        feature = tf.train.Example.FromString(element).features.feature
        png = feature["image"].bytes_list.value[0]
        image = np.asarray(Image.open(io.BytesIO(png)))[..., None]
        return {"image": image, "label": np.int32(feature["label"].int64_list.value[0])}


def grain_batches(path: str, *, seed: int, threads: int) -> Iterator[Any]:
    """Grain over ArrayRecord: globally shuffled, decoded and batched, on `threads` threads."""
    source = grain.sources.ArrayRecordDataSource([path])
    batches = grain.MapDataset.source(source).shuffle(seed).map(DecodeExample()).batch(BATCH, drop_remainder=True)
    return iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2)))
