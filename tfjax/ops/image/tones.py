"""What is done to pixels one by one: functions of float32 images (height, width, channels) in their stored units."""

from __future__ import annotations

from tfjax._tensorflow import tf
from tfjax.ops.image.base import ImageOp

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601; they add up to 1, so that grey stays what it is


def wide(op: ImageOp, image: tf.Tensor) -> tf.Tensor:
    """An image in float32; see `require_numeric`."""
    require_numeric(op, image)
    return tf.cast(image, tf.float32)


def require_numeric(op: ImageOp, image: tf.Tensor) -> None:
    """Raise TypeError where an image holds neither integers nor floats."""
    if not (image.dtype.is_integer or image.dtype.is_floating):
        raise TypeError(f"{op!r}: {op.key!r} is {image.dtype.name}, and it takes integers or floats: cast it in map")


def require_channels(op: ImageOp, image: tf.Tensor, *counts: int) -> None:
    """Raise TypeError where an image has another number of channels."""
    if image.shape[-1] not in counts:
        takes = " or ".join(map(str, counts))
        fixes = {1: "leave it out where images are grey", None: "use tf.ensure_shape in map"}
        fix = fixes.get(image.shape[-1], "use Decode(channels=3), or a slice such as image[..., :3] in map")
        raise TypeError(f"{op!r}: {op.key!r} has {image.shape[-1]} channels, and it takes {takes}: {fix}")


def within(values: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Values clipped to the range of the dtype that they come from; those of floats have none."""
    return tf.clip_by_value(values, float(dtype.min), float(dtype.max)) if dtype.is_integer else values


def channel_means(values: tf.Tensor) -> tf.Tensor:
    """The mean of each channel, (channels,), one dimension at a time: then no number of threads changes it."""
    return tf.reduce_mean(tf.reduce_mean(values, 0), 0)


def contrasted(values: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """The distance of pixels to the mean of all luma, times a factor."""
    means = channel_means(values)
    mean = tf.reduce_sum(means * LUMA) if values.shape[-1] == 3 else means[0]
    return values * factor + mean * (1 - factor)


def saturated(values: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """The distance of RGB pixels to their luma, times a factor."""
    red, green, blue = tf.split(values, 3, -1)
    luma = red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]
    return values * factor + luma * (1 - factor)


def turned(values: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """The hue of RGB, turned by a share of the colour circle."""
    return tf.raw_ops.AdjustHue(images=values, delta=share)
