"""A CNN in Flax nnx on record files that are larger than the memory the process may use.

python examples/larger_than_memory_nnx.py --epochs 2 --megabytes 2000 --checkpoint-dir runs/larger

The records stay in their file, which is mapped into memory; the order is a permutation of all of them, and what is
held does not grow with the file. The limit is one of private memory, as Linux has it: pages of mapped files are not in
it, since the system takes them back when it needs them.

A run that was stopped goes on from its last checkpoint when the same command is given again.
"""

import argparse
import pathlib
import resource
import sys
import tempfile

import jax
import numpy as np
import optax
import tensorflow as tf
from flax import nnx

import tfjax
from tfjax import on_device
from tfjax.frameworks.nnx import create_state, eval_step, train_step
from tfjax.training import Callback, classification, cross_entropy

SIDE, CLASSES = 64, 4
FEATURES = {"image": tf.io.FixedLenFeature((), tf.string), "label": tf.io.FixedLenFeature((), tf.int64)}


class CNN(nnx.Module):
    """Images (batch, SIDE, SIDE, 3) to logits (batch, CLASSES)."""

    def __init__(self, *, rngs):  # noqa: D107
        self.conv1 = nnx.Conv(3, 8, (4, 4), strides=(4, 4), rngs=rngs)
        self.conv2 = nnx.Conv(8, 16, (4, 4), strides=(4, 4), rngs=rngs)
        self.dense = nnx.Linear((SIDE // 16) ** 2 * 16, CLASSES, rngs=rngs)

    def __call__(self, x):  # noqa: D102
        x = nnx.relu(self.conv2(nnx.relu(self.conv1(x))))
        return self.dense(x.reshape(len(x), -1))


def write(path, megabytes):
    """Records of noise, a fourth of each image a little brighter: which one is the label."""
    rng, band = np.random.default_rng(0), SIDE // CLASSES
    with tf.io.TFRecordWriter(str(path)) as writer:
        for label in rng.integers(0, CLASSES, megabytes * 10**6 // (SIDE * SIDE * 3)):
            image = rng.integers(0, 128, (SIDE, SIDE, 3), np.uint8)
            image[label * band :][:band] += 16
            values = {
                "image": {"bytes_list": {"value": [image.tobytes()]}},
                "label": {"int64_list": {"value": [label]}},
            }
            writer.write(tf.train.Example(features={"feature": values}).SerializeToString())


def decode(example):
    """Bytes to uint8 (SIDE, SIDE, 3)."""
    return {**example, "image": tf.reshape(tf.io.decode_raw(example["image"], tf.uint8), (SIDE, SIDE, 3))}


def private_megabytes(name):
    """A line of /proc/self/status: "RssAnon" is what is in memory, "VmData" what the limit is of."""
    lines = pathlib.Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 // 10**6 for line in lines if line.startswith(f"{name}:"))


class Limited(Callback):
    """Lets the process take so much more from the first update to the end; `peak` is what it took since the start."""

    def __init__(self, more):  # noqa: D107
        self.more, self.start, self.peak, self.before = more, private_megabytes("RssAnon"), 0, None

    def on_step(self, run, row):  # noqa: D102, ARG002
        if self.before is None:
            self.before = resource.getrlimit(resource.RLIMIT_DATA)
            allowed = (private_megabytes("VmData") + self.more) * 10**6
            resource.setrlimit(resource.RLIMIT_DATA, (allowed, self.before[1]))
        self.peak = max(self.peak, private_megabytes("RssAnon") - self.start)

    def on_end(self, run):  # noqa: D102, ARG002
        if self.before:
            resource.setrlimit(resource.RLIMIT_DATA, self.before)


def main(args, path):
    """Write, train with limited memory, and say what was taken."""
    write(path, args.megabytes)
    limited = Limited(args.limit_megabytes)
    parts = tfjax.from_records(path, FEATURES, memory_bytes=0).map(decode)  # by default it holds 1 GiB
    parts = parts.split({"train": 0.9, "test": 0.1}, seed=0)
    normalize, device = on_device.normalize("image", (66.0,) * 3, (37.0,) * 3), jax.devices()[0]
    train = parts["train"].shuffle(seed=0).batch(128).device_map(normalize).place(device)
    test = parts["test"].batch(128, remainder="pad").device_map(normalize).place(device)

    state = create_state(lambda _, rngs: CNN(rngs=rngs), optax.adam(3e-3), train.spec, seed=0)
    step, evaluate = train_step(cross_entropy()), (eval_step(classification()), test)
    where = {"checkpoint_dir": args.checkpoint_dir, "callbacks": [limited]}
    state, history = tfjax.fit(step, state, train, epochs=args.epochs, evaluate=evaluate, **where)
    print(f"{path.stat().st_size // 10**6} MB of records, at most {limited.peak} MB more than at the start")
    print(f"larger_than_memory: test accuracy {history.evaluations[-1]['accuracy']:.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--megabytes", type=int, default=600, help="of the record file")
    parser.add_argument("--limit-megabytes", type=int, default=300, help="of private memory, beyond the first update")
    parser.add_argument("--checkpoint-dir", type=pathlib.Path, help="a folder for the checkpoints of this run")
    given = parser.parse_args()
    if sys.platform != "linux":
        parser.error("the limit and the figures are those of Linux")
    with tempfile.TemporaryDirectory() as folder:
        main(given, pathlib.Path(folder) / "data.tfrecord")
