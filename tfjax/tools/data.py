"""The pipelines of `tfjax train`: a dataset of images and labels, shuffled and standardised for training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

import tfjax
from tfjax.tools.errors import UserError

PEEKED = 1024  # examples whose mean and deviation standardise the images


@dataclass(frozen=True, kw_only=True)
class Data:
    """Batches {"image": (batch, h, w, c) float32, "label": (batch,)}; those of `test` with a `mask`."""

    train: Any
    test: Any
    num_classes: int


def load(name: str, *, splits: tuple[str, str], batch_size: int, seed: int, data_dir: str | None) -> Data:
    """Load the training and test split of a dataset.

    Raises:
        UserError: no `image` of shape (h, w, c) or no `label` with a number of classes, or too few examples.
    """
    train, test = (tfjax.load(name, split=split, data_dir=data_dir) for split in splits)
    num_classes = _check(name, train)
    if len(train) < batch_size:
        raise UserError(f"--batch-size {batch_size} is more than the {len(train)} examples of {name} {splits[0]}")
    if not len(test):
        raise UserError(f"{name} {splits[1]} has no examples to test on: name another --split-test")
    standardise = _standardise(train)
    train, test = train.select("image", "label"), test.select("image", "label")
    return Data(
        train=train.shuffle(seed=seed).batch(batch_size).device_map(standardise),
        test=test.batch(batch_size, remainder="pad").device_map(standardise),
        num_classes=num_classes,
    )


def _check(name: str, pipe: Any) -> int:
    """The number of classes."""
    spec = pipe.spec
    keys = sorted(spec) if isinstance(spec, Mapping) else []
    missing = {"image", "label"} - set(keys)
    if missing:
        raise UserError(f"{name} has no {sorted(missing)}, and `train` needs image and label: it has {keys}")
    if len(spec["image"].shape) != 3:
        shape = spec["image"].shape
        raise UserError(f"image of {name} has shape {shape}: `train` needs (height, width, channels)")
    num_classes = getattr(pipe.info.features["label"], "num_classes", None)
    if num_classes is None:
        raise UserError(f"label of {name} is {pipe.info.features['label']!r}: `train` needs a ClassLabel")
    return int(num_classes)


def _standardise(pipe: Any) -> Callable[[Any], Any]:
    """A device function to mean 0 and deviation 1 a channel, as the first examples of the split have them."""
    first = pipe.select("image").batch(min(PEEKED, len(pipe))).peek()["image"]
    images = np.asarray(first, np.float64)
    mean, deviation = images.mean((0, 1, 2)), images.std((0, 1, 2))
    shift, scale = jnp.float32(mean), jnp.float32(1 / np.where(deviation > 0, deviation, 1))

    def standardise(batch: Any) -> Any:
        return {**batch, "image": (batch["image"].astype(jnp.float32) - shift) * scale}

    return standardise
