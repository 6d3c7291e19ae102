"""What TensorFlow's BMP decoder leaves to its caller: the palette, and layouts that it takes for others."""

from __future__ import annotations

from tfjax._tensorflow import tf
from tfjax.ops.failing import after, zero_unless

_HEADER_BYTES = 66
_UNUSUAL = "a BMP that is compressed, or whose colours do not lie in the order BGR, is not decoded: convert it"
_BGR = b"\0\0\xff\0\0\xff\0\0\xff\0\0\0"  # the masks of red, green and blue for the order that it reads


def decode_bmp(contents: tf.Tensor) -> tf.Tensor:
    """A scalar string to (height, width, 3); uint8."""
    header = tf.io.decode_raw(contents, tf.uint8, fixed_length=_HEADER_BYTES)
    compression = header[30]
    usual = (compression == 0) | ((compression == 3) & tf.reduce_all(header[54:66] == list(_BGR)))
    contents = after(zero_unless(~usual, tf.constant(_UNUSUAL)), contents)
    pixels = tf.io.decode_bmp(contents)
    image = tf.cond(tf.shape(pixels)[-1] == 1, lambda: _coloured(pixels, contents, header), lambda: pixels[..., :3])
    image.set_shape((None, None, 3))
    return image


def _coloured(pixels: tf.Tensor, contents: tf.Tensor, header: tf.Tensor) -> tf.Tensor:
    """What the palette says of indices (height, width, 1); it begins after both headers, with 4 bytes a colour."""
    sizes = tf.cast(header, tf.int32)
    begin = tf.minimum(14 + sizes[14] + 256 * sizes[15], tf.strings.length(contents))
    end = sizes[10] + 256 * sizes[11]  # where the pixels begin
    palette = tf.io.decode_raw(tf.strings.substr(contents, begin, tf.maximum(end - begin, 0) // 4 * 4), tf.uint8)
    bgr = tf.reshape(palette, (-1, 4))[:, :3]
    return tf.gather(tf.reverse(bgr, [1]), tf.cast(pixels[..., 0], tf.int32))
