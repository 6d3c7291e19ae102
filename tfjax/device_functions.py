"""The functions of a placed batch as one, jitted together: each takes what the one before returns.

>>> from tfjax.graph.stages import DeviceMap
>>> composed([DeviceMap(fn=lambda b: b + 1), DeviceMap(fn=lambda b: b * 2)])(3, [])
8
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from tfjax.graph.rewrites.late_flip import LateFlip
from tfjax.graph.stages import DeviceMap, RandomDeviceMap
from tfjax.on_device.base import leaf_at, with_leaf

DeviceFunction = Callable[[Any, Sequence[Any]], Any]


def composed(stages: Sequence[DeviceMap], flips: Sequence[LateFlip] = ()) -> DeviceFunction:
    """A function of a batch and of what is carried beside it.

    That is what each flip decides, uint32 (batch,), and then the words of the keys of the random stages in order,
    uint32 (2,) or (batch, 2).
    """

    def function(batch: Any, words: Sequence[Any]) -> Any:
        left = iter(words)
        for flip in flips:
            key = flip.op.key
            batch = with_leaf(batch, key, _flipped(leaf_at(flip, batch, key), next(left)))
        for stage in stages:
            if not isinstance(stage, RandomDeviceMap):
                batch = stage.fn(batch)
                continue
            key = jax.random.wrap_key_data(next(left), impl="threefry2x32")
            batch = _by_example(stage.fn, batch, key) if stage.per_example else stage.fn(batch, key)
        return batch

    return function


def _flipped(images: Any, decided: Any) -> Any:
    """Images flipped as it was decided for each."""
    for bit, axis in ((1, 1), (2, 2)):
        which = (decided & bit).astype(bool).reshape(-1, 1, 1, 1)
        images = jnp.where(which, jnp.flip(images, axis), images)
    return images


def _by_example(fn: Callable[[Any, Any], Any], batch: Any, keys: Any) -> Any:
    """The function on each example; what has no batch dimension is given to all of them."""
    axes = jax.tree.map(lambda leaf: 0 if leaf.ndim else None, batch)
    cut = jax.tree.map(lambda leaf: _cut_like(leaf, keys) if leaf.ndim else leaf, batch)
    return jax.vmap(fn, in_axes=(axes, 0))(cut, keys)


def _cut_like(leaf: Any, keys: Any) -> Any:
    """On an Explicit mesh, the leaf with its batch dimension cut as that of the keys, which vmap asks for."""
    ours, theirs = jax.typeof(leaf).sharding, jax.typeof(keys).sharding
    if ours.spec[0] == theirs.spec[0]:
        return leaf
    return jax.sharding.reshard(leaf, NamedSharding(theirs.mesh, PartitionSpec(theirs.spec[0], *ours.spec[1:])))
