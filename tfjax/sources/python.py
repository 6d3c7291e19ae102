"""Python at run time: the only Python callables that tfjax puts into a TensorFlow graph.

TensorFlow never frees a closure given to `numpy_function`, nor anything the closure holds. A graph
therefore carries an integer handle into one weak table, and the callables here are plain module-level
functions that look the object up. Whoever runs a graph keeps the object alive; when its last owner goes, so
does the table's entry.

    >>> import numpy as np
    >>> from tfjax._tensorflow import tf
    >>> from tfjax.sources.python import fetch_rows, register
    >>> class Squares:
    ...     def read(self, indices):
    ...         return indices**2, np.ones(len(indices), bool)
    >>> squares = Squares()
    >>> rows, ok = fetch_rows(register(squares), tf.range(4, dtype=tf.int64), [tf.int64])
    >>> rows.numpy().tolist()
    [0, 1, 4, 9]
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from tfjax._tensorflow import tf


class Readable(Protocol):
    """What `fetch_rows` asks of a registered object."""

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """Rows at `indices`, int64 (n,): one array a leaf with leading dimension n, then `ok`, bool (n,).

        It is pure: the same indices give the same rows. A bad record raises nothing: its `ok` is False and
        its row is filler of the right dtype and shape.
        """
        ...


class Storable(Protocol):
    """What `store_rows` asks of a registered object."""

    def store(self, indices: np.ndarray, rows: tuple[np.ndarray, ...]) -> None:
        """Keep `rows`, one array a leaf of shape (n, ...), under `indices`, int64 (n,); twice is as once."""
        ...


_numbers = itertools.count()
_objects: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def register(obj: Readable | Storable) -> int:
    """Enter an object into the weak table and return its handle, unique in this process.

    Args:
        obj: has `read(indices)`, or `store(indices, rows)`, or both. The table does not keep it alive.

    Returns:
        The handle that `fetch_rows` and `store_rows` take.

    Example:
        >>> class Nothing:
        ...     def store(self, indices, rows): ...
        >>> a, b = Nothing(), Nothing()
        >>> register(a) == register(b)
        False
    """
    handle = next(_numbers)
    _objects[handle] = obj
    return handle


def fetch_rows(handle: int, indices: tf.Tensor, dtypes: Sequence[tf.DType]) -> tuple[tf.Tensor, ...]:
    """In a graph: `read(indices)` of the registered object.

    TensorFlow may fold, repeat or drop the call, as `read` is pure.

    Args:
        handle: what `register` returned.
        indices: int64 tensor of shape (n,).
        dtypes: one dtype a leaf, without the `ok` leaf.

    Returns:
        One tensor a leaf, then `ok`: a bool tensor of shape (n,), False where a record is bad. Leaves have
        no static shape; `ok` has that of `indices`.

    Raises:
        RuntimeError: when the graph runs, as a TensorFlow error: the object is gone.

    Example:
        >>> class Halves:
        ...     def read(self, indices):
        ...         return (indices / 2).astype("float32"), indices >= 0
        >>> halves = Halves()
        >>> fetched = fetch_rows(register(halves), tf.constant([3, 4], tf.int64), [tf.float32])
        >>> [t.numpy().tolist() for t in fetched]
        [[1.5, 2.0], [True, True]]
    """
    where = tf.constant(handle, tf.int64)
    *rows, ok = tf.numpy_function(_fetch, [where, indices], [*dtypes, tf.bool], stateful=False)
    ok.set_shape(indices.shape)
    return (*rows, ok)


def store_rows(handle: int, indices: tf.Tensor, *rows: tf.Tensor) -> tf.Tensor:
    """In a graph: `store(indices, rows)` of the registered object, once for each run of the graph.

    Args:
        handle: what `register` returned.
        indices: int64 tensor of shape (n,).
        *rows: one tensor a leaf, leading dimension n.

    Returns:
        An int64 scalar, the number of rows stored: something for `tf.control_dependencies` to wait for.

    Raises:
        RuntimeError: when the graph runs, as a TensorFlow error: the object is gone.

    Example:
        >>> class Shelf(dict):
        ...     def store(self, indices, rows):
        ...         self.update(zip(indices.tolist(), rows[0].tolist()))
        >>> shelf = Shelf()
        >>> store_rows(register(shelf), tf.constant([7], tf.int64), tf.constant([0.5])).numpy(), shelf
        (np.int64(1), {7: 0.5})
    """
    stored = tf.numpy_function(_store, [tf.constant(handle, tf.int64), indices, *rows], tf.int64, stateful=True)
    stored.set_shape(())
    return stored


def _fetch(handle: np.int64, indices: np.ndarray) -> list[np.ndarray]:
    return list(_lookup(handle).read(indices))


def _store(handle: np.int64, indices: np.ndarray, *rows: np.ndarray) -> np.ndarray:
    _lookup(handle).store(indices, rows)
    return np.asarray(len(indices), np.int64)


def _lookup(handle: np.int64) -> Any:
    obj = _objects.get(int(handle))
    if obj is None:
        raise RuntimeError(
            f"the Python object behind handle {int(handle)} of this graph was released: keep the pipeline "
            "that made the graph alive, and run the graph in the process that made it"
        )
    return obj
