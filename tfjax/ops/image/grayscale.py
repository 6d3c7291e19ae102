"""Colour to grey."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tfjax._tensorflow import tf
from tfjax.ops.image.base import ImageOp
from tfjax.ops.image.tones import require_channels, require_numeric


@dataclass(frozen=True, repr=False)
class Grayscale(ImageOp):
    """The luma of an RGB image: 0.2989 red, 0.5870 green, 0.1140 blue (ITU-R BT.601).

    Args:
        channels: 1, or 3 alike.
        key: the image, (height, width, 3).

    Raises:
        TypeError: the image has not three channels, or holds neither integers nor floats.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"image": np.zeros((1, 4, 4, 3), np.uint8)})
        >>> pipe.apply(tfjax.image.Grayscale())[0]["image"].shape
        (4, 4, 1)
    """

    channels: Literal[1, 3] = 1

    def __post_init__(self) -> None:
        """Check the number of channels."""
        super().__post_init__()
        if self.channels not in (1, 3):
            raise ValueError(f"Grayscale: channels={self.channels!r}: choose 1 or 3")

    def image(self, image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:  # noqa: ARG002
        """See `ImageOp`."""
        require_numeric(self, image)
        require_channels(self, image, 3)
        grey = tf.image.rgb_to_grayscale(image)
        return grey if self.channels == 1 else tf.tile(grey, (1, 1, 3))
