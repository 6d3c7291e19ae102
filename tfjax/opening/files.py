"""Record files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tfjax._arguments import require_count
from tfjax.opening.common import Path, decoded
from tfjax.pipeline import Pipeline


def from_records(
    paths: Path | Sequence[Path],
    features: Mapping[str, Any],
    *,
    format: Literal["tfrecord", "array_record"] = "tfrecord",
    memory_bytes: int = 2**30,
) -> Pipeline:
    """Examples from TFRecord or ArrayRecord files of `tf.train.Example`, indexed as they lie.

    TFRecords that are compressed with gzip are recognised by their first bytes, and streamed: none of their records
    can be fetched without those before it.

    Args:
        paths: a path or glob pattern, or several. TFRecords may lie on a remote path, as "gs://bucket/train-*".
        features: what `tf.io.parse_example` takes: a dict of name to `tf.io.FixedLenFeature` and so on.
        format: "tfrecord", or "array_record", which is read by the `array_record` package from local paths.
        memory_bytes: records of up to this many bytes are held in memory; larger sets of TFRecords are memory-mapped,
            or read by offset where they are remote, and ArrayRecords are read record by record.

    Raises:
        FileNotFoundError: a pattern matches no file.
        KeyError: the first record lacks a feature; the message lists those it has.
        SpecError: a feature has another dtype or shape than `features` says; found in the first record, or where a
            record is read.
        CorruptDataError: a file is truncated or damaged; names path and offset.
        ImportError: the reader of ArrayRecord is missing; names the extra.
        ValueError: `format` is another one, or an ArrayRecord file is remote.

    Example:
        >>> import tensorflow as tf, tfjax
        >>> tfjax.from_records("/nowhere/*.tfrecord", {"x": tf.io.FixedLenFeature((), tf.int64)})
        Traceback (most recent call last):
        FileNotFoundError: no file matches '/nowhere/*.tfrecord': correct the path or the pattern
    """
    from tfjax.sources.open_records import open_records

    require_count("from_records: memory_bytes", memory_bytes, least=0)
    return decoded(
        f"from_records({paths!r})",
        open_records(paths, features, format=format, memory_bytes=memory_bytes),
        auto_cache=False,
    )
