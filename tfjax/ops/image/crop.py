"""Windows of an image. Each draws its window from the image's size alone, so that a JPEG is decoded there only."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar

from tfjax._tensorflow import tf
from tfjax.ops.base import random_numbers
from tfjax.ops.image import boxes as geometry
from tfjax.ops.image.geometric import Drawn, GeometricOp, size_of
from tfjax.ops.image.sampling import Method, require_method, require_resizable, resampled, side_pair
from tfjax.ops.image.windows import random_window, require_range


@dataclass(frozen=True, repr=False)
class CropOp(GeometricOp):
    """An op that looks at one window of the image, which may reach beyond it, and gives a size that is known."""

    size: int | tuple[int, int]

    def __post_init__(self) -> None:
        """Check the size."""
        super().__post_init__()
        side_pair(self, self.size)

    def move(self, image: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        """See `GeometricOp`."""
        return self.finish(self._pixels(image, drawn), drawn)

    def move_boxes(self, boxes: tf.Tensor, size: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        """See `GeometricOp`."""
        return geometry.cropped(boxes, drawn, size)

    @abc.abstractmethod
    def draw(self, size: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        """The window, int32 (4,): y, x, height and width in an image of (height, width)."""

    def inside(self, size: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
        """The part of the window that has pixels; its sides may be 0."""
        begin = tf.clip_by_value(drawn[:2], 0, size)
        return tf.concat([begin, tf.clip_by_value(drawn[:2] + drawn[2:], begin, size) - begin], 0)

    def finish(self, window: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
        """What becomes of the pixels of the window: zeros are put where it reaches beyond the image."""
        sides = side_pair(self, self.size)
        before = tf.clip_by_value(-drawn[:2], 0, sides)
        after = sides - before - tf.shape(window)[:2]
        out = tf.pad(window, tf.concat([tf.stack([before, after], 1), [[0, 0]]], 0))
        out.set_shape((*sides, window.shape[-1]))
        return out

    def _pixels(self, image: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
        y, x, height, width = tf.unstack(self.inside(size_of(image), drawn))
        return image[y : y + height, x : x + width]


@dataclass(frozen=True, repr=False)
class CenterCrop(CropOp):
    """The middle of an image; a side that is shorter is filled up with zeros.

    Args:
        size: pixels of both sides, or (height, width).
        boxes: keys of boxes that follow.
        masks: keys of masks that follow.
        key: the image, (height, width, channels).

    Raises:
        ValueError: size is no positive int, nor two.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"image": np.zeros((1, 6, 8, 3), np.uint8)})
        >>> pipe.apply(tfjax.image.CenterCrop(4))[0]["image"].shape
        (4, 4, 3)
    """

    def draw(self, size: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:  # noqa: ARG002
        """See `CropOp`."""
        wanted = tf.constant(side_pair(self, self.size))
        return tf.concat([tf.truncatediv(size - wanted, 2), wanted], 0)


@dataclass(frozen=True, repr=False)
class RandomCrop(CropOp):
    """A window at a random place.

    Args:
        size: pixels of both sides, or (height, width).
        padding: zeros around the image before, in pixels a side. An image that is smaller than the window even so is
            in the middle of zeros.
        boxes: keys of boxes that follow.
        masks: keys of masks that follow.
        key: the image, (height, width, channels).

    Raises:
        ValueError: size is no positive int, nor two, or padding no int, 0 or more.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"image": np.zeros((1, 32, 32, 3), np.uint8)})
        >>> pipe.apply(tfjax.image.RandomCrop(32, padding=4))[0]["image"].shape
        (32, 32, 3)
    """

    random: ClassVar[bool] = True

    padding: int = 0

    def __post_init__(self) -> None:
        """Check the padding."""
        super().__post_init__()
        if not isinstance(self.padding, int) or isinstance(self.padding, bool) or self.padding < 0:
            raise ValueError(f"RandomCrop: padding is {self.padding!r}: pass pixels, 0 or more")

    def draw(self, size: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        """See `CropOp`."""
        wanted = tf.constant(side_pair(self, self.size))
        free = size + 2 * self.padding - wanted
        at = tf.cast(tf.stack(random_numbers(seed, 2)) * tf.cast(free + 1, tf.float32), tf.int32)
        # A float32 share of a large number may round up to it.
        at = tf.where(free < 0, tf.truncatediv(free, 2), tf.minimum(at, free))
        return tf.concat([at - self.padding, wanted], 0)


@dataclass(frozen=True, repr=False)
class RandomResizedCrop(CropOp):
    """A window of random area and aspect ratio, resized: the usual augmentation of photos.

    It is drawn as torchvision does: the area is uniform, the aspect ratio uniform in its logarithm, the place uniform.

    Args:
        size: pixels of both sides, or (height, width), after it.
        scale: the least and the largest area of the window, as shares of the image.
        ratio: the least and the largest aspect ratio, width over height. In ten tries none may fit; the window is then
            the largest in the middle whose ratio is allowed.
        method: of `tf.image.resize`, all eight of them; masks are resized by "nearest".
        antialias: blur before shrinking, which costs more than twice as much.
        boxes: keys of boxes that follow.
        masks: keys of masks that follow.
        key: the image, (height, width, channels).

    Raises:
        ValueError: size is no positive int, nor two, a range is none, or the method unknown.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"image": np.zeros((1, 60, 80, 3), np.uint8)})
        >>> pipe.apply(tfjax.image.RandomResizedCrop(32))[0]["image"].shape
        (32, 32, 3)
    """

    random: ClassVar[bool] = True

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    method: Method = "bilinear"
    antialias: bool = False

    def __post_init__(self) -> None:
        """Check the ranges and the method."""
        super().__post_init__()
        require_range(self, "scale", most=1)
        require_range(self, "ratio")
        require_method(self, self.method)

    def draw(self, size: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        """See `CropOp`."""
        whole = tf.cast(size, tf.float32)
        # The largest (height, width) of the least and of the largest ratio of width to height.
        most = tf.round(whole[::-1] * (1 / self.ratio[0], self.ratio[1]))
        middle = tf.maximum(tf.cast(tf.minimum(whole, most), tf.int32), 1)
        otherwise = tf.concat([(size - middle) // 2, middle], 0)
        return random_window(size, seed, self.scale, self.ratio, otherwise)

    def inside(self, size: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:  # noqa: ARG002
        """See `CropOp`."""
        return drawn

    def finish(self, window: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:  # noqa: ARG002
        """See `CropOp`."""
        require_resizable(self, window)
        return resampled(window, side_pair(self, self.size), self.method, antialias=self.antialias)

    def move_mask(self, mask: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        """See `GeometricOp`."""
        return resampled(self._pixels(mask, drawn), side_pair(self, self.size), "nearest", antialias=False)
