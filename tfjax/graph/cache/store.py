"""The rows of a cache, wherever they lie: an array a leaf, and a flag a row that lets it be read.

Both are shared with TensorFlow, so that what is there is had by one gather a leaf, without Python.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfjax._tensorflow import tf
from tfjax.errors import CorruptDataError
from tfjax.graph.cache.counts import Counts
from tfjax.graph.element import Element
from tfjax.sources.python import register, store_rows
from tfjax.spec import format_bytes

if TYPE_CHECKING:
    from tfjax.graph.cache.records import Records


class Column:
    """One leaf of all rows."""

    def __init__(self, array: np.ndarray) -> None:
        """Hold them in `array`, of shape (rows, ...)."""
        self.array = array

    def put(self, positions: np.ndarray, rows: np.ndarray) -> None:
        """Write rows; two threads may write the same one, as both write the same."""
        self.array[positions] = rows


class RowStore:
    """Rows of one deterministic prefix.

    Attributes:
        length: rows of the prefix.
        most: how many of them are kept at most: the first ones.
        title: what `explain` calls it.
        error: what a disk refused last, until somebody asks.
        counts: rows that were asked for and there, and those that were not.
    """

    def __init__(
        self,
        element: Element,
        columns: Sequence[Column],
        filled: np.ndarray,
        *,
        most: int,
        title: str,
        records: Records | None = None,
    ) -> None:
        """Keep rows of `element`, whose leaves are of a fixed size or strings.

        Args:
            element: one row.
            columns: one for each leaf of a fixed size.
            filled: bool (rows,), which rows are there.
            most: how many rows are kept.
            title: for `explain`.
            records: where the strings are kept.
        """
        self.length, self.most, self.title = len(filled), most, title
        self.error: OSError | None = None
        self._dtypes = [s.dtype for s in element.specs]
        self._columns, self._filled, self._records = list(columns), filled, records
        self.counts = Counts()
        self._known = 0
        self._fence = threading.Lock()
        self.handle = register(self)

    @property
    def rows(self) -> int:
        """How many rows are there."""
        return int(np.count_nonzero(self._filled))

    @property
    def is_full(self) -> bool:
        """Whether every row is there that is kept."""
        known = self._known  # rows do not go away: those before this one are there
        rest = self._filled[known : self.most]
        self._known = known = known + (len(rest) if rest.all() else int(rest.argmin()))
        return known == self.most  # not `_known`, which another thread may set back meanwhile

    @property
    def is_complete(self) -> bool:
        """Whether every row of the prefix is there."""
        return self.is_full and self.most == self.length

    @property
    def is_final(self) -> bool:
        """Whether no row will be added."""
        return self.is_full

    def describe(self) -> str:
        """How full it is, and what it takes in all."""
        size = sum(c.array.nbytes for c in self._columns) + (self._records.size_bytes if self._records else 0)
        return f"{self.title}: {self.rows} of {self.length} rows kept, {format_bytes(size)}; later one gather a batch"

    def has(self, positions: tf.Tensor) -> tf.Tensor:
        """Which rows are there, bool (n,), in the graph."""
        return tf.gather(shared(self._filled), positions)

    def gather(self, positions: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor | None]:
        """Rows that are there, in the graph, and whether each could be read; None where every one can."""
        fixed = iter(tf.gather(shared(c.array), positions) for c in self._columns)
        strings, ok = self._records.fetch(positions) if self._records else ((), None)
        text = iter(strings)
        taken = [next(text) if d == tf.string else next(fixed) for d in self._dtypes]
        return [t if t.dtype == d else tf.bitcast(t, d) for t, d in zip(taken, self._dtypes, strict=True)], ok

    def keep(self, positions: tf.Tensor, leaves: Sequence[tf.Tensor], ok: tf.Tensor | None) -> None:
        """Write rows from within the graph; those that could not be read are left out, and those beyond `most`."""
        if self.is_final:
            return
        wanted = ok
        if self.most < self.length:
            kept = positions < self.most
            wanted = kept if ok is None else tf.logical_and(kept, ok)
        if wanted is not None:
            positions, *leaves = _chosen([positions, *leaves], wanted)
        fixed = [x for x in leaves if x.dtype != tf.string]
        pairs = zip(fixed, self._columns, strict=True)
        bits = [x if x.dtype == c.array.dtype else tf.bitcast(x, c.array.dtype) for x, c in pairs]
        store_rows(self.handle, positions, *bits, *(x for x in leaves if x.dtype == tf.string))

    def store(self, positions: np.ndarray, rows: tuple[np.ndarray, ...]) -> None:
        """Called by `store_rows`: the rows first, then the flags that let them be read.

        TensorFlow reads both without Python's lock. Taking a lock twice keeps the flags' stores behind the rows' on
        processors that do not keep stores in order.
        """
        count = len(self._columns)
        try:
            for column, leaf in zip(self._columns, rows[:count], strict=True):
                column.put(positions, leaf)
            kept = self._records.append(positions, rows[count:]) if self._records else positions
        except OSError as error:
            self.error = error
            raise
        for _ in range(2):
            with self._fence:
                pass
        self._filled[kept] = True
        if self.is_final:
            self.finish()

    def damage(self, position: int) -> CorruptDataError | None:
        """What is wrong with a row that is there."""
        return self._records.damage(position) if self._records else None

    def finish(self) -> None:
        """Called once no row will be added, perhaps several times."""


def _chosen(tensors: Sequence[tf.Tensor], wanted: tf.Tensor) -> Sequence[tf.Tensor]:
    """Some rows of tensors; no copy where all are wanted."""
    out: Sequence[tf.Tensor] = tf.cond(
        tf.reduce_all(wanted),
        lambda: [tf.identity(t) for t in tensors],
        lambda: [tf.boolean_mask(t, wanted) for t in tensors],
    )
    return out


def storage(dtype: tf.DType) -> np.dtype:
    """DLPack, which shares the array with TensorFlow, knows NumPy's own dtypes only: others are kept as bits."""
    native = dtype.as_numpy_dtype
    return np.dtype(native) if np.dtype(native).isbuiltin == 1 else np.dtype(f"uint{8 * dtype.size}")


class _Lent:
    """Read-only memory as DLPack takes it, which knows none: nothing writes to what the graph gathers from."""

    def __init__(self, array: np.ndarray) -> None:
        self.held = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def shared(array: np.ndarray) -> tf.Tensor:
    """The same memory as a tensor, which keeps the array alive."""
    if array.size == 0:
        return tf.zeros(array.shape, array.dtype)
    lent = array if array.flags.writeable else np.asarray(_Lent(array))
    return tf.experimental.dlpack.from_dlpack(lent.__dlpack__())
