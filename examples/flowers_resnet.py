"""A small ResNet in Flax linen on a folder of photos: cropped and flipped in the graph, mixed on the device.

python examples/flowers_resnet.py --photos DIR --epochs 80 --checkpoint flowers.msgpack

DIR has a subfolder of images for each class, as TensorFlow's flower_photos. A run that was stopped goes on from its
checkpoint with the batch that comes next. `tfjax.recipes.images` has most of these stages in one call.
"""

import argparse
import pathlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import serialization
from flax.training.train_state import TrainState

import tfjax
from tfjax import image, on_device

MEAN, STD = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)  # of ImageNet


class ResNet(nn.Module):
    """Images (batch, side, side, 3) to logits (batch, classes)."""

    classes: int

    @nn.compact
    def __call__(self, x, *, train):  # noqa: D102
        conv = partial(nn.Conv, kernel_size=(3, 3), use_bias=False)
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
        x = nn.relu(norm()(conv(16, strides=2)(x)))
        for features in (16, 32, 64):
            strides = features // x.shape[-1]
            shortcut = norm()(nn.Conv(features, (1, 1), strides, use_bias=False)(x))
            x = nn.relu(norm()(conv(features, strides=strides)(x)))
            x = nn.relu(norm()(conv(features)(x)) + shortcut)
        return nn.Dense(self.classes)(x.mean((1, 2)))


class State(TrainState):
    """Parameters, optimizer, and the running statistics of BatchNorm."""

    batch_stats: Any


def pipelines(photos, side, batch_size):
    """Training, augmented, and validation, which never is; each photo is in one of them."""
    parts, device = photos.split({"train": 0.8, "val": 0.2}, seed=0), jax.devices()[0]
    train = (
        parts["train"]
        .shuffle(seed=0)
        .apply(image.Decode(), image.RandomResizedCrop(side, scale=(0.25, 1)), image.RandomFlip())
        .batch(batch_size)
        .device_map(on_device.one_hot("label", len(photos.info.classes)))
        .random_device_map(on_device.mixup("image", "label", alpha=0.4))
        .device_map(on_device.normalize("image", MEAN, STD))
        .place(device)
    )
    val = (
        parts["val"]
        .apply(image.Decode(min_short_side=side), image.ResizeShortSide(side), image.CenterCrop(side))
        .cache("memory")  # decoded once for the evaluations of all epochs
        .batch(batch_size, remainder="pad")
        .device_map(on_device.normalize("image", MEAN, STD))
        .place(device)
    )
    return train, val


@partial(jax.jit, donate_argnames="state")
def train_step(state, batch):
    """One step; the old values are donated."""

    def loss_fn(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, changed = state.apply_fn(variables, batch["image"], train=True, mutable=["batch_stats"])
        return optax.softmax_cross_entropy(logits, batch["label"]).mean(), changed

    (loss, changed), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    return state.apply_gradients(grads=grads, **changed), loss


@jax.jit
def count_correct(state, batch):
    """How many of the real rows are right, and how many there are."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    predicted = state.apply_fn(variables, batch["image"], train=False).argmax(-1)
    return jnp.sum((predicted == batch["label"]) & batch["mask"]), jnp.sum(batch["mask"])


def evaluated(state, val):
    """The share of right ones as text."""
    correct, total = map(sum, zip(*(count_correct(state, batch) for batch in val), strict=True))
    return f"validation accuracy {correct / total:.1%} of {total} photos"


def save(path, run):
    """Write a checkpoint, whole or not at all."""
    part = path.with_suffix(".part")
    part.write_bytes(serialization.to_bytes(run))
    part.rename(path)


def main(args):
    """Train, evaluate after each epoch, and keep a checkpoint."""
    photos = tfjax.from_folder(args.photos, ignore="*.md")
    train, val = pipelines(photos, args.side, args.batch_size)
    model = ResNet(len(photos.info.classes))
    variables = model.lazy_init(jax.random.key(0), train.spec["image"], train=False)
    optimizer = optax.adamw(optax.cosine_decay_schedule(3e-3, args.epochs * len(train)), weight_decay=1e-2)
    run = {"state": State.create(apply_fn=model.apply, tx=optimizer, **variables), "position": None}
    if args.checkpoint and args.checkpoint.exists():
        run = serialization.from_bytes(run, args.checkpoint.read_bytes())

    state = run["state"]
    with train.iterate(epochs=args.epochs, state=run["position"]) as batches:
        print(f"{', '.join(photos.info.classes)}: {len(train)} batches an epoch, from batch {batches.step} on")
        for batch in batches:
            state, loss = train_step(state, batch)
            if batches.step % len(train) == 0:
                print(f"epoch {batches.step // len(train):>2}  loss {loss:.4f}  {evaluated(state, val)}")
                if args.checkpoint:
                    save(args.checkpoint, {"state": state, "position": batches.state.to_json()})
    print(f"flowers: {evaluated(state, val)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=pathlib.Path, required=True, help="a folder with a subfolder for each class")
    parser.add_argument("--checkpoint", type=pathlib.Path, help="a file that is written after each epoch")
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--side", type=int, default=64, help="pixels")
    parser.add_argument("--batch-size", type=int, default=32)
    given = parser.parse_args()
    if not given.photos.is_dir():
        parser.error(f"--photos {given.photos}: there is no such folder")
    main(given)
