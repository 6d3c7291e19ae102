"""Leaves that vary in size as strings, so that every leaf of a row is of a fixed size or a string."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfjax._tensorflow import tf
from tfjax.errors import SpecError
from tfjax.graph.element import Element, describe_spec, size_bytes
from tfjax.graph.functions import Function, trace
from tfjax.graph.stages import Cache, Map


def require_storable(element: Element, stage: Cache) -> None:
    """Refuse what cannot be kept.

    Raises:
        SpecError: a leaf whose size varies, in memory; one that is no tensor, in a folder.
        ValueError: a compression where there is nothing to compress.
    """
    where = f"cache({stage.where!r})"
    for leaf, spec in element.leaves():
        if stage.path is None and not is_fixed(spec):
            raise SpecError(
                f"{where} holds rows of a fixed size, but {leaf} is {describe_spec(spec)}: resize, pad or drop it "
                f"before, or give the path of a folder, which holds it as it is{_or_decode(spec)}"
            )
        if not isinstance(spec, tf.TensorSpec) or spec.dtype in (tf.variant, tf.resource):
            raise SpecError(
                f"{where} holds tensors, but {leaf} is {describe_spec(spec)}: make it a tensor in map before, with "
                "x.to_tensor() or tf.sparse.to_dense(x), or drop it"
            )
    if stage.compression is not None and all(map(is_fixed, element.specs)):
        raise ValueError(
            f"{where}: compression={stage.compression!r} is for strings and leaves of varying shape, and every leaf is "
            f"of a fixed shape, which is mapped as it is ({element.describe()}): leave it out"
        )


def _or_decode(spec: tf.TypeSpec) -> str:
    """The fix for what may be an encoded image."""
    is_text = isinstance(spec, tf.TensorSpec) and spec.dtype == tf.string
    return ", or put tfjax.image.Decode() before where it is an encoded image" if is_text else ""


def is_fixed(spec: tf.TypeSpec) -> bool:
    """Whether each row of a leaf takes the same number of bytes."""
    no_number = (tf.string, tf.variant, tf.resource)
    return isinstance(spec, tf.TensorSpec) and spec.shape.is_fully_defined() and spec.dtype not in no_number


def encoding(element: Element) -> tuple[Function, Function] | None:
    """Functions to rows that can be kept and back; None where they can be as they are."""
    plain = [is_fixed(s) or (s.dtype == tf.string and s.shape.rank == 0) for s in element.specs]
    if all(plain):
        return None

    def encode(example: Any) -> Any:
        leaves, _ = element.structure.flatten(example)
        pairs = zip(leaves, plain, strict=True)
        return element.structure.unflatten([x if kept else tf.io.serialize_tensor(x) for x, kept in pairs])

    def decode(example: Any) -> Any:
        leaves, _ = element.structure.flatten(example)
        parts = zip(leaves, element.specs, plain, strict=True)
        return element.structure.unflatten([x if kept else _parsed(x, s) for x, s, kept in parts])

    forth = trace(Map(fn=encode, name="encode for the cache"), element)
    back = trace(Map(fn=decode, name="decode from the cache"), forth.element)
    return forth, dataclasses.replace(back, element=element)


def _parsed(text: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
    return tf.ensure_shape(tf.io.parse_tensor(text, spec.dtype), spec.shape)


def row_bytes(element: Element) -> int:
    """Bytes of the leaves of a row that are of a fixed size."""
    fixed = [s for s in element.specs if is_fixed(s)]
    return size_bytes(dataclasses.replace(element, specs=tuple(fixed))) or 0
