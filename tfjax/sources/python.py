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
import re
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from tfjax._memory import unshared
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


class Pullable(Protocol):
    """What `pulled_rows` asks of a registered object."""

    error: BaseException | None
    """What `pull` raised last; the graph carries no more than the handle to it."""

    def start(self, epoch: int) -> int:
        """Begin to iterate over an epoch, and return a number that stands for it."""
        ...

    def pull(self, number: int) -> tuple[bool, Sequence[np.ndarray]]:
        """Whether there is another element, and its leaves; at the end, filler of the right dtype and rank."""
        ...

    def finish(self, number: int) -> None:
        """What `start` returned is not pulled any more; called once for each, at its end or before."""
        ...


_MARK = "tfjax:pull:"
_numbers = itertools.count()
_objects: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def register(obj: Readable | Storable | Pullable) -> int:
    """Enter an object into the weak table and return its handle, unique in this process.

    Args:
        obj: has `read(indices)`, `store(indices, rows)`, or `start(epoch)`, `pull(number)` and `finish(number)`. The
            table does not keep it alive.

    Returns:
        The handle that `fetch_rows`, `store_rows` and `pulled_rows` take.

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


def pulled_rows(handle: int, epoch: tf.Tensor, specs: Sequence[tf.TensorSpec]) -> tf.data.Dataset:
    """In a graph: what the registered object yields, from `start(epoch)` over each `pull` to `finish`.

    An iterator over it calls `finish` as soon as nothing more is wanted of it: at its end, when a `take` after it has
    enough, or when the iterator is released.

    Args:
        handle: what `register` returned.
        epoch: int64 scalar.
        specs: one a leaf.

    Returns:
        Elements led by True; after the last comes one led by False, whose leaves are filler.

    Raises:
        RuntimeError: when the graph runs, as a TensorFlow error that `pull_error` knows.

    Example:
        >>> class Countdown:
        ...     error = None
        ...     def start(self, epoch):
        ...         self.left = [np.int32(0), np.int32(1)]
        ...         return 0
        ...     def pull(self, number):
        ...         return (True, [self.left.pop()]) if self.left else (False, [np.int32(0)])
        ...     def finish(self, number):
        ...         print("finished")
        >>> handle = register(countdown := Countdown())
        >>> rows = pulled_rows(handle, tf.constant(0, tf.int64), [tf.TensorSpec((), tf.int32)])
        >>> [(bool(more), int(leaf)) for more, leaf in rows.take(3)]
        finished
        [(True, 1), (True, 0), (False, 0)]
    """
    flags = (tf.TensorSpec((), tf.bool), *specs)

    def called(function: Any, dtypes: Any) -> Any:
        def call(number: tf.Tensor) -> Any:
            return tf.numpy_function(function, [tf.constant(handle, tf.int64), number], dtypes, stateful=True)

        return tf.function(call, autograph=False).get_concrete_function(tf.TensorSpec((), tf.int64))

    def generated(number: tf.Tensor) -> tf.data.Dataset:
        # Dataset.from_generator is made of this op; its own table of generators would keep what they hold alive.
        variant = tf.raw_ops.GeneratorDataset(
            init_func_other_args=[number],
            next_func_other_args=[],
            finalize_func_other_args=[],
            init_func=called(_start, tf.int64),
            next_func=called(_pull, [s.dtype for s in flags]),
            finalize_func=called(_finish, tf.int64),
            output_types=[s.dtype for s in flags],
            output_shapes=[s.shape for s in flags],
        )
        return tf.data.experimental.from_variant(variant, flags)

    # Inside of a flat_map, whose graph keeps the three functions.
    return tf.data.Dataset.from_tensors(epoch).flat_map(tf.autograph.experimental.do_not_convert(generated))


def pull_error(text: str) -> BaseException | None:
    """What `pull` raised, where `text` is the TensorFlow error that came of it; None for any other error."""
    found = re.search(rf"{_MARK}(\d+)", text)
    obj = None if found is None else _objects.get(int(found[1]))
    return None if obj is None else obj.error


def _start(handle: np.int64, epoch: np.int64) -> np.ndarray:
    return _marked(handle, lambda obj: np.asarray(obj.start(int(epoch)), np.int64))  # type: ignore[no-any-return]


def _pull(handle: np.int64, number: np.int64) -> list[np.ndarray]:
    more, leaves = _marked(handle, lambda obj: obj.pull(int(number)))
    return [np.asarray(more), *map(_given, leaves)]


def _finish(handle: np.int64, number: np.int64) -> np.ndarray:
    """What it raises is logged by TensorFlow, and no more; an object that is gone has finished everything itself."""
    obj = _objects.get(int(handle))
    if obj is not None:
        obj.finish(int(number))
    return np.asarray(0, np.int64)


def _marked(handle: np.int64, call: Callable[[Any], Any]) -> Any:
    """Call with the object; an exception is kept there, because TensorFlow hands on its text alone."""
    obj = _lookup(handle)
    try:
        return call(obj)
    except BaseException as error:  # noqa: BLE001 - raised again by whoever reads the graph
        obj.error = error
        raise RuntimeError(f"{_MARK}{int(handle)} {type(error).__name__}: {error}") from None


def _fetch(handle: np.int64, indices: np.ndarray) -> list[np.ndarray]:
    return [_given(rows) for rows in _lookup(handle).read(indices)]


def _given(array: np.ndarray) -> np.ndarray:
    """What TensorFlow may share, which it does where memory starts on 64 bytes: nothing that is filled again."""
    return array if array.dtype == object else unshared(array)


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
