"""Images whose light changes. uint8 images come out the same to the bit on every device and mesh."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from tfjax.on_device.base import ImageFunction, cut_as, narrow, require_pixels, wide

# Of a factor in such steps, the product with a uint8 is exact in float32, so that a fused multiply-add changes no bit.
_STEPS = 4096


@dataclass(frozen=True)
class brightness(ImageFunction):
    """Add a number to each image.

    Args:
        key: uint8 or floats, (batch, height, width, channels) or one of them. uint8 saturates; floats are not clipped.
        delta: the most that is added or taken away, or (least, most), in the units of the pixels. For uint8 images a
            whole number is drawn.

    Raises:
        TypeError: the images are neither uint8 nor floats.
        ValueError: least is above most, or for uint8 there is nothing to draw but 0.

    Example:
        >>> import jax, numpy as np, tfjax
        >>> batch = {"image": np.full((3, 1, 1, 1), 250, np.uint8)}
        >>> tfjax.on_device.brightness("image", 32)(batch, jax.random.key(0))["image"].ravel().tolist()
        [237, 253, 225]
    """

    delta: float | tuple[float, float]

    def __post_init__(self) -> None:
        """Check the range, which is held as a pair."""
        super().__post_init__()
        given: Any = self.delta
        low, high = given if isinstance(given, tuple | list) else (-given, given)
        object.__setattr__(self, "delta", _range("brightness: delta", low, high))

    def images(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """See `ImageFunction`."""
        require_pixels(self, image, self.key)
        low, high = self.delta  # type: ignore[misc]
        shape = (*image.shape[:-3], 1, 1, 1)
        if image.dtype != jnp.uint8:
            light = wide(image)
            return (light + jax.random.uniform(key, shape, light.dtype, low, high)).astype(image.dtype)
        least, most = max(math.ceil(low), -255), min(math.floor(high), 255)
        if least > most or least == most == 0:
            raise ValueError(
                f"brightness: delta is {self.delta}, and {self.key!r} is uint8, where only whole numbers other than 0 "
                "change anything: pass it in the units of the pixels, 0 to 255"
            )
        levels = image.astype(jnp.int32) + jax.random.randint(key, shape, least, most + 1, jnp.int32)
        return jnp.clip(levels, 0, 255).astype(jnp.uint8)


@dataclass(frozen=True)
class contrast(ImageFunction):
    """Scale the distance of each pixel to the mean of its channel: mean + factor * (image - mean).

    Args:
        key: uint8 or floats, (batch, height, width, channels) or one of them. uint8 saturates; floats are not clipped.
        lower: the least factor, 0 or more.
        upper: the largest. Factors are drawn in steps of 1/4096.

    Raises:
        TypeError: the images are neither uint8 nor floats.
        ValueError: not 0 <= lower <= upper.

    Example:
        >>> import jax, numpy as np, tfjax
        >>> batch = {"image": np.array([100, 140], np.uint8).reshape(1, 1, 2, 1)}
        >>> tfjax.on_device.contrast("image", 0.5, 0.5)(batch, jax.random.key(0))["image"].ravel().tolist()
        [110, 130]
    """

    lower: float
    upper: float

    def __post_init__(self) -> None:
        """Check the range."""
        super().__post_init__()
        if _range("contrast: the factor", self.lower, self.upper)[0] < 0:
            raise ValueError(f"contrast: lower is {self.lower}: a factor is 0 or more")

    def images(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """See `ImageFunction`."""
        require_pixels(self, image, self.key)
        least, most = round(self.lower * _STEPS), round(self.upper * _STEPS)
        steps = jax.random.randint(key, (*image.shape[:-3], 1, 1, 1), least, most + 1, jnp.int32)
        light = wide(image)
        factor = steps.astype(light.dtype) / _STEPS
        kept = _mean(image) * (1 - factor)
        if image.dtype == jnp.uint8:
            kept = jnp.round(kept * _STEPS) / _STEPS
        return narrow(light * factor + kept, image.dtype)


def _mean(image: jax.Array) -> jax.Array:
    """The mean of each channel, (..., 1, 1, channels); of uint8 images the sum is exact."""
    height, width = image.shape[-3:-1]
    exact = image.dtype == jnp.uint8 and height * width < 2**24
    # XLA on the CPU adds slices forty times as fast as it reduces along a strided dimension.
    slices = jnp.split(cut_as(image, image, image.ndim - 3), math.gcd(height, 16), -3)
    part = functools.reduce(jnp.add, [piece.astype(jnp.uint32) if exact else wide(piece) for piece in slices])
    return wide(part.sum((-3, -2), keepdims=True)) / (height * width)


def _range(what: str, low: Any, high: Any) -> tuple[float, float]:
    pair = (float(low), float(high))
    if not (math.isfinite(pair[0]) and math.isfinite(pair[1]) and pair[0] <= pair[1]):
        raise ValueError(f"{what} is drawn from {pair}: least comes first, both are finite")
    return pair
