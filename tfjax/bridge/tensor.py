"""One tensor: from TensorFlow's memory to a jax.Array or a NumPy view, and back, without a copy on the host.

The dtype is looked at before DLPack is touched: exporting a string, variant or resource tensor aborts the process.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from tfjax._jaxlib import is_tested
from tfjax._tensorflow import tf
from tfjax.errors import SpecError
from tfjax.graph.element import NUMERIC

_DLPACK_CPU = 1


def require_numeric(tensor: Any, path: str) -> None:
    """Raise where a tensor is none that JAX could hold."""
    if isinstance(tensor, tf.RaggedTensor | tf.SparseTensor):
        fix = ".to_tensor()" if isinstance(tensor, tf.RaggedTensor) else "tf.sparse.to_dense"
        raise SpecError(f"{path} is a {type(tensor).__name__}, which is no array: make it dense with {fix}")
    if tensor.dtype not in NUMERIC:
        raise SpecError(
            f"{path} has dtype {tensor.dtype.name}, which JAX does not hold: keep it on the host or encode it"
        )


def narrows() -> bool:
    """Whether JAX holds no 64-bit values, which is its default."""
    return not jax.config.jax_enable_x64  # type: ignore[attr-defined]


def as_view(tensor: tf.Tensor) -> np.ndarray:
    """A read-only NumPy array over the tensor's own memory."""
    if tensor.dtype == tf.bfloat16:  # has no buffer format; JAX's array has the same memory
        return np.asarray(jax.dlpack.from_dlpack(tensor))
    return np.asarray(memoryview(tensor))


def as_host(tensor: tf.Tensor) -> np.ndarray:
    """What `keep_on_host` delivers: strings as an object array of bytes, anything else as a view."""
    return np.asarray(tensor.numpy(), object) if tensor.dtype == tf.string else as_view(tensor)


def as_array(tensor: tf.Tensor) -> jax.Array:
    """A jax.Array on the first CPU device, over the tensor's own memory; the dtype must be one of `NUMERIC`."""
    return importer()(tensor)


@functools.cache
def importer(*, committed: bool = True) -> Callable[[tf.Tensor], jax.Array]:
    """The fastest way from a tensor to a jax.Array that works here.

    `jax.dlpack.from_dlpack` ends in a call of jaxlib's extension; going there at once saves 12 of 17 us, because the
    element spec has answered what it checks. The functions are private: they are used with the jaxlib versions that
    they were tested with, and after they have passed a trial; otherwise public ones serve.

    Args:
        committed: whether the array is bound to its device, as where the user named one. What is not bound follows
            the other arguments of a jitted function, and does not make it compile twice.
    """
    public = jax.dlpack.from_dlpack if committed else _put_view
    if is_tested():
        try:
            private = _private_importer() if committed else _unbound(_private_importer())
            if _is_right(private, committed):
                return private
        except (ImportError, AttributeError, TypeError, ValueError, RuntimeError):
            return public
    return public


def _put_view(tensor: tf.Tensor) -> jax.Array:
    return jax.device_put(as_view(tensor))  # type: ignore[no-any-return]


def _private_importer() -> Callable[[tf.Tensor], jax.Array]:
    from jaxlib._jax import dlpack_managed_tensor_to_buffer

    cpu = jax.local_devices(backend="cpu")[0]

    def import_array(tensor: tf.Tensor) -> jax.Array:
        return dlpack_managed_tensor_to_buffer(tensor.__dlpack__(), cpu, None, None, _DLPACK_CPU)  # type: ignore[no-any-return]

    return import_array


def _unbound(bound: Callable[[tf.Tensor], jax.Array]) -> Callable[[tf.Tensor], jax.Array]:
    from jax._src.array import ArrayImpl

    def import_array(tensor: tf.Tensor) -> jax.Array:
        array = bound(tensor)
        return ArrayImpl(array.aval, array.sharding, [array], committed=False, _skip_checks=True)  # type: ignore[list-item]

    return import_array


def _is_right(importer: Callable[[tf.Tensor], jax.Array], committed: bool) -> bool:
    tensor = tf.constant(np.arange(32, dtype=np.float32))
    array = importer(tensor)
    shared = array.unsafe_buffer_pointer() == np.asarray(memoryview(tensor)).ctypes.data
    right = isinstance(array, jax.Array) and array.committed == committed
    return right and shared and bool((np.asarray(array) == np.arange(32)).all())
