"""Arrays in memory: row i of every leaf is example i; a batch is one gather a leaf."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfjax._memory import refuse_mask
from tfjax._tensorflow import tf
from tfjax.sources.base import Raw


class Arrays:
    """A source over arrays whose leading dimensions agree."""

    def __init__(self, arrays: Sequence[Any], paths: Sequence[str]) -> None:
        """Copy `arrays` into TensorFlow's memory, aligned.

        Args:
            arrays: numeric or string arrays of shape (examples, ...).
            paths: a key path for each, for messages.

        Raises:
            TypeError: a leaf is no array that TensorFlow has a dtype for.
            ValueError: there is no leaf, a leaf is a scalar, or the leading dimensions differ.
        """
        self._tensors = [_tensor(a, path) for a, path in zip(arrays, paths, strict=True)]
        lengths = {path: t.shape[0] for path, t in zip(paths, self._tensors, strict=True)}
        if len(set(lengths.values())) != 1:
            shown = ", ".join(f"{p}: {n}" for p, n in lengths.items()) or "no leaf at all"
            raise ValueError(f"from_arrays needs leaves of one length, one row an example; given {shown}")
        self._length = int(next(iter(lengths.values())))

    def __len__(self) -> int:
        """How many rows there are."""
        return self._length

    @property
    def spec(self) -> tuple[tf.TensorSpec, ...]:
        """One row of each leaf."""
        return tuple(tf.TensorSpec(t.shape[1:], t.dtype) for t in self._tensors)

    @property
    def identity(self) -> dict[str, Any]:
        """Shapes and dtypes: what the rows hold is seen by the probe of the state."""
        return {"leaves": [[t.dtype.name, list(t.shape)] for t in self._tensors]}

    def fetch(self, indices: tf.Tensor) -> Raw:
        """One gather a leaf."""
        return Raw([tf.gather(t, indices) for t in self._tensors])

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


def _tensor(array: Any, path: str) -> tf.Tensor:
    refuse_mask(array, f"from_arrays: {path}")
    value = np.asarray(array)
    if value.ndim == 0 and value.dtype == object:
        kind = type(array).__name__
        raise TypeError(
            f"from_arrays: {path} is a {kind}, no array and no registered pytree: pass arrays, e.g. in a dict"
        )
    if value.ndim == 0:
        raise ValueError(
            f"from_arrays: {path} is the scalar {array!r}: every leaf has one row an example; make a list np.array(...)"
        )
    if value.dtype == object and not all(isinstance(x, str | bytes) for x in value.flat):
        odd = next(x for x in value.flat if not isinstance(x, str | bytes))
        kind = type(odd).__name__
        raise TypeError(f"from_arrays: {path} holds a {kind}: pass numeric or string arrays, or use from_examples")
    try:
        return tf.constant(value)
    except (TypeError, ValueError, tf.errors.OpError) as error:
        raise TypeError(f"from_arrays: {path} has dtype {value.dtype}, which TensorFlow does not hold") from error
