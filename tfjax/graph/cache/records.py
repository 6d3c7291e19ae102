"""What varies in size from row to row: strings, kept as TFRecords, and where those of each row lie.

Each process appends to a file of its own. The strings of a row lie together, so that a row is one read; a checksum
that fails is seen, and nothing is mapped that could be cut off.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Sequence

import numpy as np

from tfjax._tensorflow import tf
from tfjax.errors import CorruptDataError
from tfjax.graph.cache.fit import no_space
from tfjax.graph.cache.folder import Folder
from tfjax.graph.cache.npy import Descriptor, Layout, write_all
from tfjax.sources._sliced_files import OpenFiles
from tfjax.sources.index import FRAME_BYTES, HEADER_BYTES, masked_crc
from tfjax.sources.python import fetch_rows, register

TABLE = "entries.npy"
_OFFSET_BITS = 40  # a pointer is one number, written in one piece: the file above, the byte below
_MOST_OPEN = 256
_FAST = 1  # zlib's level


class Records:
    """Strings of rows in a cache folder."""

    def __init__(self, folder: Folder, strings: int, *, compressed: bool, limit_bytes: int | None) -> None:
        """Keep `strings` of them for each row.

        Args:
            folder: where.
            strings: how many leaves of a row are kept here.
            compressed: whether each is compressed by zlib.
            limit_bytes: rows that would make the files larger than this are left out.
        """
        self._folder, self._strings, self._compressed, self._limit = folder, strings, compressed, limit_bytes
        self._table = folder.column(TABLE)
        self._open = OpenFiles(self._reader, most=_MOST_OPEN)
        self._lock = threading.Lock()
        self._own: tuple[int, Descriptor] | None = None  # number and descriptor of this process's file
        self._end = 0
        self.is_full = False
        self._handle = register(self)

    @property
    def size_bytes(self) -> int:
        """What the files take."""
        return sum(self._folder.size(n) for n in self._folder.names() if n.endswith(".tfrecord"))

    def append(self, positions: np.ndarray, leaves: Sequence[np.ndarray]) -> np.ndarray:
        """Write the strings of rows; which rows there was room for."""
        rows = [[self._packed(leaf[i]) for leaf in leaves] for i in range(len(positions))]
        lengths = np.array([[len(data) for data in row] for row in rows], np.int64).reshape(len(rows), self._strings)
        ends = np.cumsum(lengths.sum(axis=1) + FRAME_BYTES * self._strings)
        with self._lock:  # room is looked at and taken in one go: several threads of the graph write at a time
            if self._limit is not None:
                fit = int(np.searchsorted(ends, self._limit - self._taken(), side="right"))
                self.is_full = self.is_full or fit < len(rows)
                rows, lengths, ends, positions = rows[:fit], lengths[:fit], ends[:fit], positions[:fit]
            if not rows:
                return positions
            number, file = self._own = self._own or self._created()
            start, self._end = self._end, self._end + int(ends[-1])
        try:
            write_all(file.number, b"".join(_frame(data) for row in rows for data in row), start)
        except OSError as error:
            raise no_space(self._folder.path, int(ends[-1]), error) from error
        pointers = (number << _OFFSET_BITS) + start + np.concatenate([[0], ends[:-1]])
        self._table.put(positions, np.concatenate([pointers[:, None], lengths], axis=1))
        return positions

    def fetch(self, positions: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        """The strings of rows that are there, one tensor (n,) a leaf, and whether each row could be read."""
        *leaves, ok = fetch_rows(self._handle, positions, [tf.string] * self._strings)
        for leaf in leaves:
            leaf.set_shape(positions.shape)
        if self._compressed:
            leaves = [tf.io.decode_compressed(leaf, "ZLIB") for leaf in leaves]
        return leaves, ok

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """See `tfjax.sources.python.Readable`."""
        out = np.empty((self._strings, len(indices)), object)
        ok = np.ones(len(indices), bool)
        empty = zlib.compress(b"") if self._compressed else b""
        for k, (pointer, *lengths) in enumerate(self._table.array[indices].tolist()):
            try:
                out[:, k] = self._row(pointer, lengths)
            except (OSError, CorruptDataError):
                out[:, k], ok[k] = empty, False
        return (*out, ok)

    def damage(self, position: int) -> CorruptDataError | None:
        """What is wrong with a row that is there."""
        pointer, *lengths = self._table.array[position].tolist()
        try:
            self._row(pointer, lengths)
        except (OSError, CorruptDataError) as error:
            path = os.path.join(self._folder.path, _name(pointer >> _OFFSET_BITS))
            what = error if isinstance(error, CorruptDataError) else f"{path!r} cannot be read ({error.strerror})"
            return CorruptDataError(f"{what}: delete {self._folder.path!r}, and the cache is filled anew")
        return None

    def _taken(self) -> int:
        """Bytes of the files, with those of the own one that other threads are about to write."""
        own = _name(self._own[0]) if self._own else None
        others = (n for n in self._folder.names() if n.endswith(".tfrecord") and n != own)
        return self._end + sum(self._folder.size(n) for n in others)

    def _row(self, pointer: int, lengths: Sequence[int]) -> list[bytes]:
        name, at = _name(pointer >> _OFFSET_BITS), pointer & ((1 << _OFFSET_BITS) - 1)
        data = os.pread(self._open.get(name).number, sum(lengths) + FRAME_BYTES * len(lengths), at)
        out, start = [], HEADER_BYTES
        for length in lengths:
            row, checksum = data[start : start + length], data[start + length : start + length + 4]
            if masked_crc(row) != int.from_bytes(checksum, "little"):
                path = os.path.join(self._folder.path, name)
                raise CorruptDataError(f"{path!r}: the record at byte {at} is cut off or fails its checksum")
            out.append(row)
            start += length + FRAME_BYTES
        return out

    def _packed(self, data: bytes) -> bytes:
        return zlib.compress(data, _FAST) if self._compressed else data

    def _reader(self, name: str) -> Descriptor:
        return Descriptor(self._folder.open(name, os.O_RDONLY))

    def _created(self) -> tuple[int, Descriptor]:
        """A file that no other process has."""
        number = sum(n.endswith(".tfrecord") for n in self._folder.names())
        while True:
            try:
                return number, Descriptor(self._folder.open(_name(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                number += 1
            except FileNotFoundError as error:
                what = "cache: the folder was deleted while it was filled: make the pipeline anew"
                raise FileNotFoundError(error.errno, what, self._folder.path) from error


def table_layout(rows: int, strings: int) -> Layout:
    """Where the strings of each row lie: a pointer, and the bytes of each."""
    return Layout(np.dtype(np.int64), (rows, 1 + strings))


def _name(number: int) -> str:
    return f"rows-{number:05d}.tfrecord"


def _frame(data: bytes) -> bytes:
    """A TFRecord."""
    length = len(data).to_bytes(8, "little")
    return b"".join((length, masked_crc(length).to_bytes(4, "little"), data, masked_crc(data).to_bytes(4, "little")))
