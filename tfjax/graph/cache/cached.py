"""Rows computed once, then gathered from where they are kept."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence

from tfjax._tensorflow import tf
from tfjax.graph.cache.store import RowStore
from tfjax.graph.element import size_bytes
from tfjax.graph.moment import Moment
from tfjax.graph.rows import Failure, Fetched, Rows
from tfjax.graph.stages import Cache, Stage
from tfjax.spec import format_bytes

_of_stage: weakref.WeakKeyDictionary[Stage, RowStore] = weakref.WeakKeyDictionary()
_opening: weakref.WeakKeyDictionary[Stage, threading.Lock] = weakref.WeakKeyDictionary()


def store_of(stage: Stage) -> RowStore | None:
    """What is kept for a stage; None before it was needed."""
    return _of_stage.get(stage)


class Cached:
    """Rows of which those are computed that are not kept yet.

    What is kept belongs to a stage: it is opened when rows are first needed, shared by every pipeline that holds the
    stage, and let go with the last of them.
    """

    def __init__(self, rows: Rows, owner: Stage, title: str, make: Callable[[], RowStore]) -> None:
        """Wrap rows that do not depend on the moment.

        Args:
            rows: what is kept.
            owner: the stage that it belongs to.
            title: for `explain`.
            make: opens the store.
        """
        self._rows, self._owner, self._title, self._make = rows, owner, title, make
        self.element, self.length = rows.element, rows.length

    def open(self) -> RowStore:
        """What is kept, opened where this is the first to need it.

        Raises:
            ValueError: it does not fit, or a folder is no cache, or that of another pipeline.
            OSError: a folder cannot be made or read, or does not fit on its disk.
            CorruptDataError: files of a folder are damaged.
        """
        with _opening.setdefault(self._owner, threading.Lock()):
            store = _of_stage.get(self._owner)
            if store is None:
                with tf.init_scope():  # it may be a graph that needs the rows
                    store = _of_stage.setdefault(self._owner, self._make())
            return store

    @property
    def counts(self) -> tuple[int, int]:
        """Rows that were there when they were asked for, and that were not, so far."""
        store = store_of(self._owner)
        return store.counts.total if store else (0, 0)

    def index(self, moment: Moment, positions: tf.Tensor) -> tf.Tensor:
        """See `Rows`."""
        return self._rows.index(moment, positions)

    def fetch(self, moment: Moment, positions: tf.Tensor) -> Fetched:
        """See `Rows`."""
        store, index = self.open(), self._rows.index(moment, positions)
        if store.is_complete:
            store.counts.add(tf.size(positions), 0)
            leaves, ok = store.gather(positions)
            return Fetched(index, ok, leaves)
        there = store.has(positions)
        missing = tf.boolean_mask(positions, tf.logical_not(there))
        store.counts.add(tf.size(positions) - tf.size(missing), tf.size(missing))

        def kept() -> list[tf.Tensor]:
            return _with_ok(positions, *store.gather(positions))

        def computed() -> list[tf.Tensor]:
            got = self._rows.fetch(moment, missing)
            store.keep(missing, got.leaves, got.ok)
            new = _with_ok(missing, got.leaves, got.ok)
            all_are_new = tf.equal(tf.size(missing), tf.size(positions))
            return tf.cond(all_are_new, lambda: [tf.identity(x) for x in new], lambda: merged(new))  # type: ignore[no-any-return]

        def merged(new: list[tf.Tensor]) -> list[tf.Tensor]:
            at = [tf.cast(tf.where(tf.equal(there, side))[:, 0], tf.int32) for side in (True, False)]
            old_positions = tf.gather(positions, at[0])
            old = _with_ok(old_positions, *store.gather(old_positions))
            return [tf.dynamic_stitch(at, pair) for pair in zip(old, new, strict=True)]

        *leaves, ok = tf.cond(tf.size(missing) > 0, computed, kept)
        for leaf, spec in zip(leaves, self.element.specs, strict=True):
            leaf.set_shape((positions.shape[0], *spec.shape))
        return Fetched(index, ok, leaves)

    def diagnose(self, moment: Moment, position: tf.Tensor) -> Failure | None:
        """See `Rows`."""
        store = self.open()
        if store.error is not None:
            error, store.error = store.error, None
            return Failure(self._title, False, error)
        if bool(store.has(position)[0]):
            damage = store.damage(int(position[0]))
            return None if damage is None else Failure(self._title, True, damage)
        return self._rows.diagnose(moment, position)

    def describe(self) -> list[str]:
        """See `Rows`."""
        store, size = store_of(self._owner), size_bytes(self.element)
        if store is not None:
            return [*self._rows.describe(), store.describe()]
        takes = "" if size is None else f", {format_bytes(size * self.length)}"
        in_folder = isinstance(self._owner, Cache) and self._owner.path is not None
        there = "those in the folder" if in_folder else 0
        said = f"{self._title}: {there} of {self.length} rows kept{takes}; later one gather a batch"
        return [*self._rows.describe(), said]


def _with_ok(positions: tf.Tensor, leaves: Sequence[tf.Tensor], ok: tf.Tensor | None) -> list[tf.Tensor]:
    return [*leaves, tf.ones_like(positions, tf.bool) if ok is None else ok]
