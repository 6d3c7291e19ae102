"""A cache in the files of a folder, mapped into memory: what is gathered comes from the system's page cache."""

from __future__ import annotations

import re
import sys
import threading
import warnings
from collections.abc import Mapping

import numpy as np

from tfjax._tensorflow import tf
from tfjax.graph.cache.encode import is_fixed, row_bytes
from tfjax.graph.cache.fit import most_rows
from tfjax.graph.cache.folder import Folder, explained, open_folder
from tfjax.graph.cache.npy import Layout
from tfjax.graph.cache.records import TABLE, Records, table_layout
from tfjax.graph.cache.same import other_pipeline
from tfjax.graph.cache.store import RowStore, storage
from tfjax.graph.element import Element
from tfjax.graph.key import digest, prefix_key, probes, some_of
from tfjax.graph.plan import origin_of
from tfjax.graph.rows import Rows
from tfjax.graph.stages import Cache, Chain

_FLAGS = "filled.npy"


class DiskStore(RowStore):
    """Rows in a folder."""

    def __init__(
        self, folder: Folder, layouts: Mapping[str, Layout], element: Element, stage: Cache, most: int
    ) -> None:
        """Map the arrays of an open folder."""
        self._folder, self._lock, self._finishing = folder, threading.Lock(), False
        strings = sum(s.dtype == tf.string for s in element.specs)
        records = None
        if strings:
            taken = sum(layout.nbytes for layout in layouts.values())
            limit = None if stage.limit_bytes is None else max(stage.limit_bytes - taken, 0)
            records = Records(folder, strings, compressed=stage.compression is not None, limit_bytes=limit)
        columns = [folder.column(name) for name in layouts if name not in (_FLAGS, TABLE)]
        filled = folder.column(_FLAGS).array
        super().__init__(element, columns, filled, most=most, title=stage.describe(), records=records)

    def require_examples(self, rows: Rows) -> None:
        """Compute some of the rows that are there: what the key cannot tell shows in them.

        Raises:
            ValueError: they are not what they were.
            CorruptDataError: they cannot be read.
        """
        positions = some_of(np.flatnonzero(self._filled))
        found = []
        for position in positions.tolist():
            damage = self.damage(position)
            if damage is not None:
                raise damage
            found.append(digest(self.gather(tf.constant([position], tf.int64))[0]))
        if found != probes(rows, positions):
            raise other_pipeline(self._folder.path, "some examples: the data, a closure, a table or a decoder changed")

    @property
    def is_final(self) -> bool:
        """See `RowStore`."""
        return self._folder.is_final or self.is_full or (self._records is not None and self._records.is_full)

    def finish(self) -> None:
        """Write the manifest, on a thread of its own that the process waits for: batches need not wait for the disk."""
        with self._lock:
            if self._folder.is_final or self._finishing:
                return
            self._finishing = True
        threading.Thread(target=_finish, args=(self._folder,), name="tfjax cache", daemon=False).start()


def _finish(folder: Folder) -> None:
    try:
        folder.finish()
    except FileNotFoundError:  # the folder was deleted meanwhile
        return
    except OSError as error:
        warnings.warn(
            f"the cache in {folder.path!r} is filled, and could not be written to the disk ({error}): this process "
            "goes on with it, and the next one that opens it finishes or refuses it",
            stacklevel=1,
        )


def disk_store(stage: Cache, path: str, chain: Chain, given: Element, rows: Rows) -> DiskStore:
    """Open the folder of a cache, or make one.

    Args:
        stage: its limit and compression.
        path: the folder.
        chain: the stages before it.
        given: what they yield.
        rows: the same, with leaves of a fixed size and strings only.

    Raises:
        ValueError: something else is there, or the cache of another pipeline; or the limit holds no row.
        OSError: it does not fit on the disk, or may not be made or read.
        CorruptDataError: a file is damaged.
    """
    element, length = rows.element, rows.length
    fixed = [(i, s) for i, s in enumerate(element.specs) if is_fixed(s)]
    strings = len(element.specs) - len(fixed)
    table = table_layout(1, strings).nbytes if strings else 0
    most = most_rows(length, row_bytes(element) + table, stage.limit_bytes)
    layouts = {_FLAGS: Layout(np.dtype(np.bool_), (length,))}
    if strings:
        layouts[TABLE] = table_layout(most, strings)
    names = element.structure.paths
    layouts |= {f"{i:02d}{_plain(names[i])}.npy": Layout(storage(s.dtype), (most, *s.shape)) for i, s in fixed}
    source = origin_of(chain).source
    key = {
        **prefix_key(chain, given, length),
        "values": source.digest() if hasattr(source, "digest") else None,
        "limit_bytes": stage.limit_bytes,
        "compression": stage.compression,
        "python": sys.version_info[:2],
    }
    with explained(path):
        store = DiskStore(open_folder(path, key, layouts), layouts, element, stage, most)
    store.require_examples(rows)
    if store.is_final:
        store.finish()
    return store


def _plain(path: str) -> str:
    """A key path as part of a file name.

    >>> _plain("['image']")
    '-image'
    """
    words = re.findall(r"[A-Za-z0-9_]+", path)
    return "".join(f"-{word}" for word in words)[:60]
