"""What the benchmarks read: prepared TFDS data, record files, arrays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfjax._tensorflow import tf

RUNS = Path("runs")
_PREPARE = Path("../shared/data/prepare_tfds.py")


def mnist_dir(data_dir: str) -> tuple[str | None, str]:
    """A TFDS data_dir that holds MNIST, prepared from files beside the project where that is needed.

    Args:
        data_dir: where to look first; empty: runs/tfds.

    Returns:
        The folder, or None with the reason.
    """
    folder = Path(data_dir) if data_dir else RUNS / "tfds"
    if (folder / "mnist").is_dir():
        return str(folder), ""
    if not _PREPARE.is_file():
        return None, f"{folder} holds no mnist, and {_PREPARE} does not exist"
    command = [sys.executable, str(_PREPARE), str(folder), "mnist"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        return None, f"{_PREPARE} ended with {done.returncode}: {done.stderr[-200:]}"
    return str(folder), ""


def mnist_records(folder: str) -> list[bytes]:
    """The serialized examples of MNIST's training split."""
    files = sorted(Path(folder).glob("mnist/*/mnist-train.tfrecord*"))
    return list(tf.data.TFRecordDataset([str(f) for f in files]).as_numpy_iterator())


def write_array_record(path: Path, records: list[bytes]) -> str:
    """Write records as one uncompressed ArrayRecord file of groups of one, its fastest form for random access."""
    from array_record.python import array_record_module

    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    for record in records:
        writer.write(record)
    writer.close()
    return str(path)


def write_tfrecord(path: Path, records: list[bytes]) -> str:
    """Write records as one TFRecord file."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return str(path)


def random_records(count: int, size: int) -> list[bytes]:
    """Records of about `size` bytes each that are `tf.train.Example`s of one bytes feature, `x`."""
    rng = np.random.default_rng(0)
    return [_example(rng.bytes(size)) for _ in range(count)]


def _example(value: bytes) -> bytes:
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    serialized: bytes = tf.train.Example(features=tf.train.Features(feature={"x": feature})).SerializeToString()
    return serialized


def photos(count: int) -> dict[str, np.ndarray]:
    """Images {"image": (count, 32, 32, 3) uint8, "label": (count,) int32}, as CIFAR has them."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
    return {"image": image, "label": rng.integers(0, 10, count, np.int32)}


def full_batches(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Slices of `order` of `size` each; what is left over is dropped."""
    for start in range(0, len(order) - size + 1, size):
        yield order[start : start + size]


def arrays_of(batches: Any) -> Iterator[Any]:
    """What yields dicts of anything array-like, as dicts of NumPy arrays."""
    for batch in batches:
        yield {key: np.asarray(value) for key, value in batch.items()}
