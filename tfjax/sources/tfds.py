"""A dataset of TFDS by its name: the record files it wrote, indexed, and its own decoding in the graph.

>>> from tfjax.sources.tfds import open_tfds
>>> import tempfile
>>> opened = open_tfds("digits", "train[:10]", data_dir=tempfile.mkdtemp())
>>> len(opened.source), opened.info.features["label"].num_classes
(10, 10)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast, get_args

from tfjax._tensorflow import tf
from tfjax.errors import CorruptDataError
from tfjax.sources._tfds_builder import import_tfds, prepared_builder
from tfjax.sources._tfds_features import do_not_convert, flatten_features, guarded, is_parsed_by_batch
from tfjax.sources.base import Source
from tfjax.sources.records import Format, Opened, ParsedRecords, Records, Slice, open_slices

__all__ = ["Opened", "feature_path", "open_tfds", "skipping"]


def open_tfds(
    name: str,
    split: Any = "train",
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    as_supervised: bool = False,
    decoders: Any = None,
    memory_bytes: int = 2**30,
    builder_kwargs: Mapping[str, Any] | None = None,
) -> Opened:
    """Open one split of a TFDS dataset, prepared or to be prepared.

    Args:
        name: `"name[/config][:version]"` as in `tfds.load`, or `"digits"`.
        split: `"train"`, `"train[:80%]"`, `"train+test"`, `"train[10:20]"`, `"train[0shard]"`, or one of
            TFDS's ReadInstructions. Files are read one after the other, in the order of their names.
        data_dir: where TFDS keeps its datasets; None is TFDS's own default.
        download: prepare the dataset where it is not prepared yet.
        as_supervised: examples are the tuple of the supervised keys.
        decoders: as in `tfds.load`: nested dict of decoders, `tfds.decode.SkipDecoding()`, or a
            PartialDecoding.
        memory_bytes: records of up to this many bytes together are held in memory.
        builder_kwargs: more arguments of the builder.

    Returns:
        The source, `decode(*leaves)` that yields what `tfds.load` yields, and TFDS's info.

    Raises:
        CorruptDataError: a record file is damaged, or does not hold what the dataset's metadata says.
        FileNotFoundError: the dataset is not prepared and cannot be, or a record file is missing.
        ImportError: TFDS, importlib_resources or scikit-learn is missing; names the extra.
        TypeError: the files are in a format without a record index, or `split` is not one split.
        ValueError: the name, config, version or split does not exist; names those that do.
    """
    builder = prepared_builder(name, data_dir=data_dir, download=download, builder_kwargs=builder_kwargs)
    kind = _format(builder)
    records = open_slices(_slices(builder, split), kind, memory_bytes)
    config = getattr(builder.builder_config, "name", None)
    names = {"name": builder.name, "config": config, "version": str(builder.version), "split": str(split)}
    # TFRecords, TFDS's default, go without their name, as what is estimated of other files is not of them.
    formats = {} if kind == "tfrecord" else {"format": kind}
    records = replace(records, identity={**names, **formats, **records.files.counts()})
    source, decode = _decoding(builder.info.features, decoders, records)
    if as_supervised:
        decode = _supervised(builder, decode)
    return Opened(source=source, decode=decode, info=builder.info)


def skipping(features: Any, decoders: Any, image: str) -> Any:
    """The decoders that leave an image, at a path such as "image" or "photos/front", as it is stored.

    Raises:
        KeyError: there is no image at this path that TFDS would decode.
    """
    tfds = import_tfds()
    feature, *path = features, *image.split("/")
    is_partial = isinstance(decoders, tfds.decode.PartialDecoding)
    given = all_given = decoders.decoders if is_partial else decoders
    for key in path:
        if not isinstance(feature, tfds.features.FeaturesDict) or key not in feature:
            raise KeyError(image)
        feature = feature[key]
        given = (given or {}).get(key)
    is_image = type(feature) is tfds.features.Image and feature.tf_dtype.is_integer  # bits of floats go as RGBA
    if not is_image or given is not None:
        raise KeyError(image)
    skip: Any = tfds.decode.SkipDecoding()
    for key in reversed(path):
        skip = {key: skip}
    merged = _merged(all_given, skip)
    return tfds.decode.PartialDecoding(decoders.extract_features(features), merged) if is_partial else merged


def feature_path(supervised_keys: Any, leaf: str) -> str:
    """Where a leaf of a supervised example, such as "0", is among the features.

    >>> feature_path((("photo", "boxes"), "label"), "0/1/left")
    'boxes/left'
    """
    if isinstance(supervised_keys, str):
        return f"{supervised_keys}/{leaf}".rstrip("/")
    first, _, rest = leaf.partition("/")
    return feature_path(supervised_keys[first if isinstance(supervised_keys, Mapping) else int(first)], rest)


def _merged(one: Any, other: Any) -> Any:
    """Nested dicts of decoders as one."""
    if not one:
        return other
    return {**one, **{k: _merged(one.get(k), v) if isinstance(v, Mapping) else v for k, v in other.items()}}


def _format(builder: Any) -> Format:
    kind = getattr(builder.info.file_format, "value", builder.info.file_format)
    if kind not in get_args(Format):
        raise TypeError(
            f"{builder.info.full_name} in {str(builder.data_dir)!r} is stored as {kind!r}, which has no "
            f"record index here: prepare it as {' or '.join(map(repr, get_args(Format)))} in another data_dir"
        )
    return cast(Format, kind)


def _slices(builder: Any, split: Any) -> list[Slice]:
    """The files of a split, and which of their records; held against the metadata when they are indexed."""
    splits = builder.info.splits
    what = f"split {str(split)!r} of {builder.info.full_name}"
    there = ", ".join(f"{key!r} ({info.num_examples} examples)" for key, info in splits.items())
    if split is None or isinstance(split, list | tuple | set | dict):
        raise TypeError(f"split is {split!r}: pass one, as 'train[:80%]' or 'train+test'; there are {there}")
    if not splits:
        raise CorruptDataError(f"the metadata in {str(builder.data_dir)!r} names no split: prepare it again")
    try:
        files = splits[split].file_instructions
    except (ValueError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"{what}: {reason} The splits are {there}") from error
    if not files or any(f.take <= 0 for f in files):
        raise ValueError(f"{what} selects no example; the splits are {there}")
    return [Slice(os.fspath(f.filename), f.skip, f.take, f.examples_in_shard) for f in files]


def _decoding(features: Any, decoders: Any, records: Records) -> tuple[Source, Callable[..., Any]]:
    """Records parsed a batch at a time where each feature has a fixed shape, else by `decode`, one by one."""
    if isinstance(decoders, import_tfds().decode.PartialDecoding):
        features, decoders = decoders.extract_features(features), decoders.decoders
    if not is_parsed_by_batch(features):
        return records, guarded(features, decoders, features.deserialize_example)
    infos = features.get_serialized_info()
    dtypes = {key: info.tf_dtype for key, info in flatten_features(infos)}
    source = ParsedRecords(records, features.tf_example_spec, dtypes)
    decode_example = guarded(features, decoders, features.decode_example)

    @do_not_convert  # type: ignore[untyped-decorator]
    def decode(*leaves: tf.Tensor) -> Any:
        return decode_example(_nest(infos, dict(zip(source.keys, leaves, strict=True))))

    return source, decode


def _nest(tree: Any, flat: Mapping[str, Any], path: tuple[str, ...] = ()) -> Any:
    """Flat features as nested dicts like `tree`."""
    if not isinstance(tree, Mapping):
        return flat["/".join(path)]
    return {key: _nest(value, flat, (*path, key)) for key, value in tree.items()}


def _supervised(builder: Any, decode: Callable[..., Any]) -> Callable[..., Any]:
    keys = builder.info.supervised_keys
    if not keys:
        raise ValueError(
            f"as_supervised=True, but {builder.info.full_name} names no supervised keys: leave it out, and "
            f"select from the features {sorted(builder.info.features)}"
        )

    def decode_supervised(*leaves: tf.Tensor) -> Any:
        example = decode(*leaves)
        return tf.nest.map_structure(lambda key: example[key], keys)

    return decode_supervised
