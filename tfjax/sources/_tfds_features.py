"""TFDS's own decoding of an example, inside the graph, and what to say where TFDS cannot decode a feature."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfjax._tensorflow import tf
from tfjax.errors import SpecError

# TFDS does not let AutoGraph convert its decoding either, and AutoGraph would wrap the errors.
do_not_convert = tf.autograph.experimental.do_not_convert


def is_parsed_by_batch(features: Any) -> bool:
    """Whether the records of these features can be parsed a batch at a time: all of a fixed shape."""
    specs = features.tf_example_spec
    if not all(isinstance(spec, tf.io.FixedLenFeature) for spec in specs.values()):
        return False
    # TFDS writes sequences of sequences as ragged rows, also where their lengths are given.
    nested = any(info.sequence_rank > 1 for _, info in flatten_features(features.get_serialized_info()))
    return not nested and all(map(_has_its_default, specs.values()))


def _has_its_default(spec: Any) -> bool:
    """False for an optional feature stored as bytes, whose default TFDS gives as numbers."""
    if spec.default_value is None:
        return True
    return bool((np.asarray(spec.default_value).dtype.kind in "SUO") == (spec.dtype == tf.string))


def flatten_features(tree: Any, path: tuple[str, ...] = ()) -> list[tuple[str, Any]]:
    """The leaves of nested dicts, with the keys that TFDS writes them under: joined by slashes.

    >>> flatten_features({"a": {"b": 1}, "c": 2})
    [('a/b', 1), ('c', 2)]
    """
    if not isinstance(tree, Mapping):
        return [("/".join(path), tree)]
    return [item for key, value in tree.items() for item in flatten_features(value, (*path, key))]


def guarded(features: Any, decoders: Any, decode: Callable[..., Any]) -> Callable[[Any], Any]:
    """`decode(example, decoders=...)` of these features, whose errors name the feature.

    Raises, when it is traced:
        SpecError: TFDS cannot decode a feature that it has written; names the feature, the reason and the fix.
        ImportError: decoding needs a library that is missing.
    """

    def decode_example(example: Any) -> Any:
        try:
            return decode(example, decoders=decoders)
        except Exception as error:
            raise _undecodable(features, decoders, error) from error

    return do_not_convert(decode_example)  # type: ignore[no-any-return]


def _undecodable(features: Any, decoders: Any, error: Exception) -> Exception:
    import tensorflow_datasets as tfds

    keys = list(features) if isinstance(features, tfds.features.FeaturesDict) else []
    for key in keys:
        own = {key: decoders[key]} if isinstance(decoders, Mapping) and key in decoders else None
        alone = tfds.features.FeaturesDict({key: features[key]})
        reason = _failure(alone, own)
        if reason is not None:
            others = [k for k in keys if k != key]
            skip = _failure(alone, {key: tfds.decode.SkipDecoding()}) is None
            fix = _fix(key, reason, can_be_skipped=skip, others=others)
            kind = ImportError if isinstance(reason, ImportError) else SpecError
            return kind(f"[{key!r}] is {features[key]!r}, which TFDS cannot decode: {_fact(reason)}{fix}")
    kind = ImportError if isinstance(error, ImportError) else SpecError
    return kind(f"TFDS cannot decode the features {keys or features}: {_fact(error)}")


def _failure(features: Any, decoders: Any) -> Exception | None:
    """What decoding these features alone raises."""

    def decode(row: tf.Tensor) -> Any:
        return features.deserialize_example(row, decoders=decoders)

    try:
        tf.function(decode, autograph=False).get_concrete_function(tf.TensorSpec((), tf.string))
    except Exception as error:  # noqa: BLE001 - returned to be told
        return error
    return None


def _fix(key: str, reason: Exception, *, can_be_skipped: bool, others: list[str]) -> str:
    ways = []
    if missing := re.search(r"No module named ('[\w.]+')", str(reason)):  # TFDS raises it anew, without its name
        ways.append(f"install {missing[1]}")
    if can_be_skipped:
        ways.append(f"pass decoders={{{key!r}: tfds.decode.SkipDecoding()}} and decode it in map")
    if others:
        wanted = ", ".join(f"{k!r}: True" for k in others)
        ways.append(f"leave it out with decoders=tfds.decode.PartialDecoding({{{wanted}}})")
    return f": {', or '.join(ways)}" if ways else ""


def _fact(error: Exception) -> str:
    """The first line of an error, which says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
