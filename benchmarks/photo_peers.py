"""Photos to shuffled batches of crops, in the ways that people have today: iterators without an end."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from typing import Any

import grain
import jax
import numpy as np
import tensorflow_datasets as tfds

from benchmarks.photo_decode import SIDE, Crops, Decoder
from benchmarks.photos import Photos
from tfjax._tensorflow import tf

BATCH = 50
# Batches that a graph holds ready. Where TensorFlow tunes it, it doubles whenever a consumer rests and goes on.
PREFETCH = 4
MEAN, STD = np.array((123.675, 116.28, 103.53), np.float32), np.array((58.395, 57.12, 57.375), np.float32)
Batches = Iterator[Any]
_WORKERS, _EPOCHS = 2, 1_000


def usual_crop(contents: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """Decode, crop and resize, as float32 of 0 to 255."""
    y, x, height, width = tf.unstack(window)
    image = tf.io.decode_jpeg(contents, channels=3)
    return tf.image.resize(image[y : y + height, x : x + width], (SIDE, SIDE))


def scaled_crop(contents: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """The same, as float32 of 0 to 1."""
    return usual_crop(contents, window) / 255


def drawn_crop(contents: tf.Tensor, window: tf.Tensor) -> tf.Tensor:  # noqa: ARG001
    """Draw a window in the graph instead of the one that is given, and normalise by mean and deviation."""
    begin, size, _ = tf.image.sample_distorted_bounding_box(
        tf.io.extract_jpeg_shape(contents),
        tf.zeros((1, 0, 4)),
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    return (usual_crop(contents, tf.concat([begin[:2], size[:2]], 0)) - MEAN) / STD


def flipped_crop(contents: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """The same, flipped at random and normalised."""
    return (tf.image.random_flip_left_right(usual_crop(contents, window)) - MEAN) / STD


def tuned_crop(contents: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """Decode the window alone, colours not smoothed, and keep uint8."""
    image = tf.image.decode_and_crop_jpeg(contents, window, channels=3, fancy_upscaling=False)
    return tf.cast(tf.image.resize(image, (SIDE, SIDE)) + 0.5, tf.uint8)


def tf_data(photos: Photos, windows: np.ndarray, crop: Callable[..., tf.Tensor], *, shuffle: bool = True) -> Batches:
    """A tf.data graph over file names, all of them shuffled; `as_numpy` and `device_put`."""

    def example(path: tf.Tensor, window: tf.Tensor, label: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"image": crop(tf.io.read_file(path), window), "label": label}

    ds = tf.data.Dataset.from_tensor_slices((photos.paths, windows, photos.labels))
    ds = ds.shuffle(len(photos.paths), seed=0) if shuffle else ds
    ds = ds.repeat().map(example, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH, drop_remainder=True)
    return map(jax.device_put, iter(tfds.as_numpy(ds.prefetch(PREFETCH))))


def grain_threads(photos: Photos, windows: np.ndarray, decode: Decoder, threads: int) -> Batches:
    """Grain in this process, on `threads` threads."""
    dataset = grain.MapDataset.source(Crops(photos.paths, windows, decode)).shuffle(seed=0).repeat().batch(BATCH)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    return map(jax.device_put, iter(dataset.to_iter_dataset(options)))


def torch_workers(photos: Photos, windows: np.ndarray, decode: Decoder) -> Batches:
    """DataLoader with two workers, and one epoch after another.

    They come from a server that has imported what this file imports, and runs nothing: a fork of this process hangs.
    """
    from torch.utils.data import DataLoader, RandomSampler

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    crops = Crops(photos.paths, windows, decode)
    order = RandomSampler(crops, num_samples=_EPOCHS * len(crops))
    loader = DataLoader(crops, BATCH, sampler=order, num_workers=_WORKERS, multiprocessing_context=context)
    return (jax.device_put({key: value.numpy() for key, value in batch.items()}) for batch in loader)


def dali(photos: Photos) -> Batches:
    """DALI on the CPU with its own fused op, which draws windows of the same distribution; its buffers are copied."""
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=BATCH, num_threads=_WORKERS, device_id=None)
    def crops() -> Any:
        encoded, label = fn.readers.file(
            files=photos.paths, labels=photos.labels.tolist(), random_shuffle=True, initial_fill=len(photos.paths)
        )
        image = fn.decoders.image_random_crop(
            encoded, random_area=[0.08, 1.0], random_aspect_ratio=[3 / 4, 4 / 3], num_attempts=10
        )
        return fn.resize(image, size=[SIDE, SIDE], interp_type=types.INTERP_LINEAR, antialias=False), label

    pipe = crops()
    pipe.build()
    while True:
        image, label = (np.array(out.as_tensor()) for out in pipe.run())
        yield jax.device_put({"image": image, "label": label[:, 0]})
