"""TFRecord files of which some are compressed with gzip: they can only be read from the beginning.

TensorFlow's reader takes a file that ends between two records, or within the 12 bytes before one, for whole. So the
bytes of the records of each file are counted while they are read, and held against the size at the file's end.

>>> import gzip, os, tempfile
>>> from tfjax._tensorflow import tf
>>> path = os.path.join(tempfile.mkdtemp(), "letters.tfrecord.gz")
>>> with tf.io.TFRecordWriter(path, tf.io.TFRecordOptions("GZIP")) as writer:
...     for letter in "ab":
...         writer.write(letter.encode())
>>> is_gzip(path)
True
>>> [leaf.numpy() for leaf, in GzipRecords([path]).open(0).epoch(tf.constant(0, tf.int64))]
[b'a', b'b']
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from tfjax._tensorflow import tf
from tfjax.errors import CorruptDataError
from tfjax.sources.index import HEADER_BYTES, is_remote, masked_crc, stat_file
from tfjax.sources.python import fetch_rows, register
from tfjax.sources.stream import Opened, Stream

_MAGIC = b"\x1f\x8b"
_FRAME_BYTES = HEADER_BYTES + 4  # around each payload
_GROUP = 64  # records that are handed on at a time
_MARK = "tfjax:gzip:"
_no_autograph = tf.autograph.experimental.do_not_convert


class _File(NamedTuple):
    path: str
    compressed: bool
    size: int
    mtime_ns: int
    expected: int  # bytes of the records, modulo 2**32 where they are compressed


def is_gzip(path: str) -> bool:
    """Whether a file is compressed with gzip, and not one of records whose first length looks like it."""
    with _open(path) as file:
        header = file.read(HEADER_BYTES)
    return header[:2] == _MAGIC and not _is_header(header)


class GzipRecords(Stream):
    """The records of files, one file after the other; an example is one scalar string."""

    def __init__(self, paths: Sequence[str]) -> None:
        """Look at the end of each file.

        Raises:
            CorruptDataError: a file is too short to be one of gzip.
        """
        self.spec = (tf.TensorSpec((), tf.string),)
        self._files = [_look_at(path) for path in paths]

    @property
    def identity(self) -> dict[str, Any]:
        """File names and sizes."""
        files = [[os.path.basename(f.path), f.size, f.expected] for f in self._files]
        return {"format": "tfrecord", "compression": "gzip", "files": files}

    @property
    def notes(self) -> list[str]:
        """Which file makes the pipeline stream."""
        first = next(f.path for f in self._files if f.compressed)
        return [
            f"{first!r} is compressed with gzip: a record is reached through all those before it. Decompressed once, "
            "the same files are indexed"
        ]

    def open(self, entropy: int) -> Opened:  # noqa: ARG002
        """The graph, and what it asks about a file whose size does not say whether it was read to its end."""
        sizes = _Sizes(self._files)
        handle = register(sizes)
        files = tf.data.Dataset.from_tensor_slices(
            (
                [f.path for f in self._files],
                ["GZIP" if f.compressed else "" for f in self._files],
                np.array([f.expected for f in self._files], np.int64),
            )
        ).enumerate()

        def records(number: tf.Tensor, file: tuple[tf.Tensor, ...]) -> tf.data.Dataset:
            path, compression, expected = file
            groups = tf.data.TFRecordDataset(path, compression_type=compression, buffer_size=1 << 20).batch(_GROUP)
            end = tf.data.Dataset.from_tensors(tf.zeros([0], tf.string))

            def count(seen: tf.Tensor, group: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                lengths = tf.cast(tf.strings.length(group), tf.int64) + _FRAME_BYTES
                seen += tf.reduce_sum(lengths)
                with tf.control_dependencies([_check_end(handle, number, tf.size(group) > 0, seen, expected)]):
                    return seen, tf.identity(group)

            whole = groups.concatenate(end).scan(tf.constant(0, tf.int64), _no_autograph(count))
            return whole.unbatch().map(_no_autograph(lambda record: (record,)))

        dataset = files.flat_map(_no_autograph(records))
        return Opened(lambda _: dataset, lambda record: [record], is_flat=True, owner=sizes)

    def diagnose(self, error: Exception) -> Exception | None:
        """The first file that is damaged, where the reader failed: TensorFlow does not name it."""
        if not isinstance(error, tf.errors.DataLossError) and _MARK not in str(error):
            return None
        return next((CorruptDataError(p) for f in self._files if (p := _problem(f)) is not None), None)

    def check(self) -> None:
        """Raise CorruptDataError where a file's size or modification time changed since it was opened."""
        for file in self._files:
            if not os.path.exists(file.path) and not is_remote(file.path):
                raise CorruptDataError(f"{file.path!r} is gone: bring it back, and make the pipeline anew")
            if stat_file(file.path) != (file.size, file.mtime_ns):
                raise CorruptDataError(f"{file.path!r} changed while it was in use: make the pipeline anew")

    def first(self) -> tuple[bytes, str] | None:
        """The first record, and where it is stored; None where there is none."""
        for file in self._files:
            for record in _records(file):
                return record, repr(file.path)
        return None


class _Sizes:
    """How many bytes of records a file holds, by decompressing it: several gzip files may have been put together."""

    def __init__(self, files: Sequence[_File]) -> None:
        self._files, self._known = files, dict[int, int]()

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bytes of the files at `indices`, -1 for a damaged one; see `Readable`."""
        for number in set(indices.tolist()) - self._known.keys():
            file = self._files[number]
            damaged = _problem(file) is not None
            self._known[number] = -1 if damaged else sum(len(r) + _FRAME_BYTES for r in _records(file))
        return np.array([self._known[n] for n in indices.tolist()], np.int64), np.ones(len(indices), bool)


def _check_end(handle: int, number: tf.Tensor, more: tf.Tensor, seen: tf.Tensor, expected: tf.Tensor) -> tf.Operation:
    """Fail at the end of a file of which not all was seen."""

    def counted() -> tf.Tensor:
        return tf.equal(fetch_rows(handle, number[None], [tf.int64])[0][0], seen)

    whole = tf.cond(more | tf.equal(seen % 2**32, expected), lambda: tf.constant(True), counted)
    return tf.debugging.Assert(whole, [_MARK, number])


def _look_at(path: str) -> _File:
    size, mtime_ns = stat_file(path)
    compressed = is_gzip(path)
    if not compressed:
        return _File(path, compressed, size, mtime_ns, size % 2**32)
    with _open(path) as file:
        file.seek(max(size - 4, 0))
        trailer = file.read(4)
    return _File(path, compressed, size, mtime_ns, int.from_bytes(trailer, "little"))


def _open(path: str) -> BinaryIO:
    return cast(BinaryIO, tf.io.gfile.GFile(path, "rb") if is_remote(path) else open(path, "rb"))


def _records(file: _File) -> Iterator[bytes]:
    """The records of a file, in Python.

    Raises:
        CorruptDataError: it is damaged; names the record and its place.
    """
    with _open(file.path) as raw, gzip.GzipFile(fileobj=raw) if file.compressed else raw as data:
        at, number = 0, 0
        while True:
            try:
                header = data.read(HEADER_BYTES)
                length = int.from_bytes(header[:8], "little")
                is_length = _is_header(header)
                payload = data.read(length + 4) if is_length else b""
            except (EOFError, OSError, zlib.error) as error:
                raise CorruptDataError(f"{_place(file, number, at)} cannot be decompressed: {error}") from error
            if not header:
                return
            if len(header) < HEADER_BYTES or (is_length and len(payload) < length + 4):
                raise CorruptDataError(f"{_place(file, number, at)} is cut off: copy or write the file again")
            if not is_length or masked_crc(payload[:-4]) != int.from_bytes(payload[-4:], "little"):
                raise CorruptDataError(f"{_place(file, number, at)} fails its checksum: copy or write the file again")
            yield payload[:-4]
            at, number = at + length + _FRAME_BYTES, number + 1


def _is_header(header: bytes) -> bool:
    """Whether these bytes stand before a record: its length, and the checksum of that."""
    return len(header) == HEADER_BYTES and masked_crc(header[:8]) == int.from_bytes(header[8:], "little")


def _place(file: _File, number: int, at: int) -> str:
    where = "decompressed byte" if file.compressed else "byte"
    return f"{file.path!r}: record {number}, at {where} {at},"


def _problem(file: _File) -> str | None:
    try:
        for _ in _records(file):
            pass
    except CorruptDataError as error:
        return str(error)
    return None
