"""What the first bytes of an encoded image say: its format and its size, without decoding it.

For GIFs see `tfjax.ops.image.gif`. Sizes are int32 (2,), height and width. What is cut off reads as zeros.
"""

from __future__ import annotations

import numpy as np

from tfjax._tensorflow import tf

JPEG, PNG, WEBP, GIF, BMP, UNKNOWN = range(6)
_MAGIC = ((0, b"\xff\xd8\xff"), (0, b"\x89PNG\r\n\x1a\n"), (8, b"WEBP"), (0, b"GIF8"), (0, b"BM"))  # in that order
_MAGIC_BYTES = 12


def image_format(contents: tf.Tensor) -> tf.Tensor:
    """JPEG, PNG, WEBP, GIF, BMP or UNKNOWN for a scalar string, int32 scalar."""
    expected, matters = np.zeros((2, len(_MAGIC), _MAGIC_BYTES), np.uint8)
    for row, (at, magic) in enumerate(_MAGIC):
        expected[row, at : at + len(magic)] = list(magic)
        matters[row, at : at + len(magic)] = 0xFF
    found = tf.bitwise.bitwise_and(_read(contents, tf.uint8, _MAGIC_BYTES), matters) == expected
    return tf.argmax(tf.concat([tf.reduce_all(found, 1), [True]], 0), output_type=tf.int32)


def jpeg_size(contents: tf.Tensor) -> tf.Tensor:
    """The size of a JPEG."""
    return tf.image.extract_jpeg_shape(contents)[:2]


def png_size(contents: tf.Tensor) -> tf.Tensor:
    """The size that a PNG states."""
    return _read(contents, tf.int32, 24, little_endian=False)[5:3:-1]


def bmp_size(contents: tf.Tensor) -> tf.Tensor:
    """The size that a BMP states; rows from the top have a negative height."""
    sides = tf.bitcast(tf.reshape(_read(contents, tf.uint8, 26)[18:], (2, 4)), tf.int32)
    return tf.abs(sides[::-1])


def webp_size(contents: tf.Tensor) -> tf.Tensor:
    """The size that a WebP states, whichever of its three headers it has."""
    head = tf.cast(_read(contents, tf.uint8, 30), tf.int32)

    def number(at: int, count: int) -> tf.Tensor:
        return tf.reduce_sum(head[at : at + count] * [256**i for i in range(count)])

    def lossy() -> list[tf.Tensor]:
        return [number(28, 2) % 2**14, number(26, 2) % 2**14]

    def lossless() -> list[tf.Tensor]:
        bits = number(21, 4)  # 14 of the width less one, 14 of the height less one
        return [tf.bitwise.right_shift(bits, 14) % 2**14 + 1, bits % 2**14 + 1]

    def extended() -> list[tf.Tensor]:
        return [number(27, 3) + 1, number(24, 3) + 1]

    return tf.stack(
        tf.switch_case(tf.argmax(head[15] == list(b" LX"), output_type=tf.int32), [lossy, lossless, extended])
    )


def _read(contents: tf.Tensor, dtype: tf.DType, size_bytes: int, *, little_endian: bool = True) -> tf.Tensor:
    """The first bytes of a scalar string as numbers, 1-D."""
    return tf.io.decode_raw(contents, dtype, little_endian=little_endian, fixed_length=size_bytes)
