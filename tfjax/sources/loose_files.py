"""Loose files, one an example: their bytes, read in the graph when they are asked for, beside columns held in memory.

A file is read by one `ReadFile` inside MapDefun: no Python, several files at a time. With files of 90 KB that takes
half the CPU time of one Python call a batch, or of `tf.map_fn`.

    >>> import pathlib, tempfile
    >>> from tfjax._tensorflow import tf
    >>> from tfjax.sources.file_list import list_files
    >>> from tfjax.sources.loose_files import LooseFiles
    >>> paths = [str(pathlib.Path(tempfile.mkdtemp()) / name) for name in "ab"]
    >>> sizes = [pathlib.Path(path).write_text(path[-1] * 3) for path in paths]
    >>> source = LooseFiles(list_files("text", paths), "text", {"label": [5, 6]})
    >>> source.keys
    ('label', 'text')
    >>> [leaf.numpy().tolist() for leaf in source.fetch(tf.constant([1, 0, 1], tf.int64)).leaves]
    [[6, 5, 6], [b'bbb', b'aaa', b'bbb']]
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfjax._tensorflow import tf
from tfjax.errors import CorruptDataError
from tfjax.sources.arrays import Arrays
from tfjax.sources.base import Raw
from tfjax.sources.file_list import FileList, first_few
from tfjax.sources.index import require_unchanged, stat_file
from tfjax.spec import format_bytes

_CHECKED = 100  # files that `check` looks at, however many there are


class LooseFiles:
    """A source over files, and one row of each column for each."""

    def __init__(self, files: FileList, kind: str, columns: Mapping[str, Any]) -> None:
        """Hold paths, sizes and columns as tensors; no file is read.

        Args:
            files: at least one.
            kind: the key of their bytes.
            columns: arrays of shape (files, ...) of numbers or strings, by key.

        Raises:
            TypeError: a column is no array that TensorFlow has a dtype for.
            ValueError: a column has another number of rows, rows of several shapes, or the key of the bytes.
        """
        if kind in columns:
            raise ValueError(f"from_files: {kind!r} is the key of the files' bytes: give that column another name")
        self.keys = tuple(sorted((kind, *columns)))
        self.columns = frozenset(i for i, key in enumerate(self.keys) if key != kind)  # leaves that are in memory
        self._kind, self._names, count = kind, tuple(columns), len(files.paths)
        arrays = [_column(f"from_files: column {name!r}", columns[name], count) for name in columns]
        self._columns = Arrays(arrays, [f"column {name!r}" for name in columns], "from_files") if arrays else None
        self._sizes, self._mtimes, self._unusable = files.size_bytes, files.mtime_ns, files.unusable
        self._odd = first_few([files.names[i] for i in files.unusable])
        usable = np.ones(count, bool)
        usable[list(files.unusable)] = False
        self._paths = tf.constant(list(map(os.fsencode, files.paths)), tf.string)
        self._known = (tf.constant(usable), tf.constant(files.size_bytes))
        digest = hashlib.sha256(b"\0".join(map(os.fsencode, (*self.keys, *files.names))))
        digest.update(files.size_bytes.tobytes())
        digest.update(self._columns.digest().encode() if self._columns else b"")
        self.identity: dict[str, Any] = {
            "files": count,
            "bytes": int(files.size_bytes.sum()),
            "digest": digest.hexdigest()[:32],
        }
        digest.update(files.mtime_ns.tobytes())
        self._stamp = digest.hexdigest()

    def __len__(self) -> int:
        """How many files there are."""
        return len(self._sizes)

    @property
    def spec(self) -> tuple[tf.TypeSpec, ...]:
        """One scalar string and one row of each column, in the order of `keys`."""
        return self._in_order(tf.TensorSpec((), tf.string), self._columns.spec if self._columns else ())

    def fetch(self, indices: tf.Tensor) -> Raw:
        """The files at `indices`, int64 (n,), read in the graph, and the rows of the columns.

        A file that cannot be used, or has another size than it had, is not ok; one that is gone fails the batch.

        Raises:
            CorruptDataError: eagerly, as where a failure is looked into: what is wrong with the first such file.
        """
        if tf.executing_eagerly():
            for index in indices.numpy().tolist():
                self._require_usable(index)
        usable, sizes = (tf.gather(known, indices) for known in self._known)
        data = _read(tf.gather(self._paths, indices), usable)
        ok = tf.logical_and(usable, tf.equal(tf.strings.length(data), tf.cast(sizes, tf.int32)))
        return Raw(self._in_order(data, self._columns.fetch(indices).leaves if self._columns else ()), ok)

    def _in_order(self, of_bytes: Any, of_columns: Any) -> tuple[Any, ...]:
        found = {self._kind: of_bytes, **dict(zip(self._names, of_columns, strict=True))}
        return tuple(found[key] for key in self.keys)

    def _require_usable(self, index: int) -> None:
        if index in self._unusable:
            raise CorruptDataError(self._unusable[index])
        was = f"it was {self._sizes[index]} bytes when it was listed and is"
        try:
            size, _ = stat_file(self._path(index))
        except FileNotFoundError as error:
            raise CorruptDataError(f"{was} gone: bring it back, and make the pipeline anew") from error
        if size != self._sizes[index]:
            raise CorruptDataError(f"{was} {size} bytes: make the pipeline anew")

    def describe(self) -> str:
        """How many files there are, how they are read, and the first of those that cannot be used."""
        text = f"{len(self)} files, {format_bytes(self.identity['bytes'])}, each read in the graph when it is needed"
        count = len(self._unusable)
        return f"{text}; {count} of them are unusable, and an error then: {self._odd}" if count else text

    def locate(self, index: int) -> str:
        """The path of a file."""
        return repr(self._path(index))

    def _path(self, index: int) -> str:
        return os.fsdecode(self._paths[index].numpy())

    def stamp(self) -> str:
        """A digest over names, sizes, modification times, and the values of the columns."""
        return self._stamp

    def check(self) -> None:
        """Raise CorruptDataError where a file is gone, or its size or modification time is another.

        Of more than 100 files it looks at 100, evenly spread, with the first and the last: to look at each of a
        million would take seconds. The size of every file is held against what it was when it is read.
        """
        some = np.unique(np.linspace(0, len(self) - 1, _CHECKED).astype(np.int64))
        for index, path in zip(some.tolist(), tf.gather(self._paths, some).numpy(), strict=True):
            if index not in self._unusable:
                require_unchanged(os.fsdecode(path), int(self._sizes[index]), int(self._mtimes[index]))


def _read(paths: tf.Tensor, usable: tf.Tensor) -> tf.Tensor:
    """The bytes of each file, string (n,); of those that are not usable nothing is read."""

    def one(path: tf.Tensor, use: tf.Tensor) -> tuple[tf.Tensor]:
        return (tf.cond(use, lambda: tf.io.read_file(path), lambda: tf.constant(b"")),)

    specs = (tf.TensorSpec((), tf.string), tf.TensorSpec((), tf.bool))
    function = tf.function(one, autograph=False).get_concrete_function(*specs)
    (data,) = tf.raw_ops.MapDefun(
        arguments=[paths, usable], captured_inputs=[], output_types=[tf.string], output_shapes=[()], f=function
    )
    data.set_shape(paths.shape)
    return data


def _column(what: str, values: Any, count: int) -> Any:
    try:
        array = np.asanyarray(values)
    except ValueError as error:
        raise ValueError(f"{what} has rows of several shapes: pad them to one") from error
    if array.dtype.kind in "SU" and not isinstance(values, np.ndarray):
        array = np.asarray(values, object)  # NumPy's own text loses zero bytes at its end, and takes in numbers
    if array.ndim == 0 and array.dtype == object:
        raise TypeError(f"{what} is a {type(values).__name__}: pass an array or a list, with one row a file")
    if array.ndim == 0:
        return values  # refused by `Arrays`, which shows what was given
    if len(array) != count:
        raise ValueError(f"{what} has {len(array)} rows for {count} files: give one row a file")
    return array
