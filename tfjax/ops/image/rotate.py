"""Turned images."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from tfjax._tensorflow import tf
from tfjax.ops.base import random_numbers
from tfjax.ops.image import boxes as geometry
from tfjax.ops.image.amount import require_strength, strength_of
from tfjax.ops.image.geometric import Drawn, GeometricOp, size_of
from tfjax.ops.image.sampling import rounded
from tfjax.ops.strength import Strength, is_number

FillMode = Literal["constant", "nearest", "reflect", "wrap"]


@dataclass(frozen=True, repr=False)
class RandomRotate(GeometricOp):
    """Turn images around their middle, by any angle or by one of the four right angles.

    By any angle, the size stays: corners are cut off, and others are empty. Pixels are bilinear, those of masks the
    nearest; a box becomes the upright box around its turned corners, as far as it is inside of the image.

    By right angles, pixels stay what they are, and the sides of an image swap with its pixels: only a square one has a
    size that is known beforehand.

    Args:
        degrees: angles are uniform from -degrees to degrees; a number, a function of the step, or a `Value`.
        right_angles: instead of it, turn by 0, 90, 180 or 270 degrees, each as likely.
        fill_mode: what is seen beyond the image: "constant" (fill_value), "nearest" (its edge), "reflect" or "wrap".
        fill_value: the value of each channel there; masks have 0.
        boxes: keys of boxes that follow.
        masks: keys of masks that follow.
        key: the image, (height, width, channels).

    Raises:
        ValueError: not one of degrees and right_angles, degrees below 0, or a fill_mode or fill_value that is none.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"image": np.arange(12, dtype=np.uint8).reshape(3, 2, 2, 1)})
        >>> [e["image"].ravel().tolist() for e in pipe.apply(tfjax.image.RandomRotate(right_angles=True))]
        [[0, 1, 2, 3], [7, 6, 5, 4], [9, 11, 8, 10]]
        >>> pipe.apply(tfjax.image.RandomRotate(15, fill_mode="nearest"))[0]["image"].shape
        (2, 2, 1)
    """

    random: ClassVar[bool] = True
    strengths: ClassVar[tuple[str, ...]] = ("degrees",)

    degrees: Strength | None = None
    right_angles: bool = field(default=False, kw_only=True)
    fill_mode: FillMode = field(default="constant", kw_only=True)
    fill_value: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        """Check the angle and what fills."""
        super().__post_init__()
        if (self.degrees is None) != self.right_angles:
            raise ValueError(f"{self!r}: pass either degrees, as in RandomRotate(15), or right_angles=True")
        if self.degrees is not None:
            require_strength(self, "degrees")
        if self.fill_mode not in get_args(FillMode):
            raise ValueError(f"{self!r}: fill_mode={self.fill_mode!r}: choose one of {', '.join(get_args(FillMode))}")
        if not is_number(self.fill_value):
            raise ValueError(f"{self!r}: fill_value={self.fill_value!r}: pass a number")

    def draw(self, size: tf.Tensor, seed: tf.Tensor | None) -> Drawn:  # noqa: ARG002
        """How many quarters it is turned anticlockwise, int32; or sine and cosine of the angle."""
        (share,) = random_numbers(seed, 1)
        if self.right_angles:
            return tf.cast(share * 4, tf.int32)
        angle = (2 * share - 1) * (strength_of(self, "degrees") * (math.pi / 180))
        return tf.sin(angle), tf.cos(angle)

    def move(self, image: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        """See `GeometricOp`."""
        if self.right_angles:
            return _quarters(image, drawn)
        return rounded(self._turned(_floats(image), drawn, "BILINEAR", self.fill_value), image.dtype)

    def move_mask(self, mask: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        """See `GeometricOp`."""
        if self.right_angles:
            return _quarters(mask, drawn)
        exact = mask.dtype if mask.dtype in _EXACT else tf.int64
        return tf.cast(self._turned(tf.cast(mask, exact), drawn, "NEAREST", 0.0), mask.dtype)

    def move_boxes(self, boxes: tf.Tensor, size: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        """See `GeometricOp`."""
        if self.right_angles:
            return geometry.quarters(boxes, drawn)
        return geometry.turned(boxes, size, *drawn)

    def _turned(self, image: tf.Tensor, drawn: Drawn, interpolation: str, fill: float) -> tf.Tensor:
        sine, cosine = drawn
        height, width = tf.unstack(tf.cast(size_of(image), tf.float32) - 1)
        # From a pixel that is made to the place where it comes from.
        right = (width - cosine * width + sine * height) / 2
        down = (height - sine * width - cosine * height) / 2
        turned = tf.raw_ops.ImageProjectiveTransformV3(
            images=image[tf.newaxis],
            transforms=[[cosine, -sine, right, sine, cosine, down, 0.0, 0.0]],
            output_shape=size_of(image),
            fill_value=fill,
            interpolation=interpolation,
            fill_mode=self.fill_mode.upper(),
        )[0]
        turned.set_shape(image.shape)
        return turned


# What TensorFlow turns as it is.
_EXACT = (tf.uint8, tf.int32, tf.int64, tf.float16, tf.bfloat16, tf.float32, tf.float64)


def _floats(image: tf.Tensor) -> tf.Tensor:
    return image if image.dtype == tf.float64 else tf.cast(image, tf.float32)


def _quarters(image: tf.Tensor, turns: tf.Tensor) -> tf.Tensor:
    """An image turned anticlockwise so many times by 90 degrees."""
    turned = tf.switch_case(
        turns,
        [
            lambda: image,
            lambda: tf.reverse(tf.transpose(image, (1, 0, 2)), [0]),
            lambda: tf.reverse(image, [0, 1]),
            lambda: tf.transpose(tf.reverse(image, [0]), (1, 0, 2)),
        ],
    )
    height, width, channels = image.shape
    side = height if height == width else None
    turned.set_shape((side, side, channels))
    return turned
