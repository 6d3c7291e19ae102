"""Datasets inside of the elements of a dataset, as `window` and RLDS make them: refused, or flattened.

>>> windows = tf.data.Dataset.range(4).window(2)
>>> [int(x) for x in without_nested(windows, flatten_leaves=lambda tree: ([tree], Same()), nested="flatten")]
[0, 1, 2, 3]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from tfjax._tensorflow import tf
from tfjax.errors import SpecError
from tfjax.spec import Structure

Nested = Literal["refuse", "flatten"]
Flatten = Callable[[Any], tuple[Sequence[Any], Structure]]
_no_autograph = tf.autograph.experimental.do_not_convert


class Same:
    """The structure of an element that is its only leaf."""

    paths: tuple[str, ...] = ("the element",)
    keys: tuple[str | None, ...] = (None,)

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """The leaf."""
        return leaves[0]

    def flatten(self, tree: Any) -> tuple[list[Any], Structure]:
        """The element as one leaf."""
        return [tree], self


def without_nested(dataset: tf.data.Dataset, *, flatten_leaves: Flatten, nested: Nested) -> tf.data.Dataset:
    """The dataset where no leaf of an element is a Dataset.

    Args:
        dataset: any dataset.
        flatten_leaves: an element to its leaves and structure.
        nested: "refuse", or "flatten": an element becomes the elements of its Dataset leaf, which take that leaf's
            place; the other leaves are repeated for each.

    Raises:
        SpecError: a leaf is a Dataset and `nested` is "refuse", or two leaves of one element are.
        ValueError: `nested` is something else.
    """
    if nested not in ("refuse", "flatten"):
        raise ValueError(f"from_tf: nested={nested!r}: choose 'refuse' or 'flatten'")
    while True:
        specs, structure = flatten_leaves(dataset.element_spec)
        inner = [i for i, s in enumerate(specs) if isinstance(s, tf.data.DatasetSpec)]
        if not inner:
            return dataset
        paths = [structure.paths[i] for i in inner]
        if nested == "refuse":
            raise SpecError(
                f"from_tf: {paths[0]} is a Dataset inside of each element: say nested='flatten' for one element for "
                "each of its elements, or dataset.flat_map, or batch it with dataset.map(lambda e: ...)"
            )
        if len(inner) > 1:
            raise SpecError(
                f"from_tf(nested='flatten'): {' and '.join(paths)} are Datasets inside of each element, and only one "
                "is flattened: put them together first with dataset.map and tf.data.Dataset.zip"
            )
        dataset = _flattened(dataset, flatten_leaves, inner[0])


def _flattened(dataset: tf.data.Dataset, flatten_leaves: Flatten, at: int) -> tf.data.Dataset:
    def elements(*tree: Any) -> tf.data.Dataset:
        leaves, structure = flatten_leaves(tree[0] if len(tree) == 1 else tree)

        def one(*inner: Any) -> Any:
            value = inner[0] if len(inner) == 1 else inner
            return structure.unflatten([*leaves[:at], value, *leaves[at + 1 :]])

        return leaves[at].map(_no_autograph(one))

    return dataset.flat_map(_no_autograph(elements))
