"""Images out of focus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tfjax._tensorflow import tf
from tfjax.ops.base import random_numbers
from tfjax.ops.image.amount import Spread, require_strength, strength_of
from tfjax.ops.image.color import ColorOp
from tfjax.ops.strength import Strength

_SIGMA = Spread(neutral=0.0, least=0.0)
_REACH = 3.0  # in sigmas: what lies beyond weighs 0.3 %


@dataclass(frozen=True, repr=False)
class GaussianBlur(ColorOp):
    """Blur with a Gaussian that reaches three sigmas, or as far as the image does; the image is mirrored at its edges.

    Args:
        sigma: the standard deviation in pixels, or (least, most), between which it is drawn for each image.
        key: the image, (height, width, channels).

    Raises:
        ValueError: sigma is no number, or below 0.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"image": np.uint8([[[[0], [0], [200], [0], [0]]]])})
        >>> pipe.apply(tfjax.image.GaussianBlur(0.6))[0]["image"].ravel().tolist()
        [1, 33, 133, 33, 1]
    """

    strengths: ClassVar[tuple[str, ...]] = ("sigma",)

    sigma: Strength | tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        """Check the range."""
        super().__post_init__()
        if isinstance(self.sigma, tuple | list):
            _SIGMA.require(self, "sigma")
        else:
            require_strength(self, "sigma")

    @property
    def random(self) -> bool:  # type: ignore[override]
        """Whether sigma is drawn."""
        return isinstance(self.sigma, tuple)

    def changed(self, values: tf.Tensor, image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:  # noqa: ARG002
        """See `ColorOp`."""
        if self.random:
            sigma = _SIGMA.draw(self, "sigma", *random_numbers(seed, 1))
        else:
            sigma = strength_of(self, "sigma")
        for _ in range(2):
            values = tf.transpose(_blurred(values, sigma), (1, 0, 2))
        return values


def _blurred(values: tf.Tensor, sigma: tf.Tensor) -> tf.Tensor:
    """The values (n, ..., ...) blurred along their first dimension.

    Sums of slices: a convolution of three channels is slower, and has other bits in other graphs.
    """
    length = tf.shape(values)[0]
    reach = tf.minimum(tf.cast(tf.math.ceil(_REACH * sigma), tf.int32), length - 1)
    weights = tf.exp(-0.5 * tf.square(tf.cast(tf.range(reach + 1), tf.float32) / tf.maximum(sigma, 1e-3)))
    weights /= 2 * tf.reduce_sum(weights) - 1
    mirrored = tf.pad(values, [[reach, reach], [0, 0], [0, 0]], "REFLECT")

    def with_next(i: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        before, after = (mirrored[start : start + length] for start in (reach - i, reach + i))
        total += weights[i] * (before + after)
        total.set_shape(values.shape)
        return i + 1, total

    return tf.while_loop(lambda i, _: i <= reach, with_next, (1, weights[0] * values))[1]
