"""What any library hands over as a leaf (NumPy, torch, numbers, jax.Arrays), as an array that can be put on devices.

An array that somebody may still write to is copied: the next batch would otherwise overwrite this one, since a CPU
device shares the host's memory.

>>> Host("['x']")(np.arange(3)).dtype
dtype('int32')
"""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import numpy as np

from tfjax._memory import aligned_copy, frozen, refuse_mask, unshared
from tfjax.errors import SpecError


class Host:
    """Takes the leaves of one key path to the host."""

    def __init__(self, path: str) -> None:
        """Name the leaf, for messages."""
        self._path = path

    def __call__(self, leaf: Any) -> Any:
        """A NumPy array that nobody writes to and that JAX has a dtype for, or a jax.Array.

        Raises:
            SpecError: strings, objects or records, or a 64-bit value that does not fit 32 bits.
            TypeError: no array.
        """
        if isinstance(leaf, jax.Array):
            return leaf
        array = self._array(leaf)
        dtype = jax.dtypes.canonicalize_dtype(array.dtype)
        if dtype != array.dtype:
            return frozen(self._narrowed(array, dtype))
        return unshared(array)

    def _array(self, leaf: Any) -> np.ndarray:
        if not isinstance(leaf, np.ndarray | np.generic | bool | int | float | complex):
            leaf = self._imported(leaf)
        refuse_mask(leaf, self._path)
        array = np.asarray(leaf)
        if array.dtype.kind in "OSUMm" or array.dtype.type is np.void or array.dtype.char in "gG":
            raise SpecError(
                f"{self._path} has dtype {array.dtype}, which JAX does not have: leave it out, or encode it as numbers"
            )
        return array if array.dtype.isnative else frozen(array.astype(array.dtype.newbyteorder("=")))

    def _imported(self, leaf: Any) -> np.ndarray:
        if type(leaf).__module__.partition(".")[0] == "tensorflow":
            # Exporting a string tensor through DLPack aborts the process; its buffer protocol raises.
            raise TypeError(
                f"{self._path} is a {type(leaf).__name__} of TensorFlow: use tfjax.from_tf(dataset), or "
                "tfds.as_numpy(dataset)"
            )
        if hasattr(leaf, "__dlpack__") and hasattr(leaf, "__dlpack_device__"):
            return self._from_dlpack(leaf)
        if hasattr(leaf, "__array__"):
            return np.array(leaf)
        kind = type(leaf).__name__
        raise TypeError(f"{self._path} is a {kind}, no array: yield NumPy arrays, torch tensors, numbers or jax.Arrays")

    def _from_dlpack(self, leaf: Any) -> np.ndarray:
        if hasattr(leaf, "resolve_neg"):
            leaf = leaf.resolve_neg()  # torch exports its memory without the sign that it keeps beside it
        # Whoever owns it may write to it: it is copied.
        with contextlib.suppress(BufferError, RuntimeError, TypeError, ValueError):
            return aligned_copy(np.from_dlpack(leaf))
        try:
            array = np.asarray(jax.dlpack.from_dlpack(leaf))  # knows bfloat16 and other devices
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            kind = f"{type(leaf).__module__}.{type(leaf).__name__}"
            raise TypeError(f"{self._path}: the {kind} does not export its memory: {error}") from error
        if "64" in str(leaf.dtype) and array.dtype.itemsize < 8:
            raise SpecError(f"{self._path} is {leaf.dtype} on {leaf.device}, and JAX would cut it down: cast it")
        return aligned_copy(array)

    def _narrowed(self, array: np.ndarray, dtype: Any) -> np.ndarray:
        with np.errstate(over="ignore"):
            slim = array.astype(dtype)
        if array.dtype.kind in "iu":
            right = np.array_equal(slim, array)
        else:
            right = bool((np.isfinite(slim) | ~np.isfinite(array)).all())
        if not right:
            raise SpecError(
                f"{self._path} holds a value of {array.dtype} that does not fit {dtype}, to which JAX narrows it: set "
                "jax_enable_x64, or cast or clip it"
            )
        return slim
