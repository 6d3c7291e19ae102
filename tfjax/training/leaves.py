"""What of a training state a checkpoint holds, leaf by leaf: arrays as arrays, Python numbers and text as JSON.

Functions and classes among the leaves are part of the program: none is kept, and a state that is read has those of the
state that it is read for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_NO_NUMBERS = "OSUMm"  # kinds of NumPy dtypes: objects, text, times


@dataclass(frozen=True, kw_only=True)
class Leaves:
    """The leaves of a state that are kept, in its order.

    Args:
        kinds: how each was held: "array", "numpy DTYPE", "weak" (a scalar without a dtype of its own), "plain" (a
            Python number or text), "empty".
        arrays: those of the first two kinds.
        plain: the values of the next two, of JSON types.
    """

    kinds: list[str]
    arrays: list[Any]
    plain: list[Any]


def described(state: Any) -> list[str]:
    """Key path, dtype and shape of each leaf that is kept; a number is described as the array that jit makes of it.

    Raises:
        TypeError: a leaf is neither array, number, text nor function.
    """
    return [f"{jax.tree_util.keystr(path)}: {_described(leaf)}" for path, leaf in _kept(state)]


def taken_apart(state: Any) -> Leaves:
    """What is written of a state."""
    arrays, plain, kinds = [], [], []
    for _, leaf in _kept(state):
        kinds.append(kind := _kind(leaf))
        if kind in ("plain", "weak"):
            plain.append(leaf if kind == "plain" else leaf.item())
        elif kind != "empty":
            arrays.append(np.asarray(leaf) if isinstance(leaf, np.generic) else leaf)
    return Leaves(kinds=kinds, arrays=arrays, plain=plain)


def targets(state: Any, kinds: list[str]) -> list[Any]:
    """What each array that was written is read as, for a state of the same description."""
    pairs = zip(kinds, (leaf for _, leaf in _kept(state)), strict=True)
    return [_target(kind, leaf) for kind, leaf in pairs if kind not in ("plain", "weak", "empty")]


def put_together(state: Any, saved: Leaves) -> Any:
    """A state of the same description with what was read."""
    kinds, arrays, plain = iter(saved.kinds), iter(saved.arrays), iter(saved.plain)

    def read(given: Any) -> Any:
        if not _is_kept(given) or (kind := next(kinds)) == "empty":
            return given
        if kind == "plain":
            return next(plain)
        if kind == "weak":
            return _placed_as(given, jnp.asarray(next(plain)))
        found = next(arrays)
        if kind.startswith("numpy"):
            return found[()] if kind.startswith("numpy scalar") else found
        return _placed_as(given, found)

    return jax.tree.map(read, state)


def _kept(state: Any) -> Iterator[tuple[Any, Any]]:
    return ((path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(state) if _is_kept(leaf, path))


def _is_kept(leaf: Any, path: Any = ()) -> bool:
    if isinstance(leaf, jax.Array | bool | int | float | str):
        return True
    if isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind not in _NO_NUMBERS:
        return True
    if callable(leaf):
        return False
    kind = type(leaf).__name__ + (f" of {leaf.dtype}" if isinstance(leaf, np.ndarray | np.generic) else "")
    raise TypeError(
        f"the state's {jax.tree_util.keystr(path) or 'only leaf'} is a {kind}, of which a checkpoint would keep "
        "nothing: hold arrays, numbers or text there, or make it a static field"
    )


def _described(leaf: Any) -> str:
    if isinstance(leaf, str):
        return "text"
    return f"{_dtype_on_device(leaf)}{list(np.shape(leaf))}"


def _dtype_on_device(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array):
        return leaf.dtype
    return jax.dtypes.canonicalize_dtype(leaf.dtype if isinstance(leaf, np.ndarray | np.generic) else type(leaf))


def _kind(leaf: Any) -> str:
    if isinstance(leaf, np.generic):
        return f"numpy scalar {leaf.dtype}"
    if isinstance(leaf, bool | int | float | str):
        return "plain"
    if leaf.size == 0:
        return "empty"  # Orbax refuses them, and they hold nothing
    if isinstance(leaf, np.ndarray):
        return f"numpy {leaf.dtype}"
    if leaf.ndim or _is_key(leaf) or jnp.iscomplexobj(leaf):
        return "array"
    return "weak" if leaf.weak_type else "array"  # Orbax forgets that it is weak, which decides the dtypes of a step


def _target(kind: str, given: Any) -> Any:
    if kind.startswith("numpy"):
        return np.empty(np.shape(given), jnp.dtype(kind.rpartition(" ")[2]))
    if isinstance(given, jax.Array):
        return jax.ShapeDtypeStruct(given.shape, given.dtype, sharding=given.sharding)
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(np.shape(given), _dtype_on_device(given), sharding=here)


def _placed_as(given: Any, found: Any) -> Any:
    """Committed to the devices of the given leaf, or to none where that is not: a step may move it to its batch."""
    if isinstance(given, jax.Array) and given.committed:
        return jax.device_put(found, given.sharding)
    if _is_key(found):
        data = jnp.asarray(np.asarray(jax.random.key_data(found)))
        found = jax.random.wrap_key_data(data, impl=jax.random.key_impl(found))
    elif found.committed:
        found = jnp.asarray(np.asarray(found))
    return found


def _is_key(leaf: jax.Array) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))
