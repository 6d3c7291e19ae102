"""Other light and other colours.

An amount is a number, for as much to both sides of what changes nothing, or (least, most); what is drawn is uniform
between. Integers are rounded and saturated at the ends of their range; floats have no range and are not clipped.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from tfjax._tensorflow import tf
from tfjax.ops.base import random_numbers
from tfjax.ops.image.amount import DIFFERENCE, FACTOR, TURN, Amount
from tfjax.ops.image.base import ImageOp
from tfjax.ops.image.sampling import rounded
from tfjax.ops.image.tones import contrasted, require_channels, saturated, turned, wide, within


@dataclass(frozen=True, repr=False)
class ColorOp(ImageOp):
    """An op that computes with floats, and gives the dtype that it is given."""

    random: ClassVar[bool] = True

    def image(self, image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        """See `ImageOp`."""
        done = rounded(self.changed(wide(self, image), image, seed), image.dtype)
        done.set_shape(image.shape)
        return done

    @abc.abstractmethod
    def changed(self, values: tf.Tensor, image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        """The values, float32, of an image as they shall be."""


@dataclass(frozen=True, repr=False)
class RandomBrightness(ColorOp):
    """Make images lighter or darker: add a number to all pixels, or multiply them by one.

    Args:
        delta: what is added, in the units of the pixels, 0 to 255 for uint8: from -delta to delta, or (least, most).
        factor: instead of it, what is multiplied by: from 1 - factor (at least 0) to 1 + factor, or (least, most).
        key: the image, (height, width, channels).

    Raises:
        ValueError: not one of both, or an amount that is none.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"image": np.full((3, 1, 1, 1), 250, np.uint8)})
        >>> [e["image"].item() for e in pipe.apply(tfjax.image.RandomBrightness(32))]
        [226, 255, 235]
        >>> [e["image"].item() for e in pipe.apply(tfjax.image.RandomBrightness(factor=(0.5, 1.0)))]
        [141, 216, 158]
    """

    strengths: ClassVar[tuple[str, ...]] = ("delta", "factor")

    delta: Amount | None = None
    factor: Amount | None = None

    def __post_init__(self) -> None:
        """Check that it is one of both."""
        super().__post_init__()
        if (self.delta is None) == (self.factor is None):
            raise ValueError(f"{self!r}: pass delta, which is added, or factor, which is multiplied by")
        if self.delta is not None:
            DIFFERENCE.require(self, "delta")
        else:
            FACTOR.require(self, "factor")

    def changed(self, values: tf.Tensor, image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:  # noqa: ARG002
        """See `ColorOp`."""
        (share,) = random_numbers(seed, 1)
        if self.delta is not None:
            return values + DIFFERENCE.draw(self, "delta", share)
        return values * FACTOR.draw(self, "factor", share)


@dataclass(frozen=True, repr=False)
class RandomContrast(ColorOp):
    """Scale the distance of all pixels to the mean luma of the image.

    Args:
        factor: from 1 - factor (at least 0) to 1 + factor, or (least, most).
        key: the image, (height, width, 1 or 3).

    Raises:
        ValueError: an amount that is none.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"image": np.uint8([[[[100], [140]]]])})
        >>> pipe.apply(tfjax.image.RandomContrast((0.5, 0.5)))[0]["image"].ravel().tolist()
        [110, 130]
    """

    strengths: ClassVar[tuple[str, ...]] = ("factor",)

    factor: Amount

    def __post_init__(self) -> None:
        """Check the amount."""
        super().__post_init__()
        FACTOR.require(self, "factor")

    def changed(self, values: tf.Tensor, image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        """See `ColorOp`."""
        require_channels(self, image, 1, 3)
        return contrasted(values, FACTOR.draw(self, "factor", *random_numbers(seed, 1)))


@dataclass(frozen=True, repr=False)
class RandomSaturation(ColorOp):
    """Scale the distance of all pixels to their own luma: 0 is grey, 1 changes nothing.

    Args:
        factor: from 1 - factor (at least 0) to 1 + factor, or (least, most).
        key: the image, (height, width, 3).

    Raises:
        ValueError: an amount that is none.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"image": np.uint8([[[[100, 0, 0]]]])})
        >>> pipe.apply(tfjax.image.RandomSaturation((0.5, 0.5)))[0]["image"].ravel().tolist()
        [65, 15, 15]
    """

    strengths: ClassVar[tuple[str, ...]] = ("factor",)

    factor: Amount

    def __post_init__(self) -> None:
        """Check the amount."""
        super().__post_init__()
        FACTOR.require(self, "factor")

    def changed(self, values: tf.Tensor, image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        """See `ColorOp`."""
        require_channels(self, image, 3)
        return saturated(values, FACTOR.draw(self, "factor", *random_numbers(seed, 1)))


@dataclass(frozen=True, repr=False)
class RandomHue(ColorOp):
    """Turn the hue of all pixels.

    Args:
        delta: shares of the colour circle, 1/3 from red to green: from -delta to delta, at most 0.5, or (least, most).
        key: the image, (height, width, 3).

    Raises:
        ValueError: an amount that is none, or beyond half a turn.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"image": np.uint8([[[[200, 0, 0]]]])})
        >>> pipe.apply(tfjax.image.RandomHue((1 / 3, 1 / 3)))[0]["image"].ravel().tolist()
        [0, 200, 0]
    """

    strengths: ClassVar[tuple[str, ...]] = ("delta",)

    delta: Amount

    def __post_init__(self) -> None:
        """Check the amount."""
        super().__post_init__()
        TURN.require(self, "delta")

    def changed(self, values: tf.Tensor, image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        """See `ColorOp`."""
        require_channels(self, image, 3)
        return turned(values, TURN.draw(self, "delta", *random_numbers(seed, 1)))


@dataclass(frozen=True, repr=False)
class ColorJitter(ColorOp):
    """Brightness, contrast, saturation and hue, in a random order for each image, as torchvision has it.

    Between the four, integers are clipped to their range; they are rounded once, at the end.

    Args:
        brightness: factors from 1 - brightness (at least 0) to 1 + brightness, or (least, most).
        contrast: factors as of `RandomContrast`.
        saturation: factors as of `RandomSaturation`.
        hue: turns as of `RandomHue`, at most 0.5.
        key: the image, (height, width, 3), or grey where neither saturation nor hue is given.

    Raises:
        ValueError: an amount that is none, or all are 0.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"image": np.full((1, 8, 8, 3), 100, np.uint8)})
        >>> pipe.apply(tfjax.image.ColorJitter(0.4, 0.4, 0.4, 0.1))[0]["image"].shape
        (8, 8, 3)
    """

    strengths: ClassVar[tuple[str, ...]] = ("brightness", "contrast", "saturation", "hue")

    brightness: Amount = 0
    contrast: Amount = 0
    saturation: Amount = 0
    hue: Amount = 0

    def __post_init__(self) -> None:
        """Check the amounts."""
        super().__post_init__()
        for name in self.strengths:
            (TURN if name == "hue" else FACTOR).require(self, name)
        if not self._given:
            raise ValueError("ColorJitter(): all amounts are 0, so that it changes nothing: pass one, or leave it out")

    @property
    def _given(self) -> list[str]:
        values = {name: getattr(self, name) for name in self.strengths}
        return [name for name, value in values.items() if not (isinstance(value, int | float) and value == 0)]

    def changed(self, values: tf.Tensor, image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        """See `ColorOp`."""
        given = self._given
        require_channels(self, image, *((3,) if {"saturation", "hue"} & {*given} else (1, 3)))
        numbers = random_numbers(seed, 8)
        shares = dict(zip(self.strengths, numbers, strict=False))
        steps = [partial(self._step, name, shares[name], image.dtype) for name in given]
        order = tf.argsort(numbers[4 : 4 + len(steps)])

        def changed(i: tf.Tensor, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            done = tf.switch_case(order[i], [partial(step, values) for step in steps])
            done.set_shape(image.shape)
            return i + 1, done

        # A loop, so that each of the four is traced once.
        return tf.while_loop(lambda i, _: i < len(steps), changed, (0, values))[1]

    def _step(self, name: str, share: tf.Tensor, dtype: tf.DType, values: tf.Tensor) -> tf.Tensor:
        spread = TURN if name == "hue" else FACTOR
        return within(_JITTERS[name](values, spread.draw(self, name, share)), dtype)


_JITTERS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "brightness": tf.multiply,
    "contrast": contrasted,
    "saturation": saturated,
    "hue": turned,
}
