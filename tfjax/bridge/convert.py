"""Trees of tensors to trees of jax.Arrays, and back, without a copy on the host."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from tfjax._memory import refuse_mask
from tfjax._tensorflow import tf
from tfjax.bridge.tensor import as_array, narrows, require_numeric
from tfjax.bridge.tree import flatten_arrays
from tfjax.errors import SpecError
from tfjax.graph.element import NARROW
from tfjax.graph.narrow import fits


def to_jax(tree: Any) -> Any:
    """A pytree of eager tensors as a pytree of jax.Arrays on the first CPU device, over the same memory.

    Args:
        tree: eager `tf.Tensor`s in any registered pytree. 64-bit values are narrowed as JAX's settings ask, which is
            a copy; a value that does not fit is refused.

    Raises:
        SpecError: a string, ragged or sparse tensor, or a value that does not fit 32 bits; names the key path.
        TypeError: a leaf that is no eager tensor.

    Example:
        >>> import tensorflow as tf, tfjax
        >>> tfjax.to_jax({"x": tf.constant([1.0, 2.0])})["x"].tolist()
        [1.0, 2.0]
    """
    leaves, structure = flatten_arrays(tree)
    return structure.unflatten([_to_jax(x, path) for x, path in zip(leaves, structure.paths, strict=True)])


def to_tensor(tree: Any) -> Any:
    """A pytree of arrays as a pytree of eager tensors; jax.Arrays on a CPU device share their memory.

    Args:
        tree: jax.Arrays, NumPy arrays, numbers or strings. An array on an accelerator, or over several devices, is
            fetched to the host first.

    Raises:
        TypeError: a leaf that TensorFlow has no dtype for.

    Example:
        >>> import jax.numpy as jnp, tfjax
        >>> tfjax.to_tensor({"x": jnp.arange(3)})["x"].numpy().tolist()
        [0, 1, 2]
    """
    leaves, structure = flatten_arrays(tree)
    return structure.unflatten([_to_tensor(x, path) for x, path in zip(leaves, structure.paths, strict=True)])


def _to_jax(leaf: Any, path: str) -> jax.Array:
    if not isinstance(leaf, tf.Tensor | tf.RaggedTensor | tf.SparseTensor) or not tf.executing_eagerly():
        raise TypeError(f"to_jax: {path} is a {type(leaf).__name__}: pass eager tensors")
    require_numeric(leaf, path)
    slim = NARROW.get(leaf.dtype) if narrows() else None
    return as_array(leaf if slim is None else _narrow(leaf, slim, path))


def _narrow(leaf: tf.Tensor, dtype: tf.DType, path: str) -> tf.Tensor:
    cast = tf.cast(leaf, dtype)
    if not bool(fits(leaf, cast)):
        wide = leaf.dtype.name
        raise SpecError(f"{path} holds a {wide} value that does not fit {dtype.name}: set jax_enable_x64, or clip it")
    return cast


def _to_tensor(leaf: Any, path: str) -> tf.Tensor:
    refuse_mask(leaf, f"to_tensor: {path}")
    try:
        if not isinstance(leaf, jax.Array):
            return tf.convert_to_tensor(leaf)
        on_cpu = len(leaf.devices()) == 1 and next(iter(leaf.devices())).platform == "cpu"
        leaf = leaf if on_cpu else jax.device_put(np.asarray(leaf), jax.local_devices(backend="cpu")[0])
        return tf.experimental.dlpack.from_dlpack(leaf.__dlpack__())
    except (AttributeError, TypeError, ValueError, RuntimeError, tf.errors.OpError) as error:
        given = f"{type(leaf).__name__} of dtype {getattr(leaf, 'dtype', 'object')}"
        raise TypeError(f"to_tensor: {path} is a {given}, which TensorFlow has no dtype for") from error
