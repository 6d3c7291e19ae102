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

from tfjax.bridge.leaf import Leaf
from tfjax.errors import TfjaxError
from tfjax.graph.rewrites.late_flip import LateFlip
from tfjax.graph.stages import DeviceMap, RandomDeviceMap
from tfjax.on_device.base import leaf_at, with_leaf
from tfjax.spec import format_like, format_spec

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
            drawn = next(left) if isinstance(stage, RandomDeviceMap) else None
            try:
                batch = _applied(stage, batch, drawn)
            except Exception as error:
                raise _failed(stage.describe(), _shapes(batch), error) from error
        return batch

    return function


def by_batch(function: DeviceFunction) -> DeviceFunction:
    """The function on each batch of a stack, one after the other, so that each is what it is alone.

    >>> by_batch(lambda batch, _: batch / batch.max())(jnp.array([[1.0, 2.0], [1.0, 4.0]]), []).tolist()
    [[0.5, 1.0], [0.25, 1.0]]
    """

    def mapped(stack: Any, words: Sequence[Any]) -> Any:
        return jax.lax.map(lambda given: function(*given), (stack, words))

    return mapped


def running(function: DeviceFunction, names: Sequence[str], leaves: Sequence[Leaf]) -> DeviceFunction:
    """A compiled function whose errors while it is compiled or run name what it is made of and its batch.

    A device that computes while Python goes on reports an error where its result is used: JAX raises that one.
    """
    given = ", ".join(f"{leaf.path}: {format_spec(leaf.shape, leaf.dtype.name)}".removeprefix(": ") for leaf in leaves)

    def run(batch: Any, words: Sequence[Any]) -> Any:
        try:
            return function(batch, words)
        except (RuntimeError, FloatingPointError) as error:
            raise _failed(", ".join(names), given, error) from error

    return run


def _applied(stage: DeviceMap, batch: Any, words: Any) -> Any:
    if words is None:
        return stage.fn(batch)
    key = jax.random.wrap_key_data(words, impl="threefry2x32")
    if isinstance(stage, RandomDeviceMap) and stage.per_example:
        return _by_example(stage.fn, batch, key)
    return stage.fn(batch, key)


def _failed(names: str, given: str, error: Exception) -> Exception:
    """The error with the stage and its batch before it; of the same built-in kind where that is one to be caught."""
    kinds = (KeyError, TypeError, ValueError)
    own = type(error) if isinstance(error, TfjaxError) else None
    kind = own or next((kind for kind in kinds if isinstance(error, kind)), TfjaxError)
    said = error.args[0] if isinstance(error, KeyError) and error.args else error
    return kind(f"{names} failed on a batch of {given}: {type(error).__name__}: {said}")


def _shapes(batch: Any) -> str:
    """Each leaf with its path, in one line."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(batch)
    kinds = [format_like(leaf) if hasattr(leaf, "dtype") else type(leaf).__name__ for _, leaf in leaves]
    return ", ".join(
        f"{jax.tree_util.keystr(path)}: {kind}".removeprefix(": ")
        for (path, _), kind in zip(leaves, kinds, strict=True)
    )


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
