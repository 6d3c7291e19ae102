"""Arrays in memory: row i of every leaf is example i; a batch is one gather a leaf."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tfjax._memory import refuse_mask
from tfjax._tensorflow import tf
from tfjax.sources.base import Raw


class Arrays:
    """A source over arrays whose leading dimensions agree."""

    def __init__(self, arrays: Sequence[Any], paths: Sequence[str], who: str = "from_arrays") -> None:
        """Copy `arrays` into TensorFlow's memory, aligned.

        Args:
            arrays: numeric or string arrays of shape (examples, ...).
            paths: a key path for each, for messages.
            who: the function that was given them, for messages.

        Raises:
            TypeError: a leaf is no array that TensorFlow has a dtype for.
            ValueError: there is no leaf, a leaf is a scalar, or the leading dimensions differ.
        """
        self._tensors = [_tensor(a, f"{who}: {path}") for a, path in zip(arrays, paths, strict=True)]
        lengths = {path: t.shape[0] for path, t in zip(paths, self._tensors, strict=True)}
        if len(set(lengths.values())) != 1:
            shown = ", ".join(f"{p}: {n}" for p, n in lengths.items()) or "no leaf at all"
            raise ValueError(f"{who} needs leaves of one length, one row an example; given {shown}")
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

    def digest(self) -> str:
        """A digest of all values."""
        return digest_of(self._tensors)

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


def digest_of(tensors: Iterable[tf.Tensor]) -> str:
    """A digest of all values of some tensors."""
    made = hashlib.sha256()
    for values in (t.numpy() for t in tensors):
        if values.dtype != object:
            made.update(values.tobytes())
            continue
        for text in values.flat:
            made.update(len(text).to_bytes(8, "little"))
            made.update(text)
    return made.hexdigest()


def _tensor(array: Any, what: str) -> tf.Tensor:
    refuse_mask(array, what)
    value = np.asarray(array)
    if value.ndim == 0 and value.dtype == object:
        kind = type(array).__name__
        raise TypeError(f"{what} is a {kind}, no array and no registered pytree: pass arrays, e.g. in a dict")
    if value.ndim == 0:
        raise ValueError(
            f"{what} is the scalar {array!r}: every leaf has one row an example; make a list np.array(...)"
        )
    if value.dtype == object and not all(isinstance(x, str | bytes) for x in value.flat):
        gap = next((n for n, x in enumerate(value.flat) if x is None), None)
        if gap is not None:
            raise TypeError(
                f"{what} holds None in row {gap * len(value) // value.size}: fill it, or leave that row out"
            )
        odd = next(x for x in value.flat if not isinstance(x, str | bytes))
        kind = type(odd).__name__
        raise TypeError(f"{what} holds a {kind}: pass numeric or string arrays, or use from_examples")
    try:
        return tf.constant(value)
    except (TypeError, ValueError, tf.errors.OpError) as error:
        raise TypeError(f"{what} has dtype {value.dtype}, which TensorFlow does not hold") from error
