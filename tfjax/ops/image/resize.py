"""Whole images at another size."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field

from tfjax._tensorflow import tf
from tfjax.ops.image.geometric import Drawn, GeometricOp
from tfjax.ops.image.sampling import Method, require_method, require_resizable, resampled, side_pair


@dataclass(frozen=True, repr=False)
class ResizeOp(GeometricOp):
    """An op that gives the whole image another size, of which boxes, being shares of it, take no notice."""

    method: Method = field(default="bilinear", kw_only=True)
    antialias: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        """Check the method."""
        super().__post_init__()
        require_method(self, self.method)

    @abc.abstractmethod
    def draw(self, size: tf.Tensor, seed: tf.Tensor | None) -> Drawn:
        """The size, int32 (2,), of an image of (height, width) after it."""

    def move(self, image: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        """See `GeometricOp`."""
        require_resizable(self, image)
        return resampled(image, drawn, self.method, antialias=self.antialias)

    def move_mask(self, mask: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        """See `GeometricOp`."""
        return resampled(mask, drawn, "nearest", antialias=False)

    def move_boxes(self, boxes: tf.Tensor, size: tf.Tensor, drawn: Drawn) -> tf.Tensor:  # noqa: ARG002
        """See `GeometricOp`."""
        return boxes


@dataclass(frozen=True, repr=False)
class Resize(ResizeOp):
    """An image of another size, whatever becomes of its aspect ratio.

    Pixels are computed as float32 and rounded to the dtype of the image, within its range.

    Args:
        size: pixels of both sides, or (height, width).
        method: of `tf.image.resize`: "bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5", "gaussian" or
            "mitchellcubic"; masks are resized by "nearest".
        antialias: blur before shrinking. "area" blurs in any case, and costs less; "nearest" never.
        boxes: keys of boxes, which stay what they are.
        masks: keys of masks that follow.
        key: the image, (height, width, channels).

    Raises:
        ValueError: size is no positive int, nor two, or the method unknown.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"image": np.zeros((1, 6, 8, 3), np.uint8)})
        >>> pipe.apply(tfjax.image.Resize((3, 4), method="lanczos3", antialias=True))[0]["image"].shape
        (3, 4, 3)
    """

    size: int | tuple[int, int]

    def __post_init__(self) -> None:
        """Check the size."""
        super().__post_init__()
        side_pair(self, self.size)

    def draw(self, size: tf.Tensor, seed: tf.Tensor | None) -> Drawn:  # noqa: ARG002
        """See `ResizeOp`."""
        return tf.constant(side_pair(self, self.size))


@dataclass(frozen=True, repr=False)
class ResizeShortSide(ResizeOp):
    """An image of another size with its aspect ratio: the long side is rounded down, as torchvision does.

    Pixels are computed as float32 and rounded to the dtype of the image, within its range.

    Args:
        size: pixels of the shorter side.
        method: of `tf.image.resize`, as in `Resize`.
        antialias: blur before shrinking, as in `Resize`. A large JPEG is cheaper after `Decode(min_short_side=size)`.
        boxes: keys of boxes, which stay what they are.
        masks: keys of masks that follow.
        key: the image, (height, width, channels).

    Raises:
        ValueError: size is no positive int, or the method unknown.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"image": np.zeros((1, 60, 80, 3), np.uint8)})
        >>> pipe.apply(tfjax.image.ResizeShortSide(32))[0]["image"].shape
        (32, 42, 3)
    """

    size: int

    def __post_init__(self) -> None:
        """Check the size."""
        super().__post_init__()
        if not isinstance(self.size, int) or isinstance(self.size, bool) or self.size < 1:
            raise ValueError(f"ResizeShortSide: size is {self.size!r}: pass the pixels of the shorter side")

    def draw(self, size: tf.Tensor, seed: tf.Tensor | None) -> Drawn:  # noqa: ARG002
        """See `ResizeOp`."""
        known = tf.get_static_value(size)
        if known is not None:
            return tf.constant(known * self.size // known.min())
        return size * self.size // tf.reduce_min(size)
