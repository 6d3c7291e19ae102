"""Whole pipelines for images in one call, written with public stages only: copy one and change it.

>>> import numpy as np, tfjax
>>> photos = tfjax.from_arrays({"image": np.zeros((8, 60, 80, 3), np.uint8), "label": np.arange(8)})
>>> train = tfjax.recipes.images(photos, train=True, batch_size=4, size=32)
>>> train.spec["image"]
ShapeDtypeStruct(shape=(4, 32, 32, 3), dtype=float32)
>>> print(train)
Pipeline(from_arrays(8 rows) -> shuffle(seed=0) -> RandomResizedCrop(32) -> RandomFlip() -> ...)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from tfjax import on_device
from tfjax._arguments import require_count
from tfjax._text import text_at
from tfjax.errors import SpecError
from tfjax.image import CenterCrop, Decode, RandomCrop, RandomFlip, RandomResizedCrop, ResizeShortSide

if TYPE_CHECKING:
    from tfjax.pipeline import Pipeline

__all__ = ["default", "images", "small_images"]

Channels = ArrayLike
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
SMALL = 96  # pixels of the longer side
MOVED = 16  # pixels of the shorter side from which on a crop may be off the middle
PEEKED = 1024  # examples whose mean and deviation normalise small images


def images(
    pipe: Pipeline,
    *,
    train: bool,
    batch_size: int,
    size: int = 224,
    mean: Channels | None = None,
    std: Channels | None = None,
    seed: int = 0,
) -> Pipeline:
    """Photos of any size, to train a classifier on or to evaluate it.

    For training they are shuffled, cropped at random and flipped, and the last batch is dropped where it is not full.
    For evaluation nothing is random: the short side becomes 8/7 of `size`, blurred as it shrinks, the middle is cut
    out, and the last batch is padded, with a `mask`. What is encoded, or decoded by TFDS, is decoded to three channels.

    Args:
        pipe: examples with an `image`, encoded or (height, width, channels), before `shuffle` and `batch`.
        train: for training, or else for evaluation.
        batch_size: of the global batch.
        size: pixels of both sides that the model takes.
        mean: of the channels, in the units of the pixels; those of ImageNet if not given, or their average for
            images that have not three.
        std: likewise.
        seed: of the order.

    Returns:
        Batches with `image` as float32 (batch_size, size, size, channels), and the other leaves as they are.

    Raises:
        KeyError: there is no `image`.
        SpecError: another leaf has no fixed shape, or is a string: drop it before; or the images are floats, whose
            range is not known, and `mean` or `std` is not given.
        TypeError: `pipe` is no pipeline, or `size` no int.

    Example:
        >>> import tfjax
        >>> photos = tfjax.load("digits", split="test")
        >>> tfjax.recipes.images(photos, train=False, batch_size=100, size=14).peek()["image"].shape
        (100, 14, 14, 3)
    """
    _require_pipeline("images", pipe)
    size = require_count("recipes.images: size", size, least=1)
    if train:
        pipe = _decoded(pipe.shuffle(seed), Decode()).apply(RandomResizedCrop(size), RandomFlip())
    else:
        short = size * 8 // 7
        pipe = _decoded(pipe, Decode(min_short_side=short))
        pipe = pipe.apply(ResizeShortSide(short, antialias=True), CenterCrop(size))
    if mean is None or std is None:
        _require_integers(pipe)
    mean = _fitting(pipe, IMAGENET_MEAN) if mean is None else mean
    std = _fitting(pipe, IMAGENET_STD) if std is None else std
    pipe = pipe.batch(batch_size, remainder="drop" if train else "pad")
    return pipe.device_map(on_device.normalize("image", mean, std))


def small_images(
    pipe: Pipeline, *, train: bool, batch_size: int, mean: Channels, std: Channels, flip: bool, seed: int = 0
) -> Pipeline:
    """Small images of one size, as those of MNIST or CIFAR, which are not resized.

    For training they are shuffled and moved by up to an eighth of their side, over zeros, from 16 pixels on; the
    last batch is dropped where it is not full. For evaluation nothing is random, and the last batch is padded, with a
    `mask`.

    Args:
        pipe: examples with an `image` (height, width, channels), before `shuffle` and `batch`.
        train: for training, or else for evaluation.
        batch_size: of the global batch.
        mean: of the channels, in the units of the pixels.
        std: likewise.
        flip: swap left and right of half of the training images; digits and letters become others by it.
        seed: of the order.

    Returns:
        Batches with `image` as float32 (batch_size, height, width, channels), and the other leaves as they are.

    Raises:
        KeyError: there is no `image`.
        SpecError: a leaf has no fixed shape, or is a string.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"image": np.zeros((8, 32, 32, 3), np.uint8), "label": np.arange(8)})
        >>> batches = tfjax.recipes.small_images(pipe, train=True, batch_size=4, mean=127.5, std=64, flip=True)
        >>> batches.spec["image"]
        ShapeDtypeStruct(shape=(4, 32, 32, 3), dtype=float32)
    """
    _require_pipeline("small_images", pipe)
    if train:
        height, width, _ = _shape(pipe)
        side = min(height, width)
        moved = [RandomCrop((height, width), padding=side // 8)] if side >= MOVED else []
        pipe = pipe.shuffle(seed).apply(*moved, *([RandomFlip()] if flip else []))
    pipe = pipe.batch(batch_size, remainder="drop" if train else "pad")
    return pipe.device_map(on_device.normalize("image", mean, std))


def default(
    pipe: Pipeline, *, train: bool, batch_size: int, trained_on: Pipeline | None = None, seed: int = 0
) -> Pipeline:
    """The recipe that the spec of a dataset asks for.

    Images of one size, 96 pixels a side at most, go to `small_images`, normalised by the first 1,024 examples of the
    training split, and flipped only where they have colours and the names of their classes, as `info` has them, are
    words: digits and letters are not flipped. All others go to `images`, at 224 pixels, or at their shorter side where
    it is known and less.

    Args:
        pipe: examples with an `image`, before `shuffle` and `batch`: a TFDS dataset, a folder, arrays.
        train: for training, or else for evaluation.
        batch_size: of the global batch.
        trained_on: for the evaluation of small images, the pipeline that was given for training.
        seed: of the order.

    Raises:
        KeyError: there is no `image`.
        SpecError: it is none, (height, width, channels), or it is none that a classifier takes.
        ValueError: small images are evaluated without `trained_on`.

    Example:
        >>> import tfjax
        >>> digits, test = (tfjax.load("digits", split=split) for split in ("train", "test"))
        >>> train = tfjax.recipes.default(digits, train=True, batch_size=64)
        >>> test = tfjax.recipes.default(test, train=False, batch_size=64, trained_on=digits)
        >>> train.spec["image"].shape, sorted(test.spec)
        ((64, 8, 8, 1), ['image', 'label', 'mask'])
    """
    _require_pipeline("default", pipe)
    height, width, channels = _shape(pipe)
    if height is None or width is None or max(height, width) > SMALL:
        size = min(224, height or 224, width or 224)
        return images(pipe, train=train, batch_size=batch_size, size=size, seed=seed)
    if not train and trained_on is None:
        raise ValueError(
            "recipes.default: images are evaluated as they were trained on: pass trained_on=, the pipeline that "
            "default was given for training"
        )
    mean, std = _mean_and_std(pipe if trained_on is None else trained_on)
    flip = channels > 1 and _names_are_words(pipe.info)
    return small_images(pipe, train=train, batch_size=batch_size, mean=mean, std=std, flip=flip, seed=seed)


def _require_pipeline(name: str, pipe: Any) -> None:
    from tfjax.pipeline import Pipeline

    if not isinstance(pipe, Pipeline):
        raise TypeError(f"recipes.{name} takes a pipeline, given {pipe!r}: pass tfjax.load(...) or from_folder(...)")


def _require_integers(pipe: Pipeline) -> None:
    """Floats may be of any range, and the default numbers are for one."""
    dtype = pipe.select("image").spec["image"].dtype
    if jnp.issubdtype(dtype, jnp.floating):
        raise SpecError(
            f"recipes.images: 'image' is {dtype}, and the default mean and std, those of ImageNet, are for pixels of 0 "
            "to 255: give mean= and std= in the units of the pixels"
        )


def _decoded(pipe: Pipeline, decode: Decode) -> Pipeline:
    """With images decoded as asked; as it is where they are decoded already, be it in arrays or by a `map`."""
    try:
        return pipe.apply(decode)  # what TFDS decodes is text again, where nothing has looked at it
    except TypeError:
        if text_at(pipe, decode.key) is not None:
            raise
        return pipe


def _fitting(pipe: Pipeline, numbers: Sequence[float]) -> Channels:
    """Numbers of three channels; for images of other channels their average, which is for all."""
    return numbers if pipe.select("image").spec["image"].shape[-1] == len(numbers) else float(np.mean(numbers))


def _shape(pipe: Pipeline) -> tuple[Any, ...]:
    """Height and width of the decoded images, None where they vary, and channels."""
    only = pipe.select("image")
    shape = only.spec["image"].shape or only.apply(Decode()).spec["image"].shape  # a scalar is encoded
    if len(shape) != 3:
        raise SpecError(f"recipes: 'image' has shape {shape}, and an image is (height, width, channels)")
    return tuple(shape)


def _mean_and_std(pipe: Pipeline) -> tuple[list[float], list[float]]:
    """Of each channel over the first examples; a deviation of 0 counts as 1."""
    first = np.asarray(pipe.select("image").batch(PEEKED, remainder="keep").peek()["image"], np.float64)
    std = first.std((0, 1, 2))
    return first.mean((0, 1, 2)).tolist(), np.where(std > 0, std, 1).tolist()


def _names_are_words(info: Any) -> bool:
    """Whether classes have names, of more than a letter or a number."""
    features = getattr(info, "features", None) or {}
    label = features["label"] if "label" in features else None
    names = getattr(info, "classes", None) or getattr(label, "names", None) or ()
    return bool(names) and all(len(name) > 1 and not name.isnumeric() for name in names)
