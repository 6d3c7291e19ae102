"""Images whose pixels move, of any dtype: mirrored, or seen through a window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from tfjax._arguments import require_bool, require_count
from tfjax.on_device.base import ImageFunction, cut_as


@dataclass(frozen=True)
class random_flip(ImageFunction):
    """Mirror half of the images.

    Args:
        key: images of any dtype, (batch, height, width, channels) or one of them.
        horizontal: swap left and right with a probability of 1/2.
        vertical: swap top and bottom with a probability of 1/2, whatever becomes of left and right.

    Raises:
        TypeError: one is neither True nor False.
        ValueError: both are False.

    Example:
        >>> import jax, numpy as np, tfjax
        >>> batch = {"image": np.arange(12, dtype=np.uint8).reshape(4, 1, 3, 1)}
        >>> out = tfjax.on_device.random_flip("image")(batch, jax.random.key(0))
        >>> out["image"][..., 0].reshape(4, 3).tolist()
        [[0, 1, 2], [3, 4, 5], [8, 7, 6], [11, 10, 9]]
    """

    horizontal: bool = True
    vertical: bool = False

    def __post_init__(self) -> None:
        """Refuse to do nothing."""
        super().__post_init__()
        for ways in ("horizontal", "vertical"):
            require_bool(f"random_flip: {ways}", getattr(self, ways))
        if not (self.horizontal or self.vertical):
            raise ValueError("random_flip(horizontal=False) flips nothing: pass vertical=True, or leave it out")

    def images(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """See `ImageFunction`."""
        flips = jax.random.bernoulli(key, jnp.float32(0.5), (2, *image.shape[:-3], 1, 1, 1))
        for axis, flip, wanted in ((-2, flips[0], self.horizontal), (-3, flips[1], self.vertical)):
            if wanted:
                image = jnp.where(flip, jnp.flip(image, axis), image)
        return image


@dataclass(frozen=True)
class random_crop(ImageFunction):
    """A window at a random place of each image.

    Where `place` cuts height or width over a mesh, what comes out is cut by rows only.

    Args:
        key: images of any dtype, (batch, height, width, channels) or one of them.
        size: pixels of both sides of the window, or (height, width).
        padding: zeros around the image before, in pixels a side.

    Raises:
        ValueError: the window is larger than the image with its padding, or a number is out of range.

    Example:
        >>> import jax, numpy as np, tfjax
        >>> batch = {"image": np.ones((2, 32, 32, 3), np.uint8)}
        >>> tfjax.on_device.random_crop("image", 32, padding=4)(batch, jax.random.key(0))["image"].shape
        (2, 32, 32, 3)
    """

    size: int | tuple[int, int]
    padding: int = 0

    def __post_init__(self) -> None:
        """Check the arguments; the size is held as a pair."""
        super().__post_init__()
        size = self.size if isinstance(self.size, tuple | list) else (self.size, self.size)
        if len(size) != 2:
            raise ValueError(f"random_crop: size is {self.size}: pass pixels, or (height, width)")
        object.__setattr__(self, "size", tuple(require_count("random_crop: size", n, least=1) for n in size))
        object.__setattr__(self, "padding", require_count("random_crop: padding", self.padding, least=0))

    def images(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """See `ImageFunction`."""
        size: Any = self.size
        rows = image.ndim - 3
        padded = [n + 2 * self.padding for n in image.shape[rows : rows + 2]]
        if padded[0] < size[0] or padded[1] < size[1]:
            raise ValueError(
                f"random_crop: {self.key!r} has shape {image.shape}, {padded[0]} x {padded[1]} pixels with the "
                f"padding, and the window has {size[0]} x {size[1]}: pass a smaller size or padding="
            )
        places = jnp.array([padded[0] - size[0] + 1, padded[1] - size[1] + 1], jnp.int32)
        at = cut_as(image, jax.random.randint(key, (*image.shape[:rows], 2), 0, places, jnp.int32), rows)
        around = [(self.padding, self.padding)] * 2
        image = jnp.pad(cut_as(image, image, rows), [(0, 0)] * rows + around + [(0, 0)])

        def window(image: jax.Array, at: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice(image, (at[0], at[1], jnp.int32(0)), (*size, image.shape[-1]))

        return jax.vmap(window)(image, at) if rows else window(image, at)
