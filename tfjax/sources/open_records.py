"""TFRecord files of serialized `tf.train.Example`s, by path or glob pattern and feature spec.

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
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tfjax._tensorflow import tf
from tfjax.sources.index import is_remote
from tfjax.sources.records import Opened, ParsedRecords, Records, Slice, choose_how


def open_records(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    features: Mapping[str, Any],
    *,
    memory_bytes: int = 2**30,
) -> Opened:
    """Open TFRecord files of serialized `tf.train.Example`s.

    Args:
        paths: one path or glob pattern, or several; the files of a pattern are taken in sorted order.
        features: what `tf.io.parse_example` takes, a feature a key.
        memory_bytes: records of up to this many bytes together are held in memory.

    Returns:
        The source, and a decode that yields a dict with the keys of `features`.

    Raises:
        FileNotFoundError: a pattern matches no file.
        CorruptDataError: a file is damaged or truncated.
        KeyError: the first record lacks one of the features; lists those it has.
        TypeError: `features` is no mapping from names to `tf.io` features.
        ValueError: `features` is empty.
    """
    if not isinstance(features, Mapping):
        raise TypeError(f"features is a {type(features).__name__}: pass a dict from names to tf.io features")
    if not features:
        raise ValueError("features is empty: name at least one feature of the records")
    records = Records([Slice(path) for path in expand_paths(paths)])
    records = replace(records, how=choose_how(records, memory_bytes))
    _require_features(records, features)
    if all(isinstance(f, tf.io.FixedLenFeature) for f in features.values()):
        parsed = ParsedRecords(records, dict(features))
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
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        name = os.fspath(path)
        exists = tf.io.gfile.exists(name) if is_remote(name) else os.path.exists(name)
        matches = [name] if exists else (tf.io.gfile.glob(name) if is_remote(name) else glob.glob(name))
        if not matches:
            raise FileNotFoundError(f"no file matches {name!r}: correct the path or the pattern")
        found.extend(sorted(matches))
    if not found:
        raise FileNotFoundError("paths is empty: pass at least one path or glob pattern")
    return found


def _require_features(records: Records, features: Mapping[str, Any]) -> None:
    """Hold the features without a default against the first record, where there is one that can be parsed."""
    if not len(records):
        return
    example = tf.train.Example()
    try:
        example.ParseFromString(records.files.payload(0))
    except Exception as error:
        raise TypeError(
            f"the record in {records.locate(0)} is no serialized tf.train.Example ({error}): from_records "
            "reads Examples only"
        ) from error
    has = sorted(example.features.feature)
    for key, feature in features.items():
        required = isinstance(feature, tf.io.FixedLenFeature) and feature.default_value is None
        if required and key not in has:
            raise KeyError(
                f"feature {key!r} is not in the record in {records.locate(0)}, which has {has}: correct the "
                "name, or give the feature a default_value"
            )
