"""ArrayRecord files behind `tfjax.sources.records.Records`, through the reader of the `array_record` package.

A file that was cut off opens with 0 records and no error of its own; the reader's `ok()` tells it from an empty one.
Lengths of records are not stored apart from the records, so that their bytes are estimated from a sample.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfjax._tensorflow import tf
from tfjax.errors import CorruptDataError
from tfjax.sources._sliced_files import OpenFiles, Slice, SlicedFiles
from tfjax.sources.index import is_remote, stat_file

_MAX_READERS = 256  # each keeps a file descriptor, of which a process may have 1,024 by default
_SAMPLED = 256


@dataclass(frozen=True)
class Counted:
    """How many records a file holds, and the state that it was counted in."""

    size_bytes: int
    mtime_ns: int
    records: int

    def __len__(self) -> int:
        """How many records it holds."""
        return self.records


class ArrayRecordFiles(SlicedFiles):
    """Rows over slices of ArrayRecord files."""

    format = "array_record"
    ways = ("held", "read")

    def __init__(self, slices: Sequence[Slice]) -> None:
        """Count the records of the files; see `Records` for what is raised."""
        self._readers: OpenFiles[Any] = OpenFiles(_open, most=_MAX_READERS)
        super().__init__(slices)

    def _index(self, path: str) -> Counted:
        size, mtime = stat_file(path)
        return Counted(size, mtime, int(self._readers.get(path).num_records()))

    @functools.cached_property
    def payload_bytes(self) -> int:
        """The bytes of all records together, from the mean of up to 256 of them, spread evenly."""
        return int(self._sampled.mean() * len(self) + 0.5) if len(self) else 0

    @functools.cached_property
    def _sampled(self) -> np.ndarray:
        chosen = np.linspace(0, len(self) - 1, min(len(self), _SAMPLED)).astype(np.int64)
        return np.array([len(row) for row in self.read(chosen, verify=True)[0]], np.int64)

    def _digest(self) -> bytes:
        return self._sampled.astype("<i8").tobytes() if len(self) else b""

    def locate(self, index: int) -> str:
        """The path of a row, and which of its records it is."""
        path, record = self._record(index)
        return f"{path!r}, record {record}"

    def _record(self, index: int) -> tuple[str, int]:
        part = int(self._parts(np.array(index)))
        _, stop = self._ranges[part]
        return self.slices[part].path, stop - int(self._ends[part]) + int(index)

    def payload(self, index: int) -> bytes:
        """One record; its checksum is checked by the reader."""
        path, record = self._record(index)
        try:
            (data,) = self._readers.get(path).read([record])
        except (RuntimeError, IndexError) as error:
            raise CorruptDataError(
                f"{path!r}: record {record} cannot be read ({error}): the file was altered there; prepare or copy "
                "it again"
            ) from error
        return bytes(data)

    def read(self, indices: np.ndarray, verify: bool) -> tuple[np.ndarray, np.ndarray]:  # noqa: ARG002
        """Rows as an object array of bytes (n,), and which could be read, bool (n,); checksums are always checked."""
        rows, ok = np.empty(len(indices), object), np.ones(len(indices), bool)
        parts = self._parts(indices)
        for part in np.unique(parts):
            where = np.flatnonzero(parts == part)
            _, stop = self._ranges[part]
            records = indices[where] + (stop - self._ends[part])
            rows[where], ok[where] = _read(self._readers.get(self.slices[part].path), records.tolist())
        return rows, ok

    def _load(self) -> tf.Tensor:
        rows: list[bytes] = []
        for part, (start, stop) in zip(self.slices, self._ranges, strict=True):
            try:
                rows.extend(self._readers.get(part.path).read(start, stop) if start < stop else [])
            except (RuntimeError, IndexError) as error:
                raise self._first_bad(str(error)) from error
        return tf.constant(np.array(rows, object), tf.string)


def refuse_remote(path: str) -> None:
    """Raise ValueError for a URL, before it is looked at.

    >>> refuse_remote("gs://bucket/x.array_record")
    Traceback (most recent call last):
    ValueError: the reader of ArrayRecord files takes local paths, given 'gs://bucket/x.array_record': ...
    """
    if is_remote(path):
        raise ValueError(
            f"the reader of ArrayRecord files takes local paths, given {path!r}: copy the file, or write TFRecords, "
            "which are read by offset from a remote path"
        )


def _open(path: str) -> Any:
    refuse_remote(path)
    reader = _module().ArrayRecordReader(path, "readahead_buffer_size:0")  # rows are read in any order
    if not reader.ok():
        raise CorruptDataError(f"{path!r} is no whole ArrayRecord file ({_reason(reader)}): write or copy it again")
    return reader


def _module() -> Any:
    try:
        from array_record.python import array_record_module
    except ImportError as error:
        raise ImportError(
            f"ArrayRecord files are read by the array_record package, which could not be imported ({error}): "
            "pip install 'tfjax[array_record]'"
        ) from error
    return array_record_module


def _reason(reader: Any) -> str:
    try:
        reader.read_all()
    except (RuntimeError, IndexError) as error:
        return str(error)
    return "it holds no record"


def _read(reader: Any, records: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Records of one file in the order asked for; where one is damaged, each by itself."""
    out, ok = np.empty(len(records), object), np.ones(len(records), bool)
    try:
        out[:] = reader.read(records)
    except (RuntimeError, IndexError):
        for k, record in enumerate(records):
            try:
                (out[k],) = reader.read([record])
            except (RuntimeError, IndexError):
                out[k], ok[k] = b"", False
    return out, ok
