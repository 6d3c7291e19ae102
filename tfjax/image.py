"""Ops on images, for `Pipeline.apply`: frozen values that are called with one example inside the graph.

uint8 goes in and comes out unless an op says otherwise. Each takes the key of the image as its last argument, and each
random one has a stateless seed of its own, so that batches are the same however many are computed at a time, and after
a resume. Geometric ops take `boxes=` and `masks=`, keys of what has to follow.

Numbers that are added to pixels are in the units in which these are stored, 0 to 255 for uint8. Integers are rounded,
and saturated at the ends of their range; floats have no range and are not clipped.

>>> import numpy as np, tfjax
>>> photos = {"image": np.zeros((4, 60, 80, 3), np.uint8), "label": np.arange(4)}
>>> pipe = tfjax.from_arrays(photos).apply(tfjax.image.RandomResizedCrop(32), tfjax.image.RandomFlip())
>>> pipe.batch(4).peek()["image"].shape
(4, 32, 32, 3)
"""

from __future__ import annotations

from tfjax.ops.image.blur import GaussianBlur
from tfjax.ops.image.color import ColorJitter, RandomBrightness, RandomContrast, RandomHue, RandomSaturation
from tfjax.ops.image.crop import CenterCrop, RandomCrop, RandomResizedCrop
from tfjax.ops.image.decode import Decode
from tfjax.ops.image.erasing import RandomErasing
from tfjax.ops.image.flip import RandomFlip
from tfjax.ops.image.grayscale import Grayscale
from tfjax.ops.image.noise import GaussianNoise
from tfjax.ops.image.normalize import Normalize, StandardizePerImage
from tfjax.ops.image.one_hot import OneHot
from tfjax.ops.image.policy import RandAugment, TrivialAugment
from tfjax.ops.image.resize import Resize, ResizeShortSide
from tfjax.ops.image.rotate import RandomRotate
from tfjax.ops.strength import Value

__all__ = [
    "CenterCrop",
    "ColorJitter",
    "Decode",
    "GaussianBlur",
    "GaussianNoise",
    "Grayscale",
    "Normalize",
    "OneHot",
    "RandAugment",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomErasing",
    "RandomFlip",
    "RandomHue",
    "RandomResizedCrop",
    "RandomRotate",
    "RandomSaturation",
    "Resize",
    "ResizeShortSide",
    "StandardizePerImage",
    "TrivialAugment",
    "Value",
]
