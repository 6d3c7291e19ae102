"""Boxes as TFDS has them: float32 (boxes, 4) of ymin, xmin, ymax, xmax, each a share of the image's side.

Their number stays what it is, so that labels stay with them: a box of which nothing is left is four zeros.
"""

from __future__ import annotations

from tfjax._tensorflow import tf


def cropped(boxes: tf.Tensor, window: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """The boxes as shares of a window.

    Args:
        boxes: shares of an image.
        window: int32 (4,): y, x, height and width in pixels; it may reach beyond the image.
        size: int32 (2,): height and width of the image.
    """
    side = tf.cast(tf.concat([size, size], 0), tf.float32)
    origin = tf.cast(tf.concat([window[:2], window[:2]], 0), tf.float32)
    extent = tf.cast(tf.concat([window[2:], window[2:]], 0), tf.float32)
    return (boxes * side - origin) / extent


def flipped(boxes: tf.Tensor, *, rows: bool, columns: bool) -> tf.Tensor:
    """The boxes of an image whose rows, or columns, run backwards."""
    y0, x0, y1, x1 = tf.unstack(boxes, axis=-1)
    y0, y1 = (1 - y1, 1 - y0) if rows else (y0, y1)
    x0, x1 = (1 - x1, 1 - x0) if columns else (x0, x1)
    return tf.stack([y0, x0, y1, x1], -1)


def quarters(boxes: tf.Tensor, turns: tf.Tensor) -> tf.Tensor:
    """The boxes of an image that is turned anticlockwise so many times, an int32 scalar, by 90 degrees."""
    swapped = tf.gather(boxes, [1, 0, 3, 2], axis=-1)
    ways = [
        boxes,
        flipped(swapped, rows=True, columns=False),
        flipped(boxes, rows=True, columns=True),
        flipped(swapped, rows=False, columns=True),
    ]
    return tf.stack(ways)[turns]


def turned(boxes: tf.Tensor, size: tf.Tensor, sine: tf.Tensor, cosine: tf.Tensor) -> tf.Tensor:
    """The upright boxes around boxes that are turned anticlockwise around the middle of the image.

    Args:
        boxes: shares of an image.
        size: int32 (2,): height and width of the image.
        sine: of the angle, float32 scalar.
        cosine: of the angle, float32 scalar.
    """
    height, width = tf.unstack(tf.cast(size, tf.float32))
    y0, x0, y1, x1 = tf.unstack(boxes - 0.5, axis=-1)
    down, right = tf.stack([y0, y0, y1, y1], -1) * height, tf.stack([x0, x1, x0, x1], -1) * width
    ys = (cosine * down - sine * right) / height + 0.5
    xs = (sine * down + cosine * right) / width + 0.5
    around = tf.stack([reduce(c, -1) for reduce in (tf.reduce_min, tf.reduce_max) for c in (ys, xs)], -1)
    return tf.where(_has_area(boxes), around, tf.zeros_like(boxes))


def clipped(boxes: tf.Tensor) -> tf.Tensor:
    """What is left of boxes within the image: of one that has no area, four zeros."""
    inside = tf.clip_by_value(boxes, 0.0, 1.0)
    return tf.where(_has_area(inside), inside, tf.zeros_like(inside))


def _has_area(boxes: tf.Tensor) -> tf.Tensor:
    return ((boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1]))[..., tf.newaxis]
