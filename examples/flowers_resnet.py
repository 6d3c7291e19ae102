"""A small ResNet in Flax linen on a folder of photos: cropped and flipped in the graph, mixed on the device.

python examples/flowers_resnet.py --photos DIR --epochs 80 --checkpoint-dir runs/flowers

DIR has a subfolder of images for each class, as TensorFlow's flower_photos. A run that was stopped goes on from its
last checkpoint when the same command is given again. `tfjax.recipes.images` has most of these stages in one call;
`models/resnet_linen.py` has the ResNets of the paper.
"""

import argparse
import pathlib
from functools import partial

import jax
import optax
from flax import linen as nn

import tfjax
from tfjax import image, on_device
from tfjax.frameworks.linen import create_state, eval_step, train_step
from tfjax.training import Checkpoints, classification, cross_entropy

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


def main(args):
    """Train, and evaluate after each epoch."""
    photos = tfjax.from_folder(args.photos, ignore="*.md")
    train, val = pipelines(photos, args.side, args.batch_size)
    print(f"{', '.join(photos.info.classes)}: {len(train)} batches an epoch")

    rate = optax.cosine_decay_schedule(3e-3, args.epochs * len(train))
    state = create_state(ResNet(len(photos.info.classes)), optax.adamw(rate, weight_decay=1e-2), train.spec, seed=0)
    # The rate falls to 0 over the epochs of the run: to go on with another number of them is refused.
    kept = args.checkpoint_dir and Checkpoints(args.checkpoint_dir, settings={"epochs": args.epochs})
    step, evaluate = train_step(cross_entropy()), (eval_step(classification()), val)
    state, history = tfjax.fit(step, state, train, epochs=args.epochs, evaluate=evaluate, checkpoint_dir=kept)
    print(f"flowers: validation accuracy {history.evaluations[-1]['accuracy']:.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=pathlib.Path, required=True, help="a folder with a subfolder for each class")
    parser.add_argument("--checkpoint-dir", type=pathlib.Path, help="a folder for the checkpoints of this run")
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--side", type=int, default=64, help="pixels")
    parser.add_argument("--batch-size", type=int, default=32)
    given = parser.parse_args()
    if not given.photos.is_dir():
        parser.error(f"--photos {given.photos}: there is no such folder")
    main(given)
