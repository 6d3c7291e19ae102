"""Noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tfjax._tensorflow import tf
from tfjax.ops.image.amount import require_strength, strength_of
from tfjax.ops.image.color import ColorOp
from tfjax.ops.strength import Strength


@dataclass(frozen=True, repr=False)
class GaussianNoise(ColorOp):
    """Add a number of its own from a normal distribution around 0 to each pixel and channel.

    Integers are rounded and saturated at the ends of their range; floats are not clipped.

    Args:
        stddev: the standard deviation, in the units of the pixels, 0 to 255 for uint8.
        key: the image, (height, width, channels).

    Raises:
        ValueError: stddev is no number, or below 0.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"image": np.full((1, 1, 4, 1), 100, np.uint8)})
        >>> pipe.apply(tfjax.image.GaussianNoise(10))[0]["image"].ravel().tolist()
        [95, 80, 120, 95]
    """

    strengths: ClassVar[tuple[str, ...]] = ("stddev",)

    stddev: Strength

    def __post_init__(self) -> None:
        """Check the standard deviation."""
        super().__post_init__()
        require_strength(self, "stddev")

    def changed(self, values: tf.Tensor, image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        """See `ColorOp`."""
        return values + strength_of(self, "stddev") * tf.random.stateless_normal(tf.shape(image), seed)
