"""TFRecord or ArrayRecord files of serialized `tf.train.Example`s, by path or glob pattern and feature spec.

>>> import os, tempfile
>>> from tfjax._tensorflow import tf
>>> from tfjax.sources.open_records import open_records
>>> path = os.path.join(tempfile.mkdtemp(), "x.tfrecord")
>>> x = tf.train.Feature(int64_list=tf.train.Int64List(value=[5]))
>>> example = tf.train.Example(features=tf.train.Features(feature={"x": x}))
>>> with tf.io.TFRecordWriter(path) as writer:
...     writer.write(example.SerializeToString())
>>> opened = open_records(path, {"x": tf.io.FixedLenFeature((), tf.int64)})
>>> opened.decode(*opened.source.fetch(tf.constant([0], tf.int64)).leaves)["x"].numpy()
array([5])
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from tfjax._tensorflow import tf
from tfjax.errors import SpecError
from tfjax.sources.array_record import refuse_remote
from tfjax.sources.gzip_records import GzipRecords, is_gzip
from tfjax.sources.index import is_remote
from tfjax.sources.records import Format, Opened, ParsedRecords, Records, Slice, features_differ, open_slices


def open_records(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    features: Mapping[str, Any],
    *,
    format: Format = "tfrecord",
    memory_bytes: int = 2**30,
) -> Opened:
    """Open record files of serialized `tf.train.Example`s.

    Args:
        paths: one path or glob pattern, or several; the files of a pattern are taken in sorted order.
        features: what `tf.io.parse_example` takes, a feature a key.
        format: of the files, "tfrecord" or "array_record".
        memory_bytes: records of up to this many bytes together are held in memory.

    Returns:
        The source, which is a stream where a file is compressed with gzip, and a decode that yields a dict with the
        keys of `features`.

    Raises:
        FileNotFoundError: a pattern matches no file.
        CorruptDataError: a file is damaged or truncated.
        KeyError: the first record lacks one of the features; lists those it has.
        SpecError: a feature of the first record has another dtype or another number of values than `features` says.
        TypeError: a path is no string or `os.PathLike`, or `features` is no mapping from names to `tf.io` features.
        ValueError: `features` is empty, `format` is another one, or an ArrayRecord file is remote.
    """
    if format not in get_args(Format):
        raise ValueError(f"format={format!r}: record files are {' or '.join(map(repr, get_args(Format)))}")
    if not isinstance(features, Mapping):
        raise TypeError(f"features is a {type(features).__name__}: pass a dict from names to tf.io features")
    if not features:
        raise ValueError("features is empty: name at least one feature of the records")
    patterns = _patterns(paths)
    if format == "array_record":
        for pattern in patterns:
            refuse_remote(pattern)
    files = expand_paths(patterns)
    if format == "tfrecord" and any(map(is_gzip, files)):
        stream = GzipRecords(files)
        first = stream.first()
        if first is None:  # no more than an empty TFRecord file is, which is indexed
            return _parsed(open_slices([], format, memory_bytes), features)
        _require_features(first, features)
        return Opened(source=stream, decode=lambda row: tf.io.parse_single_example(row, dict(features)))
    records = open_slices([Slice(path) for path in files], format, memory_bytes)
    _require_features((records.files.payload(0), records.locate(0)) if len(records) else None, features)
    return _parsed(records, features)


def _parsed(records: Records, features: Mapping[str, Any]) -> Opened:
    if all(isinstance(f, tf.io.FixedLenFeature) for f in features.values()):
        parsed = ParsedRecords(records, dict(features), features_given=True)
        return Opened(source=parsed, decode=lambda *leaves: dict(zip(parsed.keys, leaves, strict=True)))
    return Opened(source=records, decode=lambda row: tf.io.parse_single_example(row, dict(features)))


def expand_paths(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str]:
    """The files that paths and glob patterns name, pattern by pattern, sorted within each.

    Raises:
        FileNotFoundError: a path or pattern names no file.

    Example:
        >>> expand_paths("/nowhere/*.tfrecord")
        Traceback (most recent call last):
        FileNotFoundError: no file matches '/nowhere/*.tfrecord': correct the path or the pattern
    """
    found: list[str] = []
    for name in _patterns(paths):
        exists = tf.io.gfile.exists(name) if is_remote(name) else os.path.exists(name)
        matches = [name] if exists else (tf.io.gfile.glob(name) if is_remote(name) else glob.glob(name))
        if not matches:
            raise FileNotFoundError(f"no file matches {name!r}: correct the path or the pattern")
        found.extend(sorted(matches))
    if not found:
        raise FileNotFoundError("paths is empty: pass at least one path or glob pattern")
    return found


def _patterns(paths: Any) -> list[str]:
    """Paths and patterns as text."""
    several = isinstance(paths, Iterable) and not isinstance(paths, str | bytes | os.PathLike)
    found: list[str] = []
    for path in paths if several else [paths]:
        name = os.fspath(path) if isinstance(path, str | os.PathLike) else path
        if not isinstance(name, str):
            raise TypeError(f"from_records takes paths as text or os.PathLike, one or several; given {path!r}")
        found.append(name)
    return found


def _require_features(first: tuple[bytes, str] | None, features: Mapping[str, Any]) -> None:
    """Hold the features without a default against the first record, where there is one that can be parsed."""
    if first is None:
        return
    example, (record, place) = tf.train.Example(), first
    try:
        example.ParseFromString(record)
    except Exception as error:
        raise TypeError(
            f"the record in {place} is no serialized tf.train.Example ({error}): from_records reads Examples only"
        ) from error
    has = sorted(example.features.feature)
    for key, feature in features.items():
        required = isinstance(feature, tf.io.FixedLenFeature) and feature.default_value is None
        if required and key not in has:
            raise KeyError(
                f"feature {key!r} is not in the record in {place}, which has {has}: correct the "
                "name, or give the feature a default_value"
            )
    try:
        tf.io.parse_example([record], dict(features))
    except tf.errors.InvalidArgumentError as error:
        raise SpecError(f"the record in {place}: {features_differ(error)}") from error
