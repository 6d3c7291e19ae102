"""Encoded bytes to pixels."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from tfjax._arguments import require_count
from tfjax._tensorflow import tf
from tfjax.ops.base import Example, leaf_at, with_leaf
from tfjax.ops.failing import after, zero_unless
from tfjax.ops.image.base import ImageOp
from tfjax.ops.image.bmp import decode_bmp
from tfjax.ops.image.gif import first_frame, gif_layout
from tfjax.ops.image.header import (
    BMP,
    GIF,
    JPEG,
    PNG,
    UNKNOWN,
    WEBP,
    bmp_size,
    image_format,
    jpeg_size,
    png_size,
    webp_size,
)
from tfjax.ops.image.orientation import exif_orientation, upright
from tfjax.ops.image.webp import webp_frames, with_room_for_frames

MAX_PIXELS = 10**8


@dataclass(frozen=True, repr=False)
class Decode(ImageOp):
    """Decode a JPEG, PNG, WebP, GIF or BMP to (height, width, channels).

    Over a TFDS dataset it replaces the decoding of the feature, where it is the first to touch it. A crop that follows
    is decoded alone, to the same bits.

    Args:
        channels: 1 (grey), 3 (RGB; a transparency is dropped) or 4 (RGBA; that of a GIF or BMP is opaque).
        orient: turn a JPEG as its EXIF says.
        frames: "first", or "all" for (frames, height, width, channels), of a GIF or WebP as many as it has.
        dtype: "uint8", or "uint16", which keeps the 16 bits of a PNG and scales anything else to them.
        min_short_side: let a JPEG be decoded at 1/2, 1/4 or 1/8 of its size while its short side stays at least this
            many pixels: several times as fast before a `ResizeShortSide` of a large photo, and not the same bits.
        fancy_upscaling: smooth the colours of a JPEG that stores fewer of them, as TensorFlow does by default. Without
            it pixels differ by 0.004 of 255 on the mean, and a crop that follows can be decoded alone.
        max_pixels: an image whose header states more is refused. Of an animation it is for all frames that are
            decoded: height times width of the largest, times how many there are. TensorFlow decodes all frames of a
            GIF whose first one is smaller than a later one, or does not begin at the corner.
        key: the leaf, a scalar string.

    Raises:
        CorruptDataError: when it runs, for bytes that are no image, are damaged, or are too large.

    Example:
        >>> import numpy as np, tensorflow as tf, tfjax
        >>> png = tf.io.encode_png(np.zeros((4, 6, 3), np.uint8)).numpy()
        >>> pipe = tfjax.from_examples([{"image": png}]).apply(tfjax.image.Decode())
        >>> pipe[0]["image"].shape
        (4, 6, 3)
    """

    decodes: ClassVar[bool] = True

    channels: Literal[1, 3, 4] = 3
    orient: bool = False
    frames: Literal["first", "all"] = "first"
    dtype: Literal["uint8", "uint16"] = "uint8"
    min_short_side: int | None = None
    fancy_upscaling: bool = False
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        """Refuse what cannot be decoded to."""
        super().__post_init__()
        for name in ("channels", "min_short_side", "max_pixels"):
            given = getattr(self, name)
            if name != "min_short_side" or given is not None:
                object.__setattr__(self, name, require_count(f"Decode: {name}", given, least=1))
        if self.channels not in (1, 3, 4):
            raise ValueError(f"Decode: channels={self.channels!r}: choose 1 (grey), 3 (RGB) or 4 (RGBA)")
        if self.frames not in ("first", "all"):
            raise ValueError(f"Decode: frames={self.frames!r}: choose 'first' or 'all'")
        if self.dtype not in ("uint8", "uint16"):
            raise ValueError(f"Decode: dtype={self.dtype!r}: choose 'uint8' or 'uint16'")

    def __call__(self, example: Example, seed: tf.Tensor | None = None) -> Example:  # noqa: ARG002
        """The example with its image decoded."""
        return with_leaf(example, self.key, self.decode(self.contents(example)))

    def image(self, image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:  # noqa: ARG002
        """See `ImageOp`."""
        return self.decode(image)

    def contents(self, example: Example) -> tf.Tensor:
        """The encoded bytes of an example.

        Raises:
            TypeError: the leaf is no scalar string.
        """
        contents = tf.convert_to_tensor(leaf_at(example, self.key))
        if contents.dtype != tf.string or contents.shape.rank not in (0, None):
            raise TypeError(
                f"{self!r}: {self.key!r} is {contents.dtype.name} of shape {contents.shape}, which is no encoded "
                "image: leave Decode out where it is decoded already"
            )
        return tf.ensure_shape(contents, ())

    def decode(self, contents: tf.Tensor) -> tf.Tensor:
        """A scalar string to pixels."""
        image = tf.cond(
            tf.equal(image_format(contents), JPEG),
            lambda: self._frames(self._jpeg(contents)),
            lambda: self.decode_other(contents),
        )
        image.set_shape(self._shape)
        return image

    def decode_other(self, contents: tf.Tensor) -> tf.Tensor:
        """The same of what is no JPEG."""
        image = _others(dataclasses.replace(self, key="image"))(contents)
        image.set_shape(self._shape)
        return image

    @property
    def _shape(self) -> tuple[int | None, ...]:
        return (*((None,) if self.frames == "all" else ()), None, None, self.channels)

    def by_format(self, contents: tf.Tensor) -> tf.Tensor:
        """The same of what is no JPEG, as ops of the graph that is being traced."""
        return tf.switch_case(
            image_format(contents) - PNG,
            {
                PNG - PNG: lambda: self._frames(self._png(contents)),
                WEBP - PNG: lambda: self._webp(contents),
                GIF - PNG: lambda: self._gif(contents),
                BMP - PNG: lambda: self._frames(self._bmp(contents)),
                UNKNOWN - PNG: lambda: self._unknown(contents),
            },
        )

    def refused(self, size: tf.Tensor, frames: tf.Tensor | None = None) -> tf.Tensor:
        """An int32 zero; the graph fails where an image of (height, width), or so many, is too large."""
        shown, pixels = tf.strings.as_string(size), tf.reduce_prod(tf.cast(size, tf.int64))
        stated = [shown[0], " x ", shown[1], f" pixels, over max_pixels={self.max_pixels}: "]
        if frames is not None:
            pixels *= tf.cast(frames, tf.int64)
            stated = [tf.where(frames > 1, tf.strings.join([tf.strings.as_string(frames), " frames of "]), ""), *stated]
        stated = ["the header states ", *stated, "raise it in Decode(max_pixels=) if that is meant"]
        return zero_unless(pixels > self.max_pixels, tf.strings.join(stated))

    def _jpeg(self, contents: tf.Tensor) -> tf.Tensor:
        size = jpeg_size(contents)
        contents = after(self.refused(size), contents)

        def at(ratio: int) -> tf.Tensor:
            return tf.io.decode_jpeg(contents, channels=3, ratio=ratio, fancy_upscaling=self.fancy_upscaling)

        if self.min_short_side is None:
            image = at(1)
        else:
            # libjpeg rounds sides up.
            short = tf.reduce_min(size)
            fits = [tf.cast(-(-short // r) >= self.min_short_side, tf.int32) for r in (2, 4, 8)]
            image = tf.switch_case(tf.add_n(fits), [lambda r=r: at(r) for r in (1, 2, 4, 8)])
        if self.orient:
            image = upright(image, exif_orientation(contents))
        return self._finished(image)

    def jpeg_window(self, contents: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
        """One window, int32 (4,) of y, x, height and width, of a JPEG that is not refused."""
        image = tf.image.decode_and_crop_jpeg(contents, window, channels=3, fancy_upscaling=self.fancy_upscaling)
        return self._finished(image)

    def _png(self, contents: tf.Tensor) -> tf.Tensor:
        contents = after(self.refused(png_size(contents)), contents)
        return tf.io.decode_png(contents, channels=self.channels, dtype=tf.as_dtype(self.dtype))

    def _webp(self, contents: tf.Tensor) -> tf.Tensor:
        # With a transparency or several frames, TensorFlow decodes it to as many channels as it has only.
        every = self.frames == "all"
        contents = after(self.refused(webp_size(contents), webp_frames(contents) if every else None), contents)
        image = tf.io.decode_image(with_room_for_frames(contents), expand_animations=every)
        frames = tf.reshape(image, tf.concat([[-1], tf.shape(image)[-3:]], 0))
        return self._finished(frames if every else frames[0])

    def _gif(self, contents: tf.Tensor) -> tf.Tensor:
        layout = gif_layout(contents)
        if self.frames == "all":
            contents = after(self.refused(layout.size, layout.frames), contents)
            return self._finished(tf.io.decode_gif(contents))
        decoded = tf.where(layout.first_end > 0, 1, layout.frames)
        contents = after(self.refused(layout.size, decoded), first_frame(contents, layout))
        return self._finished(tf.io.decode_image(contents, channels=3, expand_animations=False))

    def _bmp(self, contents: tf.Tensor) -> tf.Tensor:
        return self._finished(decode_bmp(after(self.refused(bmp_size(contents)), contents)))

    def _unknown(self, contents: tf.Tensor) -> tf.Tensor:
        size = tf.strings.as_string(tf.strings.length(contents))
        why = tf.strings.join(["its ", size, " bytes begin as no JPEG, PNG, WebP, GIF or BMP does"])
        nothing = tf.zeros((0, 0, self.channels), tf.as_dtype(self.dtype))
        return self._frames(nothing + tf.cast(zero_unless(tf.constant(True), why), nothing.dtype))

    def _frames(self, image: tf.Tensor) -> tf.Tensor:
        return image[tf.newaxis] if self.frames == "all" else image

    def _finished(self, image: tf.Tensor) -> tf.Tensor:
        """The channels and the dtype that are asked for, of a uint8 image with 1, 3 or 4 channels."""
        return self._with_dtype(self._with_channels(image))

    def _with_channels(self, image: tf.Tensor) -> tf.Tensor:
        count = image.shape[-1]
        if count == self.channels:
            return image
        if self.channels == 1:
            return tf.image.rgb_to_grayscale(image[..., :3])
        if self.channels == 3:
            return image[..., :3]
        opaque = tf.fill(tf.shape(image[..., :1]), tf.constant(255, tf.uint8))
        if count is not None:
            return tf.concat([image[..., :3], opaque], -1)
        return tf.cond(tf.shape(image)[-1] == 4, lambda: image, lambda: tf.concat([image, opaque], -1))

    def _with_dtype(self, image: tf.Tensor) -> tf.Tensor:
        if self.dtype == "uint8":
            return image
        return tf.cast(image, tf.uint16) * 257  # 255 becomes 65535


@functools.lru_cache(maxsize=32)
def _others(decode: Decode) -> Any:
    """What decodes all formats but JPEG, traced once a process and never inlined: most images are JPEGs.

    The ops of a branch that is not taken cost time too, and these are many: 30 us an image.
    """
    apart = {"_noinline": True}
    traced = tf.function(decode.by_format, autograph=False, experimental_attributes=apart)
    return traced.get_concrete_function(tf.TensorSpec((), tf.string))
