"""What files of records have in common, whatever their format: slices of them, and the tensor that holds all rows."""

from __future__ import annotations

import abc
import hashlib
import itertools
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from tfjax._tensorflow import tf
from tfjax.errors import CorruptDataError
from tfjax.sources.index import require_unchanged

_TSTRING_BYTES = 24  # what a string tensor needs for an element beside its bytes
T = TypeVar("T")


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


class Index(Protocol):
    """How many records a file holds, and the state of the file when they were counted."""

    @property
    def size_bytes(self) -> int:
        """Its size."""
        ...

    @property
    def mtime_ns(self) -> int:
        """Its modification time in nanoseconds."""
        ...

    def __len__(self) -> int:
        """How many records it holds."""
        ...


class SlicedFiles(abc.ABC):
    """Rows over slices of files: row i is record i of the slices one after the other."""

    format: ClassVar[str]
    ways: ClassVar[tuple[str, ...]]  # the values of `Records.how` that this format has

    def __init__(self, slices: Sequence[Slice]) -> None:
        """Index the files; see `Records` for what is raised."""
        self.slices = tuple(slices)
        self._indexes: dict[str, Any] = {}
        self._ranges = [self._select(s) for s in self.slices]
        self._ends = np.cumsum([stop - start for start, stop in self._ranges], dtype=np.int64)
        self._lock = threading.Lock()
        self._held: tf.Tensor | None = None

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    @abc.abstractmethod
    def payload_bytes(self) -> int:
        """The bytes of all records together."""

    @abc.abstractmethod
    def locate(self, index: int) -> str:
        """The file of a row, and where in it the record stands."""

    @abc.abstractmethod
    def payload(self, index: int) -> bytes:
        """One record, read and checked; CorruptDataError where it is damaged."""

    @abc.abstractmethod
    def read(self, indices: np.ndarray, verify: bool) -> tuple[np.ndarray, np.ndarray]:
        """Rows as an object array of bytes (n,), and which passed their checksum, bool (n,)."""

    @abc.abstractmethod
    def _index(self, path: str) -> Index:
        """Count the records of a file, whole as far as can be told."""

    @abc.abstractmethod
    def _load(self) -> tf.Tensor:
        """All rows as one string tensor, checksums checked."""

    @abc.abstractmethod
    def _digest(self) -> bytes:
        """Tells contents apart as far as they are known without reading all of them."""

    def _select(self, part: Slice) -> tuple[int, int]:
        """The first record of a slice in its file, and the one after its last."""
        path, skip, take, total = part
        if path not in self._indexes:
            self._indexes[path] = self._index(path)
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
        return skip, skip + count

    @property
    def held_bytes(self) -> int:
        """What holding all records in memory takes."""
        return self.payload_bytes + _TSTRING_BYTES * len(self)

    def identity(self) -> dict[str, Any]:
        """File names, counts and a digest, without the folder they are in."""
        digest = hashlib.sha256(self._digest())
        for part in self.slices:
            digest.update(repr((os.path.basename(part.path), part.skip, part.take)).encode())
        return {"format": self.format, **self.counts(), "digest": digest.hexdigest()[:16]}

    def counts(self) -> dict[str, int]:
        """How many records there are, and their bytes."""
        return {"num_examples": len(self), "bytes": self.payload_bytes}

    def stamp(self) -> str:
        """A digest over name, size, modification time and taken records of each file."""
        indexes = [(os.path.basename(p.path), self._indexes[p.path]) for p in self.slices]
        files = [(name, i.size_bytes, i.mtime_ns) for name, i in indexes]
        return hashlib.sha256(repr((files, [(p.skip, p.take) for p in self.slices])).encode()).hexdigest()

    def check(self) -> None:
        """Raise CorruptDataError where a file's size or modification time changed since it was indexed."""
        for path, index in self._indexes.items():
            require_unchanged(path, index.size_bytes, index.mtime_ns)

    def held(self) -> tf.Tensor:
        """All rows as one string tensor (records,), loaded at the first call, checksums checked."""
        with self._lock:
            if self._held is None:
                with tf.init_scope():  # an eager tensor, captured by the graphs that gather from it
                    self._held = self._load()
            return self._held

    def _parts(self, indices: np.ndarray) -> np.ndarray:
        """The slice of each row, int64 (n,)."""
        return np.searchsorted(self._ends, indices, side="right")

    def _first_bad(self, reason: str) -> CorruptDataError:
        """The reader of many records names none: find the first that it cannot have liked."""
        try:
            self.check()
            for index in range(len(self)):
                self.payload(index)
        except CorruptDataError as found:
            return found
        paths = sorted({s.path for s in self.slices})
        more = f" and {len(paths) - 1} more files" if len(paths) > 1 else ""
        return CorruptDataError(f"the records of {paths[0]!r}{more} could not be read: {reason}")


class OpenFiles(Generic[T]):
    """Open files by path; each keeps a file descriptor, so the oldest goes where there are too many.

    One that is dropped here while another thread reads it lives until that is done.
    """

    def __init__(self, opener: Callable[[str], T], *, most: int) -> None:
        """Open files with `opener`, at most `most` at a time."""
        self._open_one, self._most = opener, most
        self._files: dict[str, T] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._files)

    def get(self, path: str) -> T:
        """The open file of a path."""
        found = self._files.get(path)
        return self._open(path) if found is None else found

    def _open(self, path: str) -> T:
        with self._lock:
            if path in self._files:  # another thread was first
                return self._files[path]
            for oldest in list(itertools.islice(self._files, max(0, len(self._files) + 1 - self._most))):
                del self._files[oldest]
            self._files[path] = self._open_one(path)
            return self._files[path]
