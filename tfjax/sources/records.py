"""Records of TFRecord or ArrayRecord files, fetched by index in one of several ways.

- held: all records in one `tf.string` tensor, gathered in the graph without Python. Payload checksums are
  checked once, as the tensor is filled.
- mmap: memory-mapped TFRecord files, read through `tfjax.sources.python.fetch_rows`; payload checksums on request.
- graph: a pure-graph reader of TFRecord files by byte offset; works on remote paths, checks payload checksums, is
  the slowest.
- read: ArrayRecord's own reader, called through `fetch_rows`; it checks payload checksums.

A raw example is one scalar string, the serialized record; `ParsedRecords` parses a whole batch of them at
once.

    >>> import dataclasses, os, tempfile
    >>> from tfjax._tensorflow import tf
    >>> from tfjax.sources.records import Records, Slice
    >>> path = os.path.join(tempfile.mkdtemp(), "letters.tfrecord")
    >>> with tf.io.TFRecordWriter(path) as writer:
    ...     for letter in "abcd":
    ...         writer.write(letter.encode())
    >>> records = Records([Slice(path, skip=1, take=2), Slice(path)])
    >>> for how in ("held", "mmap", "graph"):
    ...     raw = dataclasses.replace(records, how=how).fetch(tf.constant([5, 0, 1], tf.int64))
    ...     raw.leaves[0].numpy().tolist()
    [b'd', b'b', b'c']
    [b'd', b'b', b'c']
    [b'd', b'b', b'c']
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import numpy as np

from tfjax._tensorflow import tf
from tfjax.errors import SpecError
from tfjax.sources._record_files import RecordFiles
from tfjax.sources._sliced_files import Slice, SlicedFiles
from tfjax.sources.array_record import ArrayRecordFiles
from tfjax.sources.base import Raw, Source
from tfjax.sources.index import is_remote
from tfjax.sources.python import fetch_rows, register
from tfjax.sources.stream import Stream
from tfjax.spec import format_bytes

__all__ = ["Format", "How", "Opened", "ParsedRecords", "Records", "Slice", "choose_how", "open_slices"]

Format = Literal["tfrecord", "array_record"]
How = Literal["held", "mmap", "graph", "read"]
_FILES: Mapping[Format, type[SlicedFiles]] = {"tfrecord": RecordFiles, "array_record": ArrayRecordFiles}


@dataclass(frozen=True, eq=False)
class Records:
    """A source over slices of TFRecord or ArrayRecord files, in the order given.

    `dataclasses.replace` with another `how` or `verify_payload` shares the indexes, the open files and the held
    tensor.

    Attributes:
        slices: which records of which files.
        how: one of the ways of the format: "held", "mmap" or "graph"; for ArrayRecord "held" or "read". `choose_how`
            tells which fits.
        verify_payload: check payload checksums on the mmap path too; the others always do.
        identity: names, sizes and counts; made of file names and what is known of the records where it is not given.
        format: of the files, "tfrecord" or "array_record".

    Raises:
        FileNotFoundError: a file does not exist.
        CorruptDataError: a file is damaged or truncated, or does not hold the records its slice names.
        ImportError: the files are ArrayRecord, and their reader is missing; names the extra.
        ValueError: `how` is no way of the format, or is "mmap" for a remote path.
    """

    slices: Sequence[Slice]
    how: How = "mmap"
    verify_payload: bool = False
    identity: dict[str, Any] = field(default_factory=dict)
    format: Format = "tfrecord"
    _files: SlicedFiles | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Index the files, unless this is a `dataclasses.replace` of a value that did."""
        kind = _FILES[self.format]
        if self.how not in kind.ways:
            raise ValueError(f"how={self.how!r}: {self.format} files are fetched by one of {', '.join(kind.ways)}")
        remote = next((s.path for s in self.slices if is_remote(s.path)), None)
        if self.how == "mmap" and remote:
            raise ValueError(f"how='mmap' cannot map the remote file {remote!r}: use how='held' or how='graph'")
        if not isinstance(self._files, kind) or self._files.slices != tuple(self.slices):
            object.__setattr__(self, "_files", kind(self.slices))
        if not self.identity:
            object.__setattr__(self, "identity", self.files.identity())
        object.__setattr__(self, "_handle", register(self))

    @property
    def files(self) -> SlicedFiles:
        """The indexed files, shared by every `dataclasses.replace` of this value."""
        if self._files is None:
            raise RuntimeError("Records has no files before __post_init__")
        return self._files

    def __len__(self) -> int:
        """How many records there are."""
        return len(self.files)

    @property
    def spec(self) -> tuple[tf.TypeSpec, ...]:
        """One scalar string, the serialized record."""
        return (tf.TensorSpec((), tf.string),)

    def fetch(self, indices: tf.Tensor) -> Raw:
        """The records at `indices`, int64 (n,), as one string tensor (n,); call it in a graph or eagerly.

        The held tensor is loaded at the first call, which may raise CorruptDataError naming path and byte
        offset. By "read", and by "mmap" with `verify_payload`, a record that fails its checksum is not ok, and its
        row is empty. By "graph" it is a DataLossError when the graph runs.
        """
        if self.how == "held":
            return Raw((tf.gather(self.files.held(), indices),))
        if self.how == "graph" and isinstance(self.files, RecordFiles):
            return Raw((self.files.in_graph(indices),))
        rows, ok = fetch_rows(self._handle, indices, [tf.string])  # type: ignore[attr-defined]
        rows.set_shape(indices.shape)
        return Raw((rows,), ok if self.verify_payload or self.how == "read" else None)

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Records as an object array of bytes (n,), and which are ok, bool (n,), outside any graph."""
        return self.files.read(indices, self.verify_payload)

    def describe(self) -> str:
        """How records are fetched."""
        size = f"{len(self)} records, {format_bytes(self.files.payload_bytes)}"
        checked = " with payload checksums" if self.verify_payload else ""
        how = {
            "held": "held in memory as one string tensor and gathered in the graph",
            "mmap": f"memory-mapped, fetched by one Python call a batch{checked}",
            "graph": "read by offset in the graph, one reader a record",
            "read": "read by ArrayRecord's reader, in one Python call a batch with payload checksums",
        }
        return f"{size}, {how[self.how]}"

    def locate(self, index: int) -> str:
        """The file of a record, and where in it the record stands."""
        return self.files.locate(index)

    def stamp(self) -> str | None:
        """Names, sizes and modification times of the files, and which of their records are taken."""
        return self.files.stamp()

    def check(self) -> None:
        """Raise CorruptDataError where a file's size or modification time is not what it was when indexed."""
        self.files.check()


def open_slices(slices: Sequence[Slice], format: Format, memory_bytes: int) -> Records:
    """Records fetched in the fastest way that fits; see `choose_how`.

    >>> open_slices([], "array_record", 0).how
    'held'
    """
    *_, last = _FILES[format].ways
    records = Records(slices, how=cast(How, last), format=format)
    return replace(records, how=choose_how(records, memory_bytes))


def choose_how(records: Records, memory_bytes: int) -> How:
    """The fastest way to fetch that fits.

    Args:
        records: what is to be fetched.
        memory_bytes: records of up to this many bytes together are held in memory.

    Returns:
        "held" where they fit; else "read" for ArrayRecord, "graph" where a path is remote, "mmap" where none is.
    """
    if records.files.held_bytes <= memory_bytes:
        return "held"
    if records.format == "array_record":
        return "read"
    return "graph" if any(is_remote(s.path) for s in records.slices) else "mmap"


@dataclass(frozen=True, eq=False)
class ParsedRecords:
    """A source whose raw examples are the features of records, parsed a batch at a time.

    Attributes:
        records: the serialized `tf.train.Example`s.
        features: a `tf.io.FixedLenFeature` a key; the flat leaves come in sorted key order.
        dtypes: where a leaf is to be cast after parsing: an Example holds int64, float32 and bytes only.
        features_given: whether the user wrote `features`, so that they are to blame where a whole record does not
            parse; those of TFDS come with the data.

    Raises:
        TypeError: a feature is of varying length; names it.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "x.tfrecord")
        >>> features = {"x": tf.io.FixedLenFeature((), tf.int64)}
        >>> x = tf.train.Feature(int64_list=tf.train.Int64List(value=[5]))
        >>> example = tf.train.Example(features=tf.train.Features(feature={"x": x}))
        >>> with tf.io.TFRecordWriter(path) as writer:
        ...     writer.write(example.SerializeToString())
        >>> parsed = ParsedRecords(Records([Slice(path)]), features)
        >>> parsed.fetch(tf.constant([0, 0], tf.int64)).leaves[0].numpy()
        array([5, 5])
    """

    records: Records
    features: Mapping[str, Any]
    dtypes: Mapping[str, tf.DType] = field(default_factory=dict)
    features_given: bool = False

    def __post_init__(self) -> None:
        """Refuse features that a batched parse would pad."""
        varying = [k for k, f in self.features.items() if not isinstance(f, tf.io.FixedLenFeature)]
        if varying:
            raise TypeError(
                f"features {varying} are not tf.io.FixedLenFeature: a batch of them has no common shape; "
                "parse them example by example"
            )

    def __len__(self) -> int:
        """How many records there are."""
        return len(self.records)

    @property
    def keys(self) -> tuple[str, ...]:
        """The feature of each flat leaf."""
        return tuple(sorted(self.features))

    @property
    def spec(self) -> tuple[tf.TypeSpec, ...]:
        """One leaf a feature, in sorted key order."""
        return tuple(tf.TensorSpec(f.shape, self.dtypes.get(k, f.dtype)) for k, f in sorted(self.features.items()))

    @property
    def identity(self) -> dict[str, Any]:
        """That of the records."""
        return self.records.identity

    def fetch(self, indices: tf.Tensor) -> Raw:
        """Fetch the records at `indices`, int64 (n,), and parse them in one op.

        Raises:
            SpecError: eagerly, as where a failure is looked into: a record is whole, and is not as `features` say.
        """
        (serialized,), ok = self.records.fetch(indices)
        if ok is not None:
            # or one bad record would fail the parse of its whole batch
            serialized = tf.where(ok, serialized, _filler(self.features))
        try:
            parsed = tf.io.parse_example(serialized, dict(self.features))
        except tf.errors.InvalidArgumentError as error:
            if not self.features_given:
                raise
            for index in indices.numpy().tolist():
                self.records.files.payload(index)  # raises where the record is damaged
            raise SpecError(features_differ(error)) from error
        leaves = tuple(tf.cast(parsed[k], self.dtypes.get(k, parsed[k].dtype)) for k in self.keys)
        return Raw(leaves, ok)

    def describe(self) -> str:
        """How records are fetched and parsed."""
        return f"{self.records.describe()}; parsed a batch at a time"

    def locate(self, index: int) -> str:
        """The file and the byte offset of a record."""
        return self.records.locate(index)

    def stamp(self) -> str | None:
        """That of the records."""
        return self.records.stamp()

    def check(self) -> None:
        """Raise CorruptDataError where a file changed since it was indexed."""
        self.records.check()


def features_differ(error: tf.errors.InvalidArgumentError) -> str:
    """How a record differs from the features that it was parsed by, in TensorFlow's words and the rule."""
    text = re.sub(r"{{[^}]*}} *| \[Op:.*", "", error.message, flags=re.DOTALL)
    found = re.search(r"Key: (.*?)(?:, Index: \d+)?\.  (.*)", text, flags=re.DOTALL)
    which, said = (f"feature {found[1]!r}", found[2]) if found else ("a feature", text)
    return (
        f"{which} is not stored as `features` says ({said.strip().rstrip('.')}): the record is whole, so correct its "
        "dtype or shape in `features`; an Example holds int64, float32 and string"
    )


def _filler(features: Mapping[str, Any]) -> bytes:
    """A serialized Example of zeros and empty strings that parses as `features`."""
    example = tf.train.Example()
    for key, feature in features.items():
        count, held = int(np.prod(feature.shape, dtype=np.int64)), example.features.feature[key]
        if feature.dtype == tf.string:
            held.bytes_list.value.extend([b""] * count)
        elif feature.dtype == tf.int64:
            held.int64_list.value.extend([0] * count)
        else:
            held.float_list.value.extend([0.0] * count)
    serialized: bytes = example.SerializeToString()
    return serialized


@dataclass(frozen=True, eq=False, kw_only=True)
class Opened:
    """A source, and how its raw leaves become an example.

    Attributes:
        source: what is fetched by index, or read one after the other.
        decode: `decode(*leaves)` inside the graph, for one example: the raw leaves to the example.
        info: the `tfds.core.DatasetInfo`, where there is one.
    """

    source: Source | Stream
    decode: Callable[..., Any]
    info: Any = None
