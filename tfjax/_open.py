"""The functions that open a source and return a Pipeline."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from tfjax._arguments import require_count
from tfjax.graph.stages import Map, Origin
from tfjax.pipeline import Pipeline

if TYPE_CHECKING:
    from tfjax._tensorflow import tf

Path = str | os.PathLike[str]


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

    Args:
        name: what `tfds.load` takes, e.g. "mnist" or "xquad/en:3.0.0"; "digits" (scikit-learn's handwritten digits,
            uint8 (8, 8, 1), values 0 to 16) needs no network.
        split: "train", "train[:80%]", "train+test", "train[10:20]" and so on, or a `tfds.core.ReadInstruction`.
        data_dir: where TFDS keeps prepared datasets; its own default where it is None.
        download: prepare the dataset where it is not prepared yet.
        cache: "auto" keeps decoded examples in memory where their size is known and at most 250 MiB; None does not.
        as_supervised: examples are the tuple (input, target).
        decoders: as in `tfds.load`, e.g. `{"image": tfds.decode.SkipDecoding()}`.
        memory_bytes: encoded records of up to this many bytes are held in memory, about three times as much while they
            are read; larger sets are memory-mapped.
        builder_kwargs: more arguments of the TFDS builder.

    Raises:
        ValueError: no dataset or split of that name; close ones are named.
        FileNotFoundError: it is not prepared, and could not be.
        CorruptDataError: a record file is damaged, or holds another number of records than the metadata says.
        ImportError: TFDS or TensorFlow is missing; names the extra.

    Example:
        >>> import tfjax
        >>> pipe = tfjax.load("digits", split="train[:100]")
        >>> len(pipe), pipe.spec["image"].shape
        (100, (8, 8, 1))
    """
    from tfjax.sources.tfds import open_tfds

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
    title = f"load({name!r}, split={str(split)!r})"
    return _decoded(title, opened, auto_cache=cache == "auto")


def from_arrays(arrays: Any) -> Pipeline:
    """Examples from arrays in memory: row i of every leaf is example i.

    Args:
        arrays: a pytree of arrays of shape (examples, ...); string arrays may be used inside the graph. They are copied
            once.

    Raises:
        ValueError: no leaf, a scalar, or leading dimensions that differ.
        TypeError: a leaf of Python objects.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"image": np.zeros((10, 8, 8), np.uint8), "label": np.arange(10)})
        >>> len(pipe), int(pipe[3]["label"])
        (10, 3)
    """
    from tfjax.bridge.tree import flatten_arrays
    from tfjax.sources.arrays import Arrays

    leaves, structure = flatten_arrays(arrays)
    source = Arrays(leaves, structure.paths)
    return Pipeline(Origin(name=f"from_arrays({len(source)} rows)", source=source, structure=structure))


def from_examples(examples: Sequence[Any]) -> Pipeline:
    """Examples from any Python sequence: strings, numbers, and arrays whose shapes may vary.

    Args:
        examples: pytrees of one structure; a leaf has one dtype and one rank. They are copied once, as one array of
            values a leaf.

    Raises:
        ValueError: no example, or structures or ranks that differ.
        TypeError: no sequence, or a leaf that is no string, number or array.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_examples([{"x": np.arange(n, dtype=np.float32)} for n in (2, 3)])
        >>> [example["x"].tolist() for example in pipe]
        [[0.0, 1.0], [0.0, 1.0, 2.0]]
    """
    from tfjax.bridge.tree import flatten_arrays
    from tfjax.sources.examples import Examples

    if (
        not hasattr(examples, "__getitem__")
        or not hasattr(examples, "__len__")
        or isinstance(examples, str | bytes | dict)
    ):
        raise TypeError(f"from_examples takes a sequence of examples, given {type(examples).__name__}: pass list(...)")
    if not len(examples):
        raise ValueError("from_examples: the sequence is empty")
    flat = [flatten_arrays(examples[i]) for i in range(len(examples))]
    structure = flat[0][1]
    if not structure.paths:
        raise ValueError(f"from_examples: example 0 is {examples[0]!r}, which has no leaf")
    odd = next((i for i, (_, other) in enumerate(flat) if other.treedef != structure.treedef), None)
    if odd is not None:
        raise ValueError(
            f"from_examples: example {odd} has the leaves {flat[odd][1].paths}, example 0 has {structure.paths}: "
            "every example has one structure"
        )
    source = Examples(list(zip(*(leaves for leaves, _ in flat), strict=True)), structure.paths)
    name = f"from_examples({len(source)} examples)"
    if source.is_fixed:
        return Pipeline(Origin(name=name, source=source, structure=structure))
    return _raw(name, source)._append(
        Map(fn=lambda raw: structure.unflatten(source.restore(raw)), name="restore shapes")
    )


def from_records(paths: Path | Sequence[Path], features: Mapping[str, Any], *, memory_bytes: int = 2**30) -> Pipeline:
    """Examples from TFRecord files of `tf.train.Example`, indexed as they lie.

    Args:
        paths: a path or glob pattern, or several.
        features: what `tf.io.parse_example` takes: a dict of name to `tf.io.FixedLenFeature` and so on.
        memory_bytes: records of up to this many bytes are held in memory; larger sets are memory-mapped.

    Raises:
        FileNotFoundError: a pattern matches no file.
        KeyError: the first record lacks a feature; the message lists those it has.
        CorruptDataError: a file is truncated or damaged; names path and offset.

    Example:
        >>> import tensorflow as tf, tfjax
        >>> tfjax.from_records("/nowhere/*.tfrecord", {"x": tf.io.FixedLenFeature((), tf.int64)})
        Traceback (most recent call last):
        FileNotFoundError: no file matches '/nowhere/*.tfrecord': correct the path or the pattern
    """
    from tfjax.sources.open_records import open_records

    require_count("from_records: memory_bytes", memory_bytes, least=0)
    return _decoded(
        f"from_records({paths!r})", open_records(paths, features, memory_bytes=memory_bytes), auto_cache=False
    )


def from_tf(dataset: tf.data.Dataset, *, batched: bool | None = None) -> Pipeline:
    """Batches from any tf.data.Dataset; it can only be streamed, and is resumed by replay.

    A state counts batches: resuming computes the batches before it and throws them away. The order is the dataset's
    own, so it is repeated exactly only if the dataset repeats it (a seeded `shuffle` does in a new process).

    Args:
        dataset: any finite or infinite dataset.
        batched: whether its elements are batches. None: read it off the leading dimensions, which are all unknown, or
            all equal beside at least one leaf of rank 1; a scalar leaf means not batched.

    Raises:
        TypeError: no tf.data.Dataset.
        ValueError: the leading dimensions do not tell whether elements are batches.

    Example:
        >>> import tensorflow as tf, tfjax
        >>> pipe = tfjax.from_tf(tf.data.Dataset.range(6).batch(3))
        >>> [batch.tolist() for batch in pipe]
        [[0, 1, 2], [3, 4, 5]]
    """
    from tfjax._tensorflow import tf
    from tfjax.bridge.tree import flatten
    from tfjax.sources.foreign import Foreign

    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(f"from_tf takes a tf.data.Dataset, given {type(dataset).__name__}: see from_arrays for arrays")
    specs, structure = flatten(dataset.element_spec)
    source = Foreign(dataset, specs, structure.paths, batched=batched)
    return Pipeline(Origin(name=f"from_tf({type(dataset).__name__})", source=source, structure=structure))


def _decoded(name: str, opened: Any, *, auto_cache: bool) -> Pipeline:
    decode: Callable[..., Any] = opened.decode
    raw = _raw(name, opened.source, info=opened.info, auto_cache=auto_cache)
    return raw._append(Map(fn=lambda leaves: decode(*leaves), name="decode", decodes=True))


def _raw(name: str, source: Any, **more: Any) -> Pipeline:
    from tfjax.bridge.tree import flatten

    _, structure = flatten(tuple(range(len(source.spec))))
    return Pipeline(Origin(name=name, source=source, structure=structure, **more))
