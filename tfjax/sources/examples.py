"""A Python sequence of examples, held as one array of values a leaf, plus offsets where lengths vary."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfjax._memory import refuse_mask
from tfjax._tensorflow import tf
from tfjax.sources.arrays import digest_of
from tfjax.sources.base import Raw


class Examples:
    """A source over flat examples; a leaf of varying shape is held as values, offsets and shapes.

    Such a leaf is two raw leaves, its flat values and its shape; `restore` puts the two together.
    """

    def __init__(self, columns: Sequence[Sequence[Any]], paths: Sequence[str]) -> None:
        """Hold the examples.

        Args:
            columns: for each leaf, its value in every example: strings, numbers or arrays.
            paths: a key path for each, for messages.

        Raises:
            TypeError: a value is no string, number or array, or its dtype differs from example to example.
            ValueError: the rank of a leaf differs from example to example.
        """
        self._columns = [_column(values, path) for values, path in zip(columns, paths, strict=True)]
        self._length = len(columns[0])

    def __len__(self) -> int:
        """How many examples there are."""
        return self._length

    @property
    def spec(self) -> tuple[tf.TypeSpec, ...]:
        """The raw leaves of one example."""
        return tuple(itertools.chain.from_iterable(c.spec for c in self._columns))

    @property
    def identity(self) -> dict[str, Any]:
        """Count, dtypes and numbers of values."""
        return {"examples": self._length, "leaves": [c.identity for c in self._columns]}

    def digest(self) -> str:
        """A digest of all values."""
        return digest_of(itertools.chain.from_iterable(c.tensors for c in self._columns))

    @property
    def is_fixed(self) -> bool:
        """Whether the raw leaves are the example's leaves already."""
        return all(isinstance(c, _Fixed) for c in self._columns)

    def fetch(self, indices: tf.Tensor) -> Raw:
        """One gather a raw leaf."""
        leaves = list(itertools.chain.from_iterable(c.fetch(indices) for c in self._columns))
        return Raw(leaves)

    def restore(self, raw: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The leaves of one example from its raw leaves, inside the graph."""
        left = iter(raw)
        return [c.restore([next(left) for _ in c.spec]) for c in self._columns]

    def describe(self) -> str:
        """How rows are fetched."""
        return "one gather a leaf, from memory"

    def locate(self, index: int) -> str:  # noqa: ARG002
        """Nothing to add to the index."""
        return ""

    def stamp(self) -> None:
        """Memory is not told apart without reading all of it."""

    def check(self) -> None:
        """Memory does not change by itself."""


class _Fixed:
    """A leaf of one shape."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = tf.constant(values)
        self.spec: tuple[tf.TypeSpec, ...] = (tf.TensorSpec(self._values.shape[1:], self._values.dtype),)
        self.identity = [self._values.dtype.name, list(self._values.shape)]
        self.tensors = [self._values]

    def fetch(self, indices: tf.Tensor) -> list[tf.Tensor]:
        return [tf.gather(self._values, indices)]

    def restore(self, raw: Sequence[tf.Tensor]) -> tf.Tensor:
        return raw[0]


class _Varying:
    """A leaf of one rank and dtype whose shape varies."""

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        shapes = np.array([a.shape for a in arrays], np.int64)
        values = np.concatenate([a.reshape(-1) for a in arrays])
        splits = np.concatenate([[0], np.cumsum(shapes.prod(axis=1))])
        self._rows = tf.RaggedTensor.from_row_splits(values, splits, validate=False)
        self._shapes = tf.constant(shapes)
        known = [int(n) if (shapes[:, d] == n).all() else None for d, n in enumerate(shapes[0])]
        self._shape = tf.TensorShape(known)
        flat = tf.TensorSpec((None,), self._rows.dtype)
        self.spec: tuple[tf.TypeSpec, ...] = (flat, tf.TensorSpec((shapes.shape[1],), tf.int64))
        self.identity = [self._rows.dtype.name, known, int(splits[-1])]
        self.tensors = [self._rows.flat_values, self._shapes]

    def fetch(self, indices: tf.Tensor) -> list[Any]:
        return [tf.gather(self._rows, indices), tf.gather(self._shapes, indices)]

    def restore(self, raw: Sequence[tf.Tensor]) -> tf.Tensor:
        return tf.ensure_shape(tf.reshape(raw[0], raw[1]), self._shape)


def _column(values: Sequence[Any], path: str) -> _Fixed | _Varying:
    arrays = [as_array(v) for v in values]
    for kind, what in ((TypeError, "dtype"), (ValueError, "ndim")):
        _require_same(arrays, path, what, kind)
    if arrays[0].dtype == object:
        odd = next(((i, x) for i, a in enumerate(arrays) for x in a.flat if not isinstance(x, str | bytes)), None)
        if odd is not None:
            given = type(odd[1]).__name__
            raise TypeError(f"from_examples: {path} of example {odd[0]} is a {given}: pass strings, numbers or arrays")
    same = all(a.shape == arrays[0].shape for a in arrays)
    return _Fixed(np.stack(arrays)) if same else _Varying(arrays)


def as_array(value: Any) -> np.ndarray:
    """An array; strings are kept as objects, because NumPy's own byte strings lose zeros at their end."""
    refuse_mask(value, "a leaf")
    if isinstance(value, str | bytes):
        return np.array(value, object)
    array = np.asarray(value)
    return array.astype(object) if array.dtype.kind in "US" else array


def _require_same(arrays: Sequence[np.ndarray], path: str, what: str, error: type[Exception]) -> None:
    first = getattr(arrays[0], what)
    odd = next((i for i, a in enumerate(arrays) if getattr(a, what) != first), None)
    if odd is not None:
        given = getattr(arrays[odd], what)
        rule = f"every example has one {what} a leaf"
        raise error(f"from_examples: {path} has {what} {given} in example {odd}, {first} in example 0: {rule}")
