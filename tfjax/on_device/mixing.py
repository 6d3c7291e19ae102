"""Batches whose rows are mixed with one another, labels alike."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from tfjax.on_device.base import (
    cut_as,
    leaf_at,
    name,
    narrow,
    require_images,
    require_path,
    require_pixels,
    wide,
    with_leaf,
)

# Of a share in such steps, the product with a uint8 is exact in float32, so that a fused multiply-add changes no bit.
_STEPS = 65536


@dataclass(frozen=True)
class Mixing(abc.ABC):
    """Each row takes a share of its image and label from another, in a random permutation of the rows.

    Args:
        image: the key of uint8 or float images, (batch, height, width, channels).
        label: the key of labels as floats, (batch, ...).
        alpha: shares are drawn from Beta(alpha, alpha).
    """

    image: str
    label: str
    alpha: float

    def __post_init__(self) -> None:
        """Check the arguments."""
        for path in (self.image, self.label):
            require_path(self, path)
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ValueError(f"{name(self)}: alpha is {self.alpha}: it is a finite number above 0")

    def __call__(self, batch: Any, key: jax.Array) -> Any:
        """The batch with images and labels mixed; the one that was given is left as it is."""
        image = require_images(self, leaf_at(self, batch, self.image), self.image, ranks=(4,))
        require_pixels(self, image, self.image)
        label = leaf_at(self, batch, self.label)
        if not jnp.issubdtype(label.dtype, jnp.floating):
            raise TypeError(
                f"{name(self)}: {self.label!r} is {label.dtype}, and only floats can be mixed: "
                f"put device_map(tfjax.on_device.one_hot({self.label!r}, num_classes)) before it"
            )
        if label.shape[:1] != image.shape[:1]:
            raise TypeError(
                f"{name(self)}: {self.label!r} has shape {label.shape} and {self.image!r} {image.shape}: "
                "both need a row for each example"
            )
        to_pair, to_share, to_place = jax.random.split(key, 3)
        partner = _partners(to_pair, len(image), batch.get("mask"))
        share = _beta(to_share, self.alpha, len(image))
        images, share = self.mixed(image, _rows(image, partner), share, to_place)
        labels = _blended(label, _rows(label, partner), share)
        return with_leaf(with_leaf(batch, self.image, images), self.label, labels)

    @abc.abstractmethod
    def mixed(
        self, image: jax.Array, other: jax.Array, share: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The images, and the shares (batch,) that the others have in them at last."""


@dataclass(frozen=True)
class mixup(Mixing):
    """Blend each image and label with those of another row: (1 - share) * own + share * other.

    Every row draws its share from Beta(alpha, alpha), in steps of 1/65536, and the partners are a permutation of the
    batch. Where `batch(remainder="pad")` has added a `mask`, real rows are mixed with real ones, and padding stays as
    it is.

    Args:
        image: the key of uint8 or float images, (batch, height, width, channels).
        label: the key of labels as floats, (batch, ...), such as `one_hot` makes.
        alpha: above 0; 0.2 leaves most images nearly whole, with 1 every share is as likely.

    Raises:
        TypeError: labels are no floats, images neither uint8 nor floats, or what is given is one example.
        ValueError: alpha is not above 0.

    Example:
        >>> import jax, numpy as np, tfjax
        >>> batch = {"image": np.arange(0, 200, 50, np.uint8).reshape(4, 1, 1, 1), "label": np.eye(4, dtype=np.float32)}
        >>> out = tfjax.on_device.mixup("image", "label", alpha=0.2)(batch, jax.random.key(0))
        >>> out["image"].dtype, [float(row.sum()) for row in out["label"]]
        (dtype('uint8'), [1.0, 1.0, 1.0, 1.0])
    """

    def mixed(
        self, image: jax.Array, other: jax.Array, share: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """See `Mixing`."""
        del key
        return _blended(image, other, share), share


@dataclass(frozen=True)
class cutmix(Mixing):
    """Paste a box of another row's image into each, and blend the labels by its area.

    A box has the image's aspect ratio and its middle anywhere; its area is drawn from Beta(alpha, alpha), and what lies
    outside of the image is left out of it. Partners and `mask` are those of `mixup`.

    Args:
        image: the key of uint8 or float images, (batch, height, width, channels).
        label: the key of labels as floats, (batch, ...), such as `one_hot` makes.
        alpha: above 0; 1 in the paper, where every area is as likely.

    Raises:
        TypeError: labels are no floats, images neither uint8 nor floats, or what is given is one example.
        ValueError: alpha is not above 0.

    Example:
        >>> import jax, numpy as np, tfjax
        >>> image = np.broadcast_to(np.arange(2, dtype=np.uint8).reshape(2, 1, 1, 1), (2, 8, 8, 1))
        >>> batch = {"image": image, "label": np.eye(2, dtype=np.float32)}
        >>> out = tfjax.on_device.cutmix("image", "label", alpha=1.0)(batch, jax.random.key(1))
        >>> [float(m) for m in out["image"].mean((1, 2, 3))], out["label"][:, 1].tolist()
        ([0.375, 0.609375], [0.375, 0.609375])
    """

    def mixed(
        self, image: jax.Array, other: jax.Array, share: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """See `Mixing`."""
        inside, area = [], jnp.float32(1)
        for axis, to_middle in enumerate(jax.random.split(key), start=1):
            length = image.shape[axis]
            side = jnp.floor(length * jnp.sqrt(share)).astype(jnp.int32)
            begin = jax.random.randint(to_middle, share.shape, 0, length, jnp.int32) - side // 2
            end = jnp.minimum(begin + side, length)
            begin = jnp.maximum(begin, 0)
            at = jnp.arange(length, dtype=jnp.int32)
            within = (begin[:, jnp.newaxis] <= at) & (at < end[:, jnp.newaxis])
            inside.append(jnp.expand_dims(within, (3 - axis, 3)))
            area = area * (end - begin) / length
        return jnp.where(inside[0] & inside[1], other, image), area


def _partners(key: jax.Array, count: int, mask: Any) -> jax.Array:
    """A random permutation of the rows (count,); with a mask, of the real rows, while the others keep their place."""
    if mask is None or mask.dtype != bool or mask.shape != (count,):
        return jax.random.permutation(key, count)
    mask = cut_as(mask, mask, 0)
    shuffled = jnp.argsort(jnp.where(mask, jax.random.uniform(key, (count,), jnp.float32), 2))
    return jnp.where(mask, shuffled[jnp.cumsum(mask) - 1], jnp.arange(count))


def _beta(key: jax.Array, alpha: float, count: int) -> jax.Array:
    """Numbers from Beta(alpha, alpha), (count,), in steps.

    Bailey's formula for Student's t, of which they are a function: it has no loop that rejects, and in which devices
    would wait for one another.
    """
    u, v = jax.random.uniform(key, (2, count), jnp.float32)
    s, c = u ** (1 / alpha), jnp.cos(2 * jnp.pi * v)
    drawn = (1 + c * jnp.sqrt((1 - s) / (s + c * c * (1 - s)))) / 2
    return jnp.round(drawn * _STEPS) / _STEPS


def _rows(array: jax.Array, index: jax.Array) -> jax.Array:
    """Rows by index, cut over the mesh as the array is."""
    return jnp.asarray(array).at[index].get(mode="promise_in_bounds", out_sharding=jax.typeof(array).sharding)


def _blended(own: jax.Array, other: jax.Array, share: jax.Array) -> jax.Array:
    """(1 - share) * own + share * other, in the dtype of both; exactly `own` where they are the same."""
    start = wide(own)
    share = share.astype(start.dtype).reshape(-1, *[1] * (own.ndim - 1))
    return narrow(start + share * (wide(other) - start), own.dtype)
