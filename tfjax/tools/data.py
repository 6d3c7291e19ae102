"""The pipelines of `tfjax train`: the recipe that a dataset of images and labels asks for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tfjax
from tfjax import recipes
from tfjax.tools.errors import UserError


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
    train, test = train.select("image", "label"), test.select("image", "label")
    return Data(
        train=recipes.default(train, train=True, batch_size=batch_size, seed=seed),
        test=recipes.default(test, train=False, batch_size=batch_size, trained_on=train),
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
