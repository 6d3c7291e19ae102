"""The ops of RandAugment and TrivialAugment: functions of a uint8 image and of how much, a float32 scalar.

They are those of Pillow, which the papers use, rounded to the nearest where Pillow truncates. No sum or
product has two constants in a row, which TensorFlow would reorder in one graph and not in another, to other bits.
"""

from __future__ import annotations

import numpy as np

from tfjax._tensorflow import tf
from tfjax.ops.image.sampling import rounded
from tfjax.ops.image.tones import contrasted, saturated


def identity(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:  # noqa: ARG001
    """The image as it is."""
    return image


def shear_x(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Each row shifted left by its distance to the top times the amount."""
    return _moved(image, [1.0, amount, 0.0, 0.0, 1.0, 0.0])


def shear_y(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Each column shifted up by its distance to the left times the amount."""
    return _moved(image, [1.0, 0.0, 0.0, amount, 1.0, 0.0])


def translate_x(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Shifted left by whole pixels."""
    return _moved(image, [1.0, 0.0, _whole(amount), 0.0, 1.0, 0.0])


def translate_y(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Shifted up by whole pixels."""
    return _moved(image, [1.0, 0.0, 0.0, 0.0, 1.0, _whole(amount)])


def rotate(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Turned around its middle, counter-clockwise, by radians."""
    cos, sin = tf.cos(amount), tf.sin(amount)
    middle_y, middle_x = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32) / 2)
    shift_x = middle_x - cos * middle_x + sin * middle_y
    shift_y = middle_y - sin * middle_x - cos * middle_y
    return _moved(image, [cos, -sin, shift_x, sin, cos, shift_y])


def brightness(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Multiplied by 1 + amount."""
    return rounded(_floats(image) * (1 + amount), tf.uint8)


def color(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """The distance to the luma of each pixel times 1 + amount; a grey image stays as it is."""
    return rounded(saturated(_floats(image), 1 + amount), tf.uint8) if image.shape[-1] == 3 else image


def contrast(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """The distance to the mean luma times 1 + amount."""
    return rounded(contrasted(_floats(image), 1 + amount), tf.uint8)


def sharpness(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """The distance to the mean of 3 x 3 pixels, the middle weighing 5, times 1 + amount; the border stays as it is."""
    values = _floats(image)
    inner = values[1:-1, 1:-1]
    rows = values[:-2] + values[1:-1] + values[2:]
    smooth = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * inner) * (1 / 13)
    border = (tf.shape(values) - tf.shape(inner))[:2]  # less than 2 where a side is a single pixel
    around = tf.concat([tf.stack([border // 2, border - border // 2], 1), [[0, 0]]], 0)
    return rounded(values + tf.pad((inner - smooth) * amount, around), tf.uint8)


def posterize(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """The lowest bits dropped, as many as the amount rounds to."""
    lost = tf.cast(tf.round(amount), tf.int32)
    mask = tf.cast(tf.bitwise.left_shift(255, lost) % 256, tf.uint8)
    return tf.bitwise.bitwise_and(image, mask)


def solarize(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Inverted where it is at least 255 - amount."""
    least = tf.cast(tf.math.ceil(255 - amount), tf.uint8)
    return tf.bitwise.bitwise_xor(image, tf.cast(image >= least, tf.uint8) * 255)


def autocontrast(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:  # noqa: ARG001
    """Each channel stretched to 0 to 255; one of a single value stays as it is."""
    values = _floats(image)
    low, high = (reduce(reduce(values, 0), 0) for reduce in (tf.reduce_min, tf.reduce_max))
    stretched = (values - low) * (255 / tf.maximum(high - low, 1))
    return rounded(tf.where(high > low, stretched, values), tf.uint8)


def equalize(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:  # noqa: ARG001
    """The histogram of each channel made flat; one of a single value stays as it is."""
    channels = image.shape[-1]
    at = tf.cast(image, tf.int32) + 256 * tf.range(channels)
    no_weights = tf.zeros((0,), tf.int32)
    counts = tf.raw_ops.DenseBincount(
        input=tf.reshape(at, (-1,)), size=256 * channels, weights=no_weights, binary_output=False
    )
    counts = tf.reshape(counts, (channels, 256))
    highest = tf.reduce_max(tf.where(counts > 0, np.arange(256), 0), 1, keepdims=True)
    of_highest = tf.gather(counts, highest, axis=1, batch_dims=1)
    step = (tf.reduce_sum(counts, 1, keepdims=True) - of_highest) // 255
    level = (tf.cumsum(counts, 1, exclusive=True) + step // 2) // tf.maximum(step, 1)
    table = tf.where(step > 0, tf.minimum(level, 255), np.arange(256))
    return tf.gather(tf.reshape(tf.cast(table, tf.uint8), (-1,)), at)


def _floats(image: tf.Tensor) -> tf.Tensor:
    return tf.cast(image, tf.float32)


def _whole(amount: tf.Tensor) -> tf.Tensor:
    return tf.sign(amount) * tf.floor(tf.abs(amount))


def _moved(image: tf.Tensor, affine: list[tf.Tensor | float]) -> tf.Tensor:
    """For each x, y the nearest pixel to a x + b y + c, d x + e y + f, counted from the corner; black beyond."""
    a, b, c, d, e, f = affine
    # TensorFlow counts from the middle of the first pixel.
    c, f = c + (b + (a - 1)) / 2, f + (d + (e - 1)) / 2
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[tf.newaxis],
        transforms=tf.stack([a, b, c, d, e, f, 0.0, 0.0])[tf.newaxis],
        output_shape=tf.shape(image)[:2],
        fill_value=0.0,
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )[0]
