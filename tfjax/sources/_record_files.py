"""The files behind `tfjax.sources.records.Records`: indexes, memory maps, and the held tensor."""

from __future__ import annotations

import hashlib
import itertools
import mmap
import os
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import google_crc32c
import numpy as np

from tfjax._tensorflow import tf
from tfjax.errors import CorruptDataError
from tfjax.sources.index import HEADER_BYTES, FileIndex, index_file, is_remote, mask, masked_crc, stat_file

_MAX_MAPS = 256  # a process may have 1,024 files open by default, a dataset has as many
_TSTRING_BYTES = 24  # what a string tensor needs for an element beside its bytes


class Slice(NamedTuple):
    """Some records of one file.

    Attributes:
        path: the file.
        skip: how many records of it to leave out first.
        take: how many to use after those; None for the rest.
        total: how many the file holds, where its metadata says so; its index is held against it.
    """

    path: str
    skip: int = 0
    take: int | None = None
    total: int | None = None


class RecordFiles:
    """Rows over slices of files: row i is record i of the slices one after the other."""

    def __init__(self, slices: Sequence[Slice]) -> None:
        """Index the files; see `Records` for what is raised."""
        self.slices = tuple(slices)
        self._indexes: dict[str, FileIndex] = {}
        parts = [self._select(s) for s in self.slices]
        empty = np.zeros((2, 0), np.int64)
        self._offsets, self._lengths = np.concatenate([empty, *parts], axis=1)
        self._ends = np.cumsum([p.shape[1] for p in parts], dtype=np.int64)
        self._maps = _Maps()
        self._lock = threading.Lock()
        self._held: tf.Tensor | None = None
        self._tables: tuple[tf.Tensor, ...] | None = None

    def __len__(self) -> int:
        return len(self._offsets)

    def _select(self, part: Slice) -> np.ndarray:
        """Offsets and lengths of one slice, int64 (2, records)."""
        path, skip, take, total = part
        if path not in self._indexes:
            self._indexes[path] = index_file(path)
        index = self._indexes[path]
        count = len(index) - skip if take is None else take
        if total is not None and total != len(index):
            raise CorruptDataError(
                f"{path!r} holds {len(index)} records up to its end at byte {index.size_bytes}, its metadata "
                f"says {total}: the file was cut off or replaced; prepare the data again"
            )
        if skip < 0 or count < 0 or skip + count > len(index):
            raise CorruptDataError(
                f"{path!r} holds {len(index)} records, too few to skip {skip} and take {count}: the file was "
                "replaced, or the slice is wrong"
            )
        return np.stack([index.offsets[skip : skip + count], index.lengths[skip : skip + count]])

    @property
    def payload_bytes(self) -> int:
        """The bytes of all records together."""
        return int(self._lengths.sum())

    @property
    def held_bytes(self) -> int:
        """What holding all records in memory takes."""
        return self.payload_bytes + _TSTRING_BYTES * len(self)

    def identity(self) -> dict[str, Any]:
        """File names and record lengths, without the folder they are in."""
        digest = hashlib.sha256(self._lengths.astype("<i8").tobytes())
        for part in self.slices:
            digest.update(repr((os.path.basename(part.path), part.skip, part.take)).encode())
        counts = {"num_examples": len(self), "bytes": self.payload_bytes}
        return {"format": "tfrecord", **counts, "digest": digest.hexdigest()[:16]}

    def stamp(self) -> str:
        """A digest over path, size, modification time and taken records of each file."""
        files = [(p.path, i.size_bytes, i.mtime_ns) for p in self.slices for i in [self._indexes[p.path]]]
        return hashlib.sha256(repr((files, [(p.skip, p.take) for p in self.slices])).encode()).hexdigest()

    def locate(self, index: int) -> tuple[str, int]:
        """The path of a row, and the byte where its record starts."""
        part = int(np.searchsorted(self._ends, index, side="right"))
        return self.slices[part].path, int(self._offsets[index]) - HEADER_BYTES

    def check(self) -> None:
        """Raise CorruptDataError where a file's size or modification time changed since it was indexed."""
        for path, index in self._indexes.items():
            try:
                size, mtime = stat_file(path)
            except FileNotFoundError as error:
                raise CorruptDataError(
                    f"{path!r} was {index.size_bytes} bytes when it was opened and is gone: bring it back, "
                    "and make the pipeline anew"
                ) from error
            if (size, mtime) != (index.size_bytes, index.mtime_ns):
                raise CorruptDataError(
                    f"{path!r} changed while it was in use: it was {index.size_bytes} bytes, modified at "
                    f"{index.mtime_ns} ns; it is {size} bytes, modified at {mtime} ns: make the pipeline anew"
                )

    def read(self, indices: np.ndarray, verify: bool) -> tuple[np.ndarray, np.ndarray]:
        """Rows from the maps as an object array of bytes (n,), and which passed their checksum, bool (n,)."""
        parts = np.searchsorted(self._ends, indices, side="right").tolist()
        starts = self._offsets[indices]
        stops = (starts + self._lengths[indices]).tolist()
        rows, ok = np.empty(len(indices), object), np.ones(len(indices), bool)
        for k, (part, start, stop) in enumerate(zip(parts, starts.tolist(), stops, strict=True)):
            data = self._maps.get(self.slices[part].path)
            rows[k] = row = data[start:stop]
            if verify and masked_crc(row) != int.from_bytes(data[stop : stop + 4], "little"):
                rows[k], ok[k] = b"", False
        return rows, ok

    def payload(self, index: int) -> bytes:
        """One record, read from its file and checked."""
        path, at = self.locate(index)
        start, length = at + HEADER_BYTES, int(self._lengths[index])
        with tf.io.gfile.GFile(path, "rb") if is_remote(path) else open(path, "rb") as file:
            file.seek(start)
            data: bytes = file.read(length + 4)
        if len(data) < length + 4 or masked_crc(data[:length]) != int.from_bytes(data[length:], "little"):
            raise CorruptDataError(
                f"{path!r}: the payload of the record at byte {at} ({length} bytes) fails its checksum: the "
                "file was altered there; prepare or copy it again"
            )
        return data[:length]

    @staticmethod
    def reader(path: tf.Tensor, offset: tf.Tensor, *, buffer_bytes: tf.Tensor | int) -> tf.data.Dataset:
        """The records of one file from a byte offset on, in the graph, payload checksums checked."""
        size = tf.cast(buffer_bytes, tf.int64)
        variant = tf.raw_ops.TFRecordDatasetV2(
            filenames=path[None], compression_type="", buffer_size=size, byte_offsets=offset[None]
        )
        return tf.data.experimental.from_variant(variant, tf.TensorSpec((), tf.string))

    def held(self) -> tf.Tensor:
        """All rows as one string tensor (records,), loaded at the first call, checksums checked."""
        with self._lock:
            if self._held is None:
                with tf.init_scope():  # an eager tensor, captured by the graphs that gather from it
                    self._held = self._load()
            return self._held

    def _load(self) -> tf.Tensor:
        return self._load_remote() if any(is_remote(s.path) for s in self.slices) else self._load_local()

    def _load_local(self) -> tf.Tensor:
        begins = [0, *self._ends.tolist()]
        parts = [self._load_part(*x) for x in zip(self.slices, begins, begins[1:], strict=False) if x[1] < x[2]]
        return tf.concat(parts, 0) if parts else tf.zeros((0,), tf.string)

    def _load_part(self, part: Slice, begin: int, end: int) -> tf.Tensor:
        """The rows of one slice, read at once; a third of the time that TensorFlow's reader takes, record by record."""
        first, lengths = int(self._offsets[begin]), self._lengths[begin:end]
        starts = self._offsets[begin:end] - first
        stops = starts + lengths
        with open(part.path, "rb") as file:
            file.seek(first)
            data = file.read(int(stops[-1]) + 4)
        if len(data) < stops[-1] + 4:
            raise self._first_bad("it is shorter than its index")
        rows = [data[a:b] for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]
        found = np.array([google_crc32c.value(row) for row in rows], np.uint64)
        stored = np.frombuffer(data, np.uint8)[stops[:, None] + np.arange(4)].view("<u4")[:, 0]
        if not np.array_equal(mask(found), stored):
            raise self._first_bad("a payload fails its checksum")
        return tf.constant(np.array(rows, object), tf.string)

    def _load_remote(self) -> tf.Tensor:
        counts = np.diff(self._ends, prepend=0)
        firsts = self._offsets[(self._ends - counts)[counts > 0]] - HEADER_BYTES
        paths = [s.path for s, n in zip(self.slices, counts, strict=True) if n]
        if not paths:
            return tf.zeros((0,), tf.string)
        parts = tf.data.Dataset.from_tensor_slices((paths, firsts, counts[counts > 0]))
        rows = parts.flat_map(lambda path, first, n: self.reader(path, first, buffer_bytes=1 << 20).take(n))
        try:
            held = rows.batch(len(self)).get_single_element()
        except tf.errors.OpError as error:
            raise self._first_bad(str(error)) from error
        if len(held) != len(self):
            raise self._first_bad(f"{len(held)} of {len(self)} records were read")
        return held

    def _first_bad(self, reason: str) -> CorruptDataError:
        """TensorFlow's reader names no path: find the first record that it cannot have liked."""
        try:
            self.check()
            for index in range(len(self)):
                self.payload(index)
        except CorruptDataError as found:
            return found
        paths = sorted({s.path for s in self.slices})
        more = f" and {len(paths) - 1} more files" if len(paths) > 1 else ""
        return CorruptDataError(f"the records of {paths[0]!r}{more} could not be read: {reason}")

    def tables(self) -> tuple[tf.Tensor, ...]:
        """Paths and ends a slice, payload offsets and lengths a row, for a reader in the graph."""
        with self._lock:
            if self._tables is None:
                with tf.init_scope():
                    paths = tf.constant([s.path for s in self.slices], tf.string)
                    arrays = (self._ends, self._offsets, self._lengths)
                    self._tables = (paths, *(tf.constant(a, tf.int64) for a in arrays))
            return self._tables


class _Maps:
    """Memory maps by path; each keeps a file descriptor open, so the oldest goes where there are too many.

    A map dropped here while another thread slices it lives until that slice is made.
    """

    def __init__(self) -> None:
        self._maps: dict[str, mmap.mmap] = {}
        self._lock = threading.Lock()

    def get(self, path: str) -> mmap.mmap:
        found = self._maps.get(path)
        return self._open(path) if found is None else found

    def _open(self, path: str) -> mmap.mmap:
        with self._lock:
            for oldest in list(itertools.islice(self._maps, max(0, len(self._maps) + 1 - _MAX_MAPS))):
                del self._maps[oldest]
            with open(path, "rb") as file:
                return self._maps.setdefault(path, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
