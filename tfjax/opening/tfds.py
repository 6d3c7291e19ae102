"""Datasets of TFDS, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from tfjax._arguments import require_count
from tfjax.opening.common import Path, decoded
from tfjax.pipeline import Pipeline


def load(
    name: str,
    split: Any = "train",
    *,
    data_dir: Path | None = None,
    download: bool = True,
    cache: Literal["auto"] | None = "auto",
    as_supervised: bool = False,
    decoders: Any = None,
    memory_bytes: int = 2**30,
    builder_kwargs: Mapping[str, Any] | None = None,
) -> Pipeline:
    """Open a TFDS dataset by name; its records are indexed as TFDS wrote them, and examples are decoded.

    A `tfjax.image.Decode` that is the first to touch an image replaces TFDS's decoding of it.

    Args:
        name: what `tfds.load` takes, e.g. "mnist" or "xquad/en:3.0.0"; "digits" (scikit-learn's handwritten digits,
            uint8 (8, 8, 1), values 0 to 16) needs no network.
        split: "train", "train[:80%]", "train+test", "train[10:20]" and so on, or a `tfds.core.ReadInstruction`.
        data_dir: where TFDS keeps prepared datasets; its own default where it is None. TFRecords may lie on a remote
            path, as "gs://bucket/tfds".
        download: prepare the dataset where it is not prepared yet.
        cache: "auto" keeps decoded examples in memory where their size is known and at most 250 MiB; None does not.
        as_supervised: examples are the tuple (input, target).
        decoders: as in `tfds.load`, e.g. `{"image": tfds.decode.SkipDecoding()}`.
        memory_bytes: encoded records of up to this many bytes are held in memory, about three times as much while they
            are read. Larger sets of TFRecords are memory-mapped, or read by offset where they are remote, and
            ArrayRecords are read record by record.
        builder_kwargs: more arguments of the TFDS builder, e.g. `{"file_format": "array_record"}` to prepare a dataset
            as what `as_data_source` reads. One that is prepared is read in the format that it has.

    Raises:
        ValueError: no dataset or split of that name; close ones are named.
        FileNotFoundError: it is not prepared, and could not be.
        CorruptDataError: a record file is damaged, or holds another number of records than the metadata says.
        ImportError: TFDS, TensorFlow or the reader of ArrayRecord is missing; names the extra.

    Example:
        >>> import tfjax
        >>> pipe = tfjax.load("digits", split="train[:100]")
        >>> len(pipe), pipe.spec["image"].shape
        (100, (8, 8, 1))
    """
    from tfjax.sources.tfds import feature_path, open_tfds, skipping

    if cache not in ("auto", None):
        raise ValueError(f"load: cache={cache!r}: pass 'auto' or None, or call .cache(...) after load")
    require_count("load: memory_bytes", memory_bytes, least=0)
    opened = open_tfds(
        name,
        split,
        data_dir=data_dir,
        download=download,
        as_supervised=as_supervised,
        decoders=decoders,
        memory_bytes=memory_bytes,
        builder_kwargs=builder_kwargs,
    )

    def undecoded(leaf: str) -> Pipeline:
        image = feature_path(opened.info.supervised_keys, leaf) if as_supervised else leaf
        return load(
            name,
            split,
            data_dir=data_dir,
            download=False,
            cache=cache,
            as_supervised=as_supervised,
            decoders=skipping(opened.info.features, decoders, image),
            memory_bytes=memory_bytes,
            builder_kwargs=builder_kwargs,
        )

    title = f"load({name!r}, split={str(split)!r})"
    return decoded(title, opened, auto_cache=cache == "auto", undecoded=undecoded)
