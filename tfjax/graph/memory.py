"""A cache in memory: one array a leaf, filled row by row as rows are first needed."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

import numpy as np

from tfjax._tensorflow import tf
from tfjax.errors import SpecError
from tfjax.graph.element import Element, describe_spec, size_bytes
from tfjax.graph.stages import Stage
from tfjax.sources.python import register, store_rows
from tfjax.spec import format_bytes

if TYPE_CHECKING:
    from tfjax.graph.rows import Fetched

_ALIGNMENT = 64  # what TensorFlow's and XLA's vector instructions expect
_of_stage: weakref.WeakKeyDictionary[Stage, MemoryCache] = weakref.WeakKeyDictionary()


class MemoryCache:
    """Rows of one deterministic prefix."""

    def __init__(self, length: int, element: Element, title: str) -> None:
        """Reserve `length` rows under a title for `explain`; pages are taken as they are written.

        Raises:
            SpecError: a leaf has no fixed size.
        """
        require_storable(element)
        self._dtypes = [s.dtype for s in element.specs]
        self._buffers = [_aligned((length, *s.shape), _storage(s.dtype)) for s in element.specs]
        self._filled = _aligned((length,), np.dtype(np.bool_))
        self.length, self.title = length, title
        self._fence = threading.Lock()
        self.handle = register(self)

    @property
    def is_complete(self) -> bool:
        """Whether every row is there."""
        return bool(self._filled.all())

    @property
    def rows(self) -> int:
        """How many rows are there."""
        return int(self._filled.sum())

    def describe(self) -> str:
        """How full it is, and what it takes in all."""
        size = format_bytes(sum(b.nbytes for b in self._buffers))
        return f"{self.title}: {self.rows} of {self.length} rows kept, {size}; later one gather a batch"

    def has(self, positions: tf.Tensor) -> tf.Tensor:
        """Which rows are there, bool (n,), in the graph."""
        return tf.gather(_shared(self._filled), positions)

    def gather(self, positions: tf.Tensor) -> list[tf.Tensor]:
        """The rows, in the graph."""
        taken = [tf.gather(_shared(b), positions) for b in self._buffers]
        return [t if t.dtype == d else tf.bitcast(t, d) for t, d in zip(taken, self._dtypes, strict=True)]

    def keep(self, positions: tf.Tensor, got: Fetched) -> tf.Tensor:
        """Write rows from within the graph; those that could not be read are left out."""
        good, leaves = positions, list(got.leaves)
        if got.ok is not None:
            good, *leaves = (tf.boolean_mask(t, got.ok) for t in (positions, *leaves))
        bits = [tf.bitcast(x, b.dtype) if x.dtype != b.dtype else x for x, b in zip(leaves, self._buffers, strict=True)]
        return store_rows(self.handle, good, *bits)

    def store(self, positions: np.ndarray, rows: tuple[np.ndarray, ...]) -> None:
        """Called by `store_rows`: the rows first, then the flags that let them be read.

        TensorFlow reads both without Python's lock. Taking a lock twice keeps the flags' stores behind the rows' on
        processors that do not keep stores in order.
        """
        for buffer, leaf in zip(self._buffers, rows, strict=True):
            buffer[positions] = leaf
        for _ in range(2):
            with self._fence:
                pass
        self._filled[positions] = True


def memory_cache(owner: Stage, length: int, element: Element, title: str) -> MemoryCache:
    """The cache of a stage: made once, shared by every pipeline that holds the stage, freed with the last of them."""
    cache = _of_stage.get(owner)
    if cache is None:
        cache = _of_stage.setdefault(owner, MemoryCache(length, element, title))
    return cache


def require_storable(element: Element) -> None:
    """Raise SpecError where a leaf has no fixed size."""
    if size_bytes(element) is None:
        loose = next(f"{p} is {describe_spec(s)}" for p, s in element.leaves() if not _is_storable(s))
        raise SpecError(f"cache('memory') holds rows of a fixed size, but {loose}: resize, pad or drop it before")


def _is_storable(spec: tf.TypeSpec) -> bool:
    return (
        isinstance(spec, tf.TensorSpec)
        and spec.shape.is_fully_defined()
        and spec.dtype.size > 0
        and spec.dtype != tf.string
    )


def _storage(dtype: tf.DType) -> np.dtype:
    """DLPack, which shares the array with TensorFlow, knows NumPy's own dtypes only: others are kept as bits."""
    native = dtype.as_numpy_dtype
    return np.dtype(native) if np.dtype(native).isbuiltin == 1 else np.dtype(f"uint{8 * dtype.size}")


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def _shared(array: np.ndarray) -> tf.Tensor:
    """The same memory as a tensor, which keeps the array alive."""
    if array.size == 0:
        return tf.zeros(array.shape, array.dtype)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
