"""Where each record of a TFRecord file starts: an offset index over the plain file.

A record is 8 bytes of length, 4 of the length's checksum, the payload, and 4 of the payload's checksum. The
walk reads headers only, and checks each length and that the end of the file is the end of a record; payload
checksums are left to whoever reads the payload. A file cut off exactly between two records looks whole from
here: hold the count against what the dataset's metadata says.

The index is kept in `$XDG_CACHE_HOME/tfjax/index` (`~/.cache/tfjax/index`), keyed by path, size and
modification time; where a remote file system knows no such time, it is made anew.

    >>> import tempfile, os
    >>> from tfjax._tensorflow import tf
    >>> from tfjax.sources.index import index_file
    >>> path = os.path.join(tempfile.mkdtemp(), "two.tfrecord")
    >>> with tf.io.TFRecordWriter(path) as writer:
    ...     writer.write(b"abc"), writer.write(b"")
    (None, None)
    >>> index = index_file(path, cache=False)
    >>> index.offsets.tolist(), index.lengths.tolist()
    ([12, 31], [3, 0])
"""

from __future__ import annotations

import array
import contextlib
import functools
import hashlib
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from tfjax._tensorflow import tf
from tfjax.errors import CorruptDataError
from tfjax.sources.disk import cache_folder, load_array, save_array

HEADER_BYTES = 12  # length and its checksum, before the payload
FRAME_BYTES = 16  # what a record occupies beside its payload
_RIEGELI = bytes.fromhex("83af70d10d884a3f")  # how the container of ArrayRecord begins
_REMOTE_BLOCK_BYTES = 1 << 18  # one remote read serves the headers of many small records
_header = struct.Struct("<QI")


@dataclass(frozen=True, eq=False)
class FileIndex:
    """The records of one file as they were when it was indexed.

    Attributes:
        path: the file.
        size_bytes: its size.
        mtime_ns: its modification time in nanoseconds.
        offsets: int64 (records,), the byte where each payload starts.
        lengths: int64 (records,), the bytes of each payload.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    offsets: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        """How many records the file holds."""
        return len(self.offsets)


def index_file(path: str | os.PathLike[str], *, cache: bool = True) -> FileIndex:
    """Index one uncompressed TFRecord file, or load its index from the cache folder.

    Args:
        path: a local path, or a URL that `tf.io.gfile` can read (`gs://...`).
        cache: look in the cache folder, and leave the index there. A folder that cannot be used is passed
            over.

    Returns:
        The index; 16 bytes of memory a record.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptDataError: a length fails its checksum, or the file ends inside a record; names path and byte
            offset.

    Example:
        >>> index_file("absent.tfrecord")
        Traceback (most recent call last):
        FileNotFoundError: record file 'absent.tfrecord' does not exist: correct the path or prepare the
            data again
    """
    name = os.fspath(path)
    size, mtime = stat_file(name)
    # A file system that says no time of modification, as some remote ones, does not tell one file from the next.
    entry = _cache_entry(name, size, mtime) if cache and mtime else None
    table = _load(entry, size) if entry else None
    if table is None:
        try:
            with _open_headers(name, size) as header_at:
                table = _walk(name, size, header_at)
        except struct.error as error:  # the file shrank after its size was taken
            raise CorruptDataError(f"{name!r} had {size} bytes and lost some while it was indexed") from error
        if entry:
            save_array(entry, table, drop=f"{entry.name[:33]}*.npy")  # and what an earlier state of the file left
    return FileIndex(name, size, mtime, *table)


def is_remote(path: str) -> bool:
    """Whether a path is a URL, read through `tf.io.gfile`.

    >>> is_remote("gs://bucket/data.tfrecord"), is_remote("/data.tfrecord")
    (True, False)
    """
    return "://" in path


def stat_file(path: str) -> tuple[int, int]:
    """Size in bytes and modification time in nanoseconds; FileNotFoundError names the path.

    >>> stat_file("/nowhere")
    Traceback (most recent call last):
    FileNotFoundError: record file '/nowhere' does not exist: correct the path or prepare the data again
    """
    try:
        if is_remote(path):
            remote = tf.io.gfile.stat(path)
            return int(remote.length), int(remote.mtime_nsec)
        local = os.stat(path)
    except (FileNotFoundError, tf.errors.NotFoundError) as error:
        raise FileNotFoundError(
            f"record file {path!r} does not exist: correct the path or prepare the data again"
        ) from error
    return local.st_size, local.st_mtime_ns


def require_unchanged(path: str, size_bytes: int, mtime_ns: int) -> None:
    """Raise CorruptDataError where a file's size or modification time is not what it was when it was opened."""
    try:
        size, mtime = stat_file(path)
    except FileNotFoundError as error:
        raise CorruptDataError(
            f"{path!r} was {size_bytes} bytes when it was opened and is gone: bring it back, and make the pipeline anew"
        ) from error
    if (size, mtime) != (size_bytes, mtime_ns):
        raise CorruptDataError(
            f"{path!r} changed while it was in use: it was {size_bytes} bytes, modified at {mtime_ns} ns; it is {size} "
            f"bytes, modified at {mtime} ns: make the pipeline anew"
        )


def masked_crc(data: bytes) -> int:
    """The checksum that TFRecord files store: CRC-32C, rotated, plus a constant.

    >>> masked_crc(b"")
    2726488792
    """
    return int(mask(google_crc32c.value(data)))


def mask(crc: Any) -> Any:
    """A CRC-32C as TFRecord files store it; of an int, or of an array of uint64."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@functools.lru_cache(maxsize=1 << 16)  # lengths repeat: remembering their checksums halves the time of a walk
def _length_crc(length: int) -> int:
    return masked_crc(length.to_bytes(8, "little"))


def _walk(path: str, size: int, header_at: Callable[[int], tuple[int, int]]) -> np.ndarray:
    """Offsets and lengths of all records, int64 (2, records)."""
    offsets, lengths = array.array("q"), array.array("q")
    at = 0
    while at < size:
        if size - at < FRAME_BYTES:
            raise _truncated(path, size, at)
        length, crc = header_at(at)
        if _length_crc(length) != crc:
            raise _bad_length(path, at, header_at)
        end = at + FRAME_BYTES + length
        if end > size:
            raise _truncated(path, size, at)
        offsets.append(at + HEADER_BYTES)
        lengths.append(length)
        at = end
    return np.array([np.frombuffer(offsets, np.int64), np.frombuffer(lengths, np.int64)])


def _truncated(path: str, size: int, at: int) -> CorruptDataError:
    return CorruptDataError(
        f"{path!r} ends at byte {size}, inside the record that starts at byte {at}: the file was cut off; "
        "write or copy it again"
    )


def _bad_length(path: str, at: int, header_at: Callable[[int], tuple[int, int]]) -> CorruptDataError:
    first = _header.pack(*header_at(0)) if at == 0 else b""
    if first[:2] == b"\x1f\x8b":
        return CorruptDataError(
            f"{path!r} is gzip-compressed (byte 0), which leaves no record to find by its offset: write it uncompressed"
        )
    if first[:8] == _RIEGELI:
        return CorruptDataError(f"{path!r} is an ArrayRecord file, not a TFRecord file: give format='array_record'")
    if first[:1] == b"\x78" and int.from_bytes(first[:2], "big") % 31 == 0:
        return CorruptDataError(
            f"{path!r} begins like zlib data, and of compressed TFRecord files only those of gzip are read: write it "
            "with gzip or uncompressed"
        )
    return CorruptDataError(
        f"{path!r}: the record length at byte {at} fails its checksum: the file was altered there, or is no "
        "TFRecord file"
    )


@contextlib.contextmanager
def _open_headers(path: str, size: int) -> Iterator[Callable[[int], tuple[int, int]]]:
    """A function from a byte offset to (length, its checksum) there."""
    if is_remote(path):
        with tf.io.gfile.GFile(path, "rb") as file:
            yield _RemoteHeaders(file)
    elif size == 0:  # an empty file cannot be mapped, and has no header to ask for
        yield lambda _: (0, 0)
    else:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield lambda at: _header.unpack_from(data, at)


class _RemoteHeaders:
    """Headers read a block at a time, as small remote reads are slow."""

    def __init__(self, file: Any) -> None:
        self._file, self._start, self._block = file, 0, b""

    def __call__(self, at: int) -> tuple[int, int]:
        if not self._start <= at <= self._start + len(self._block) - HEADER_BYTES:
            self._file.seek(at)
            self._start, self._block = at, self._file.read(_REMOTE_BLOCK_BYTES)
        length, crc = _header.unpack_from(self._block, at - self._start)
        return length, crc


def _cache_entry(path: str, size: int, mtime_ns: int) -> Path | None:
    """One file name a path and state; the first half alone is the path's, to find stale entries by."""
    full = path if is_remote(path) else os.path.abspath(path)
    where, state = (hashlib.sha256(repr(key).encode()).hexdigest() for key in (full, (full, size, mtime_ns)))
    try:
        return cache_folder("index") / f"{where[:32]}-{state[:32]}.npy"
    except RuntimeError:  # no home folder is known
        return None


def _load(entry: Path, size: int) -> np.ndarray | None:
    """The cached table, or None where there is none that fits a file of `size` bytes."""
    table = load_array(entry)
    return table if table is not None and _is_consistent(table, size) else None


def _is_consistent(table: np.ndarray, size: int) -> bool:
    if table.dtype != np.int64 or table.ndim != 2 or len(table) != 2:
        return False
    offsets, lengths = table
    ends = offsets + lengths + (FRAME_BYTES - HEADER_BYTES)
    starts = np.concatenate([[0], ends])
    return bool((lengths >= 0).all() and (offsets == starts[:-1] + HEADER_BYTES).all() and starts[-1] == size)
