"""Policies: ops drawn from a list for each image, of which only the drawn ones are computed.

Images stay uint8 from one op to the next. Boxes and masks cannot follow: use the ops that take them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from tfjax._arguments import require_count
from tfjax._tensorflow import tf
from tfjax.ops.base import random_numbers
from tfjax.ops.image import policy_ops as ops
from tfjax.ops.image.amount import require_strength, strength_of
from tfjax.ops.image.base import ImageOp
from tfjax.ops.image.tones import require_channels
from tfjax.ops.strength import Strength

_FULL = 30  # the largest magnitude


@dataclass(frozen=True)
class _Entry:
    """An op of a list, how much it is applied at full strength, and whether it goes both ways, as drawn."""

    op: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    most: float = 0.0
    signed: bool = False
    of_side: int | None = None  # `most` is a share of the height (0) or width (1)

    def __call__(self, image: tf.Tensor, magnitude: tf.Tensor, sign: tf.Tensor) -> tf.Tensor:
        """The image with the op at a magnitude of 0 to 30."""
        step = self.most / _FULL
        if self.of_side is not None:
            step *= tf.cast(tf.shape(image)[self.of_side], tf.float32)
        amount = magnitude * step
        return self.op(image, amount * sign if self.signed else amount)


def _entries(shear: float, shift: float, angle: float, blend: float, bits: int, *, of_side: bool) -> list[_Entry]:
    return [
        _Entry(ops.identity),
        _Entry(ops.shear_x, shear, signed=True),
        _Entry(ops.shear_y, shear, signed=True),
        _Entry(ops.translate_x, shift, signed=True, of_side=1 if of_side else None),
        _Entry(ops.translate_y, shift, signed=True, of_side=0 if of_side else None),
        _Entry(ops.rotate, math.radians(angle), signed=True),
        _Entry(ops.brightness, blend, signed=True),
        _Entry(ops.color, blend, signed=True),
        _Entry(ops.contrast, blend, signed=True),
        _Entry(ops.sharpness, blend, signed=True),
        _Entry(ops.posterize, bits),
        _Entry(ops.solarize, 255),
        _Entry(ops.autocontrast),
        _Entry(ops.equalize),
    ]


_RAND = _entries(0.3, 150 / 331, 30, 0.9, 4, of_side=True)
_TRIVIAL = _entries(0.99, 32, 135, 0.99, 6, of_side=False)


@dataclass(frozen=True, repr=False)
class Policy(ImageOp):
    """An op that chooses from a list."""

    random: ClassVar[bool] = True

    def _require(self, image: tf.Tensor) -> None:
        """Raise TypeError where an image is not uint8, grey or RGB."""
        require_channels(self, image, 1, 3)
        if image.dtype != tf.uint8:
            of_floats = "put it before what makes floats, such as Normalize"
            raise TypeError(
                f"{self!r}: {self.key!r} is {image.dtype.name}, and its ops are of uint8 images, 0 to 255: "
                f"{of_floats if image.dtype.is_floating else 'scale it and cast it to uint8 in map before'}"
            )


def _chosen(entries: Sequence[_Entry], image: tf.Tensor, which: tf.Tensor, *how: tf.Tensor) -> tf.Tensor:
    """The image with one of the entries, which is drawn as a share of them all."""
    branch = tf.cast(which * len(entries), tf.int32)
    out = tf.switch_case(branch, [partial(entry, image, *how) for entry in entries])
    out.set_shape(image.shape)
    return out


def _sign(share: tf.Tensor) -> tf.Tensor:
    return tf.where(share < 0.5, -1.0, 1.0)


@dataclass(frozen=True, repr=False)
class RandAugment(Policy):
    """RandAugment (Cubuk et al., 2019): several ops for each image, drawn evenly from 14, all of one magnitude.

    Ops and magnitudes are those of torchvision: identity, shear (0.3 at magnitude 30) and translation (150/331 of the
    side) in x and y, rotation (30 degrees), brightness, colour, contrast and sharpness (factors 1 - 0.9 to 1 + 0.9),
    posterize (4 bits kept), solarize (threshold 0), autocontrast, equalize. Those from shear to sharpness go either
    way with a probability of 1/2. Moved pixels are the nearest ones, black where there are none; boxes and masks do
    not move with them.

    Args:
        num_layers: ops for each image, one after the other.
        magnitude: 0 to 30, fractions allowed.
        key: the image, uint8 (height, width, 1 or 3); colour leaves a grey one as it is.

    Raises:
        TypeError: the image is not uint8.
        ValueError: a magnitude beyond 0 to 30.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"image": np.full((1, 8, 8, 3), 100, np.uint8)})
        >>> pipe.apply(tfjax.image.RandAugment(magnitude=15))[0]["image"].shape
        (8, 8, 3)
    """

    strengths: ClassVar[tuple[str, ...]] = ("magnitude",)

    num_layers: int = 2
    magnitude: Strength = 9

    def __post_init__(self) -> None:
        """Check layers and magnitude."""
        super().__post_init__()
        require_count("RandAugment: num_layers", self.num_layers, least=1)
        require_strength(self, "magnitude", most=_FULL)

    def image(self, image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        """See `ImageOp`."""
        self._require(image)
        magnitude = strength_of(self, "magnitude", most=_FULL)
        numbers = tf.random.stateless_uniform((self.num_layers, 2), seed)

        def layer(i: tf.Tensor, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return i + 1, _chosen(_RAND, image, numbers[i, 0], magnitude, _sign(numbers[i, 1]))

        # A loop, so that the list is traced once.
        return tf.while_loop(lambda i, _: i < self.num_layers, layer, (0, image))[1]


@dataclass(frozen=True, repr=False)
class TrivialAugment(Policy):
    """TrivialAugment, its wide space (Mueller and Hutter, 2021): one op for each image, of a random magnitude.

    Ops are those of `RandAugment`, evenly drawn, and so is the magnitude, from 31. At the largest, shear is 0.99,
    translation 32 pixels, rotation 135 degrees, factors are 1 - 0.99 and 1 + 0.99, and posterize keeps 2 bits. Boxes
    and masks do not move with the pixels.

    Args:
        key: the image, uint8 (height, width, 1 or 3); colour leaves a grey one as it is.

    Raises:
        TypeError: the image is not uint8.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"image": np.full((1, 8, 8, 3), 100, np.uint8)})
        >>> pipe.apply(tfjax.image.TrivialAugment())[0]["image"].shape
        (8, 8, 3)
    """

    def image(self, image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        """See `ImageOp`."""
        self._require(image)
        which, magnitude, sign = random_numbers(seed, 3)
        return _chosen(_TRIVIAL, image, which, tf.floor(magnitude * (_FULL + 1)), _sign(sign))
