"""TFRecord files behind `tfjax.sources.records.Records`: indexes, memory maps, a reader in the graph."""

from __future__ import annotations

import mmap
from collections.abc import Sequence

import google_crc32c
import numpy as np

from tfjax._tensorflow import tf
from tfjax.errors import CorruptDataError
from tfjax.sources._sliced_files import OpenFiles, Slice, SlicedFiles
from tfjax.sources.index import HEADER_BYTES, FileIndex, index_file, is_remote, mask, masked_crc

_MAX_MAPS = 256  # a process may have 1,024 files open by default, a dataset has as many


class RecordFiles(SlicedFiles):
    """Rows over slices of TFRecord files."""

    format = "tfrecord"
    ways = ("held", "mmap", "graph")

    def __init__(self, slices: Sequence[Slice]) -> None:
        """Index the files; see `Records` for what is raised."""
        super().__init__(slices)
        parts = [self._taken(s.path, *r) for s, r in zip(self.slices, self._ranges, strict=True)]
        self._offsets, self._lengths = np.concatenate([np.zeros((2, 0), np.int64), *parts], axis=1)
        self._maps = OpenFiles(_map, most=_MAX_MAPS)
        self._tables: tuple[tf.Tensor, ...] | None = None

    def _index(self, path: str) -> FileIndex:
        return index_file(path)

    def _taken(self, path: str, start: int, stop: int) -> np.ndarray:
        """Offsets and lengths of one slice, int64 (2, records)."""
        index = self._indexes[path]
        return np.stack([index.offsets[start:stop], index.lengths[start:stop]])

    @property
    def payload_bytes(self) -> int:
        """The bytes of all records together."""
        return int(self._lengths.sum())

    def _digest(self) -> bytes:
        return bytes(self._lengths.astype("<i8").tobytes())

    def locate(self, index: int) -> str:
        """The path of a row, and the byte where its record starts."""
        path, at = self._start(index)
        return f"{path!r} at byte {at}"

    def _start(self, index: int) -> tuple[str, int]:
        part = int(self._parts(np.array(index)))
        return self.slices[part].path, int(self._offsets[index]) - HEADER_BYTES

    def read(self, indices: np.ndarray, verify: bool) -> tuple[np.ndarray, np.ndarray]:
        """Rows from the maps as an object array of bytes (n,), and which passed their checksum, bool (n,)."""
        parts = self._parts(indices).tolist()
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
        path, at = self._start(index)
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
        rows = parts.flat_map(lambda path, first, n: _reader(path, first, buffer_bytes=1 << 20).take(n))
        try:
            held = rows.batch(len(self)).get_single_element()
        except tf.errors.OpError as error:
            raise self._first_bad(str(error)) from error
        if len(held) != len(self):
            raise self._first_bad(f"{len(held)} of {len(self)} records were read")
        return held

    def in_graph(self, indices: tf.Tensor) -> tf.Tensor:
        """Rows as a string tensor (n,), each by a reader of its own, opened at the record's first byte."""
        paths, ends, offsets, lengths = self._in_tensors()
        where = tf.searchsorted(ends, indices, side="right")
        at = [tf.gather(paths, where), tf.gather(offsets, indices) - HEADER_BYTES, tf.gather(lengths, indices)]
        one = tf.autograph.experimental.do_not_convert(_read_one)  # or its errors would begin with a stack
        # 16 readers at a time hide the latency of a remote path; on a local one any number does.
        return tf.map_fn(one, at, fn_output_signature=tf.TensorSpec((), tf.string), parallel_iterations=16)

    def _in_tensors(self) -> tuple[tf.Tensor, ...]:
        """Paths and ends a slice, payload offsets and lengths a row."""
        with self._lock:
            if self._tables is None:
                with tf.init_scope():
                    paths = tf.constant([s.path for s in self.slices], tf.string)
                    arrays = (self._ends, self._offsets, self._lengths)
                    self._tables = (paths, *(tf.constant(a, tf.int64) for a in arrays))
            return self._tables


def _map(path: str) -> mmap.mmap:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _read_one(at: Sequence[tf.Tensor]) -> tf.Tensor:
    path, offset, length = at
    return _reader(path, offset, buffer_bytes=length + 16).take(1).get_single_element()


def _reader(path: tf.Tensor, offset: tf.Tensor, *, buffer_bytes: tf.Tensor | int) -> tf.data.Dataset:
    """The records of one file from a byte offset on, in the graph, payload checksums checked."""
    size = tf.cast(buffer_bytes, tf.int64)
    variant = tf.raw_ops.TFRecordDatasetV2(
        filenames=path[None], compression_type="", buffer_size=size, byte_offsets=offset[None]
    )
    return tf.data.experimental.from_variant(variant, tf.TensorSpec((), tf.string))
