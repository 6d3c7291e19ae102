"""What the functions have in common: the leaf that they are named for, and the check of what is found there."""

from __future__ import annotations

import abc
import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec


@dataclass(frozen=True)
class LeafFunction:
    """A function that changes one leaf of a batch. Classes are named as the calls that they stand for.

    Args:
        key: where the leaf is: a key, or keys on the way to it, such as "inputs/image".
    """

    key: str

    def __post_init__(self) -> None:
        """Check the arguments; classes add their own rules."""
        require_path(self, self.key)


@dataclass(frozen=True)
class ImageFunction(LeafFunction, abc.ABC):
    """A random function of the images of a batch, (batch, height, width, channels), or of one, without the batch."""

    def __call__(self, batch: Any, key: jax.Array) -> Any:
        """The batch with its images changed; the one that was given is left as it is."""
        image = require_images(self, leaf_at(self, batch, self.key), self.key, ranks=(3, 4))
        return with_leaf(batch, self.key, self.images(image, key))

    @abc.abstractmethod
    def images(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """The images that come out; each row of a batch has random numbers of its own."""


def require_path(function: Any, path: Any) -> None:
    """Raise TypeError where a key is no string."""
    if not isinstance(path, str) or not path:
        raise TypeError(f"{name(function)} takes the key of a leaf, such as 'image', given {path!r}")


def require_images(function: Any, image: Any, path: str, *, ranks: tuple[int, ...]) -> jax.Array:
    """Raise TypeError where a leaf has another rank than images have."""
    if image.ndim not in ranks:
        fix = "" if 3 in ranks else ": it needs the whole batch, so call random_device_map without per_example"
        one = " or (height, width, channels)" if 3 in ranks else ""
        raise TypeError(
            f"{name(function)}: {path!r} has shape {image.shape}, "
            f"and it takes (batch, height, width, channels){one}{fix}"
        )
    return image  # type: ignore[no-any-return]


def require_pixels(function: Any, image: jax.Array, path: str) -> None:
    """Raise TypeError where images are neither uint8 nor floats."""
    if image.dtype != jnp.uint8 and not jnp.issubdtype(image.dtype, jnp.floating):
        raise TypeError(
            f"{name(function)}: {path!r} is {image.dtype}, and it takes uint8 or floats: "
            f"put on_device.cast({{{path!r}: 'float32'}}) before it"
        )


def leaf_at(function: Any, batch: Any, path: str) -> Any:
    """The leaf of a batch at a path of keys.

    Raises:
        KeyError: there is no such key.
        TypeError: the batch, or what lies on the way, is no dictionary.
    """
    node = batch
    for key in path.split("/"):
        if not isinstance(node, Mapping):
            raise TypeError(
                f"{name(function)}: {path!r} is the key of a dict, and this is a {type(node).__name__}: "
                "return a dict in map"
            )
        if key not in node:
            raise KeyError(f"{name(function)}: there is no {path!r}: the keys are {sorted(node)}")
        node = node[key]
    return node


def with_leaf(batch: Any, path: str, leaf: Any) -> Any:
    """A copy of a batch with another leaf at a path."""
    key, _, rest = path.partition("/")
    changed = copy.copy(batch)
    changed[key] = with_leaf(batch[key], rest, leaf) if rest else leaf
    return changed


def name(function: Any) -> str:
    """What the user called."""
    return type(function).__name__


def wide(image: jax.Array) -> jax.Array:
    """Images in the floats that are computed with: float32, or float64 where they are that."""
    return image.astype(jnp.promote_types(image.dtype, jnp.float32))


def narrow(values: jax.Array, dtype: Any) -> jax.Array:
    """Computed values in the dtype of the images: rounded and saturated where that is uint8."""
    return (jnp.clip(jnp.round(values), 0, 255) if dtype == jnp.uint8 else values).astype(dtype)


def cut_as(like: jax.Array, array: jax.Array, dims: int) -> jax.Array:
    """An array whose first `dims` dimensions are cut as those of another, the rest whole, where the mesh is Explicit.

    Elsewhere arrays have no layout while they are traced: the compiler finds one.
    """
    sharding = jax.typeof(like).sharding
    if all(entry is None for entry in sharding.spec):
        return array
    return jax.reshard(  # type: ignore[no-any-return]
        array, NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[:dims]))
    )
