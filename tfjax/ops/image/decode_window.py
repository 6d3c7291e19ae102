"""The pixels of one window of an encoded image: of a JPEG no more than that is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from tfjax._tensorflow import tf
from tfjax.ops.base import Example, with_leaf
from tfjax.ops.image.crop import CropOp
from tfjax.ops.image.decode import Decode
from tfjax.ops.image.header import JPEG, image_format, jpeg_size

_END = b"\xff\xd9"
_END_BYTES = len(_END)


@dataclass(frozen=True)
class DecodeWindow:
    """A decode and the crop that follows it, as one function with the same results to the bit.

    libjpeg decodes whole rows of blocks, so that a window has the bits of the whole image where colours are not
    smoothed across blocks.
    """

    decode: Decode
    crop: CropOp

    def __call__(self, example: Example, seed: tf.Tensor | None = None) -> Example:
        """The example with its image decoded and cropped, and what follows the crop."""
        contents = self.decode.contents(example)

        def jpeg() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            size = jpeg_size(contents)
            zero = self.decode.refused(size)
            drawn = self.crop.draw(size, seed) + zero
            window = self.crop.inside(size, drawn)
            some = tf.reduce_min(window[2:]) > 0  # or the window lies in the padding altogether
            pixels = tf.cond(some, lambda: self.decode.jpeg_window(contents, window), lambda: nothing)
            return pixels, drawn, size

        nothing = tf.zeros((0, 0, self.decode.channels), tf.uint8)

        def whole() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            image = self.decode.decode(contents)
            size = tf.shape(image)[:2]
            drawn = self.crop.draw(size, seed)
            y, x, height, width = tf.unstack(self.crop.inside(size, drawn))
            return image[y : y + height, x : x + width], drawn, size

        # One that is cut off has to fail wherever the window lies, as it does where the whole of it is decoded.
        ends = tf.equal(tf.strings.substr(contents, -_END_BYTES, _END_BYTES), _END)
        window, drawn, size = tf.cond(ends & tf.equal(image_format(contents), JPEG), jpeg, whole)
        window.set_shape((None, None, self.decode.channels))
        done = with_leaf(example, self.crop.key, self.crop.finish(window, drawn))
        return self.crop.move_others(done, size, drawn)


def decodes_windows(decode: Decode) -> str | None:
    """Why a decode has to be of the whole image; None where a window has the same bits."""
    if decode.fancy_upscaling:
        return "fancy_upscaling=True smooths colours across the edge of a window"
    if decode.orient:
        return "orient=True may turn the image before it is cropped"
    if decode.min_short_side is not None:
        return "min_short_side= decodes at another size"
    if decode.frames != "first":
        return "frames='all' yields frames"
    return None if decode.dtype == "uint8" else "dtype='uint16' is scaled after decoding"
