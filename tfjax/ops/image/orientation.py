"""The orientation that a camera notes in a JPEG's EXIF, read and applied in the graph.

EXIF is a TIFF directory inside the APP1 segment; tag 0x0112 holds 1 to 8 (CIPA DC-008, "Exif 2.32", 4.6.4).
"""

from __future__ import annotations

from tfjax._tensorflow import tf

_MOST_BYTES = 2**16 + 2**12  # an APP1 segment has at most 64 KiB, and stands among the first
_MOST_SEGMENTS = 32
_TAG = 0x0112


def exif_orientation(contents: tf.Tensor) -> tf.Tensor:
    """The orientation of a scalar string, int32, 1 (upright) where it has none that can be read."""
    raw = tf.io.decode_raw(contents, tf.uint8, fixed_length=_MOST_BYTES + 32)
    data = tf.cast(raw, tf.int32)  # with a margin of zeros, so that no look ahead leaves it

    def is_exif(at: tf.Tensor) -> tf.Tensor:
        return (data[at + 1] == 0xE1) & tf.reduce_all(data[at + 4 : at + 10] == list(b"Exif\0\0"))

    def goes_on(at: tf.Tensor) -> tf.Tensor:
        segment = (data[at] == 0xFF) & (data[at + 1] != 0xDA) & (at < _MOST_BYTES)
        return segment & ~is_exif(at)

    def following(at: tf.Tensor) -> tf.Tensor:
        return tf.minimum(at + 2 + 256 * data[at + 2] + data[at + 3], _MOST_BYTES)

    at = tf.while_loop(goes_on, lambda at: (following(at),), (tf.constant(2),), maximum_iterations=_MOST_SEGMENTS)[0]
    found = is_exif(at)
    return tf.cond(found, lambda: _in_directory(data, at + 10), lambda: tf.constant(1))


def _in_directory(data: tf.Tensor, tiff: tf.Tensor) -> tf.Tensor:
    """The tag's value in the first directory of the TIFF data that begin at `tiff`."""
    little = data[tiff] == ord("I")

    def two(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
        return tf.where(little, first + 256 * second, second + 256 * first)

    first, second = two(data[tiff + 4], data[tiff + 5]), two(data[tiff + 6], data[tiff + 7])
    low, high = tf.where(little, first, second), tf.where(little, second, first)
    start = tf.where(high == 0, tf.minimum(tiff + low, _MOST_BYTES), _MOST_BYTES)
    count = tf.minimum(two(data[start], data[start + 1]), (_MOST_BYTES - start) // 12)
    entries = tf.reshape(data[start + 2 : start + 2 + 12 * count], (count, 12))
    values = two(entries[:, 8], entries[:, 9])
    is_tag = (two(entries[:, 0], entries[:, 1]) == _TAG) & (values >= 1) & (values <= 8)
    return tf.reduce_max(tf.concat([[1], tf.where(is_tag, values, 1)], 0))


def upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """An image (height, width, channels) as it is to be looked at; sides swap for 5 to 8."""
    turned = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    rows = (orientation == 3) | (orientation == 4) | (orientation == 7) | (orientation == 8)
    columns = (orientation == 2) | (orientation == 3) | (orientation == 6) | (orientation == 7)
    turned = tf.cond(rows, lambda: tf.reverse(turned, [0]), lambda: turned)
    return tf.cond(columns, lambda: tf.reverse(turned, [1]), lambda: turned)
