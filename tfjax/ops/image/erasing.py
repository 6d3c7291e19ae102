"""Images with a piece missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from tfjax._tensorflow import tf
from tfjax.ops.base import random_numbers
from tfjax.ops.image.amount import require_strength, strength_of
from tfjax.ops.image.base import ImageOp
from tfjax.ops.image.geometric import size_of
from tfjax.ops.image.sampling import rounded
from tfjax.ops.image.windows import random_window, require_range
from tfjax.ops.strength import Strength, is_number


@dataclass(frozen=True, repr=False)
class RandomErasing(ImageOp):
    """Overwrite a rectangle of some images; boxes and masks stay what they are.

    Args:
        probability: how many of the images, as a share; a number, a function of the step, or a `Value`.
        scale: the least and the largest area of the rectangle, as shares of the image.
        ratio: the least and the largest aspect ratio, width over height. In ten tries none may fit into the image,
            which then stays as it is.
        value: a number, or one a channel, in the units of the pixels; or "noise", for each pixel and channel its own:
            any value of an integer dtype, and of a standard normal distribution for floats.
        key: the image, (height, width, channels).

    Raises:
        ValueError: a probability, a range or a value that is none.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"image": np.full((1, 4, 4, 1), 9, np.uint8)})
        >>> erase = tfjax.image.RandomErasing(1.0, scale=(0.25, 0.25), ratio=(1, 1))
        >>> int((pipe.apply(erase)[0]["image"] == 0).sum())
        4
    """

    random: ClassVar[bool] = True
    strengths: ClassVar[tuple[str, ...]] = ("probability",)

    probability: Strength = 0.5
    scale: tuple[float, float] = (0.02, 1 / 3)
    ratio: tuple[float, float] = (0.3, 10 / 3)
    value: float | Sequence[float] | Literal["noise"] = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        super().__post_init__()
        require_strength(self, "probability", most=1)
        require_range(self, "scale", most=1)
        require_range(self, "ratio")
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        if self.value != "noise" and not (values and all(is_number(v) and math.isfinite(v) for v in values)):
            raise ValueError(f"RandomErasing: value is {self.value!r}: pass a number, one a channel, or 'noise'")

    def image(self, image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        """See `ImageOp`."""
        chance, place, noise = tf.unstack(tf.random.split(seed, 3))
        size = size_of(image)
        drawn = random_window(size, place, self.scale, self.ratio, tf.zeros(4, tf.int32))
        (number,) = random_numbers(chance, 1)
        y, x, height, width = tf.unstack(tf.where(number < strength_of(self, "probability"), drawn, 0))
        filling = self._filling(image, (height, width, tf.shape(image)[2]), noise)
        rows = image[y : y + height]
        rows = tf.concat([rows[:, :x], filling, rows[:, x + width :]], 1)
        out = tf.concat([image[:y], rows, image[y + height :]], 0)
        out.set_shape(image.shape)
        return out

    def _filling(self, image: tf.Tensor, shape: tuple[tf.Tensor, ...], seed: tf.Tensor) -> tf.Tensor:
        dtype = image.dtype
        if self.value == "noise":
            if dtype.is_floating:
                return tf.cast(tf.random.stateless_normal(shape, seed), dtype)
            # All 64 bits are random, and so are the lower ones, which are left.
            return tf.cast(tf.random.stateless_uniform(shape, seed, None, None, tf.int64), dtype)
        if isinstance(self.value, tuple) and image.shape[-1] not in (len(self.value), None):
            raise ValueError(f"{self!r}: {len(self.value)} values for an image of {image.shape[-1]} channels")
        return tf.broadcast_to(rounded(tf.constant(self.value, tf.float32), dtype), shape)
