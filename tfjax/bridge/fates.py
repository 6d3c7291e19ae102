"""What becomes of each leaf of an example, read from its spec: what `load` delivers, keeps on the host, or refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tfjax._tensorflow import tf
from tfjax.bridge.tensor import narrows
from tfjax.bridge.tree import flatten
from tfjax.graph.element import Element, describe_spec, size_bytes
from tfjax.graph.narrow import narrowed
from tfjax.spec import format_spec


@dataclass(frozen=True)
class Fate:
    """One leaf.

    Attributes:
        path: its key path.
        example: its spec in an example.
        batch: its spec in a batch, whose dimension 0 is written "batch"; None where `batch` refuses it.
        host: whether it can only be delivered on the host, after `keep_on_host`.
        refusal: why it is no jax.Array of a batch, with the fix; empty where it is one.
    """

    path: str
    example: str
    batch: str | None
    host: bool
    refusal: str


def fates(element: Element) -> list[Fate]:
    """What becomes of the leaves of an element, with JAX's settings as they are."""
    return [_fate(element, i, narrow=narrows()) for i in range(len(element.specs))]


def element_of(specs: Any) -> Element:
    """An element of a structure of specs.

    >>> fates(element_of({"x": tf.TensorSpec((None,), tf.int64)}))[0].example
    'int64[None]'
    """
    leaves, structure = flatten(specs)
    return Element(tuple(leaves), structure)


def example_bytes(element: Element) -> int | None:
    """Bytes of one decoded example; None where they differ."""
    return size_bytes(element)


def _fate(element: Element, leaf: int, *, narrow: bool) -> Fate:
    path, spec = element.structure.paths[leaf], element.specs[leaf]
    refusal = element.no_array(leaf) or element.no_rows(leaf)
    if refusal is not None:
        return Fate(path, describe_spec(spec), None, host=False, refusal=refusal)
    dtype = narrowed(element, leaf, narrow=narrow)
    batch = format_spec(("batch", *spec.shape), "bytes" if dtype == tf.string else dtype.name)
    host = element.no_device(leaf)
    return Fate(path, describe_spec(spec), batch, host=host is not None, refusal=host or "")
