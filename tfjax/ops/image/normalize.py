"""Pixels as the numbers that a model takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tfjax._arguments import require_numbers
from tfjax._tensorflow import tf
from tfjax.ops.image.base import ImageOp
from tfjax.ops.image.tones import wide


@dataclass(frozen=True, repr=False)
class Normalize(ImageOp):
    """(image - mean) / std in float32; `tfjax.on_device.normalize` does the same, and a uint8 batch is moved to it.

    Mean and std are in the units of the stored pixels, 0 to 255 for uint8: multiply by 255 those given for 0 to 1.

    Args:
        mean: a number, or one a channel.
        std: likewise, above 0.
        key: the image, (height, width, channels); float32 comes out.

    Raises:
        ValueError: std is not above 0, or the image has another number of channels.
        TypeError: something else than numbers.

    Example:
        >>> import numpy as np, tfjax
        >>> mean, std = 255 * np.array([0.485, 0.456, 0.406]), 255 * np.array([0.229, 0.224, 0.225])
        >>> pipe = tfjax.from_arrays({"image": np.full((1, 8, 8, 3), 124, np.uint8)})
        >>> [round(float(v), 3) for v in pipe.apply(tfjax.image.Normalize(mean, std))[0]["image"][0, 0]]
        [0.006, 0.135, 0.357]
    """

    mean: ArrayLike
    std: ArrayLike

    def __post_init__(self) -> None:
        """Check, and hold numbers as what can be hashed."""
        super().__post_init__()
        for name in ("mean", "std"):
            object.__setattr__(self, name, require_numbers(f"Normalize: {name}", getattr(self, name)))
        if not np.all(np.asarray(self.std) > 0):
            raise ValueError(f"Normalize: std is {self.std!r}: it is above 0")

    def image(self, image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:  # noqa: ARG002
        """See `ImageOp`."""
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        channels = max(mean.size, std.size)
        if channels > 1 and image.shape[-1] != channels:
            raise ValueError(
                f"{self!r}: {self.key!r} has {image.shape[-1]} channels, and mean and std are for {channels}: pass one "
                "number for each, or one for all"
            )
        # Of a plain division by constants, TensorFlow may make a multiplication, which rounds otherwise.
        return tf.math.divide_no_nan(wide(self, image) - mean, std)


@dataclass(frozen=True, repr=False)
class StandardizePerImage(ImageOp):
    """(image - mean) / std in float32, with mean and standard deviation of all pixels and channels of each image.

    As in `tf.image.per_image_standardization`, the deviation is at least 1 / sqrt(numbers of the image).

    Args:
        key: the image, (height, width, channels); float32 comes out.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"image": np.uint8([[[[0], [100]]]])})
        >>> pipe.apply(tfjax.image.StandardizePerImage())[0]["image"].ravel().tolist()
        [-1.0, 1.0]
    """

    def image(self, image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:  # noqa: ARG002
        """See `ImageOp`."""
        values = wide(self, image)
        centred = values - _mean(values)
        least = tf.math.rsqrt(tf.cast(tf.size(values), tf.float32))
        return centred / tf.maximum(tf.sqrt(_mean(tf.square(centred))), least)


def _mean(values: tf.Tensor) -> tf.Tensor:
    """The mean of all values. One dimension at a time, it does not depend on the number of threads."""
    for _ in range(3):
        values = tf.reduce_mean(values, 0)
    return values
