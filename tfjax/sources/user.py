"""A user's own source of four members, made into what the graph asks of any source.

The user's `fetch` is traced once, with indices of unknown number. A `read` in NumPy is called while the graph runs,
through `tfjax.sources.python.fetch_rows`, and what it returns is held against the spec.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from tfjax._memory import native, refuse_mask
from tfjax._tensorflow import tf
from tfjax.errors import SpecError, TfjaxError
from tfjax.sources.base import Raw
from tfjax.sources.python import fetch_rows, register
from tfjax.spec import Structure, format_like

_INDICES = tf.TensorSpec((None,), tf.int64)
_MEMBERS = {
    "__len__": "how many examples there are",
    "spec": "a pytree of tf.TensorSpec or jax.ShapeDtypeStruct, one example",
    "identity": "a dict of names, sizes and counts that tells this source from another",
}


class UserSource:
    """A `tfjax.sources.base.Source` over an object with `__len__`, `spec`, `identity`, and `fetch` or `read`."""

    def __init__(self, source: Any, specs: Sequence[tf.TensorSpec], structure: Structure, *, name: str) -> None:
        """Check the members and trace `fetch`.

        Args:
            source: `fetch(indices)` takes int64 (n,) in the graph and returns a pytree like `spec` of tensors (n, ...);
                `read(indices)`, asked where there is no `fetch`, the same in NumPy. Either may return a `Raw` of it,
                whose `ok` says which examples could be read. `describe`, `locate`, `stamp` and `check` of
                `tfjax.sources.base.Source` are used where they are there.
            specs: its spec, flat.
            structure: of its spec.
            name: for messages.

        Raises:
            SpecError: a dimension is not known, or `fetch` does not return what `spec` says.
            TypeError, ValueError: the identity is not of JSON, or holds an absolute path.
            TfjaxError: `fetch` raised.
        """
        self._source, self._structure, self._name = source, structure, name
        self.spec = tuple(specs)
        for spec, path in zip(self.spec, structure.paths, strict=True):
            if not spec.shape.is_fully_defined():
                raise SpecError(
                    f"{name}.spec: {path} is {format_like(spec)}: the examples of a source have one shape, so pad "
                    "them, or encode them as strings and decode in map"
                )
        self._length = len(source)
        self.identity = {**_identity(source, name), "examples": self._length}
        self._traced = self._trace() if _has(source, "fetch") else None
        self._handle = register(self)

    @property
    def graph(self) -> Any:
        """What `fetch` was traced to; None where rows are read in NumPy."""
        return None if self._traced is None else self._traced.graph

    def __len__(self) -> int:
        """How many examples there were when the source was opened."""
        return self._length

    def fetch(self, indices: tf.Tensor) -> Raw:
        """The user's rows; eagerly, as where a failure is looked into, an error of `read` keeps its type."""
        count = len(self.spec)
        if self._traced is not None:
            out = self._call(self._traced, indices) if tf.executing_eagerly() else self._traced(indices)
            leaves, ok = out[:count], next(iter(out[count:]), None)
        elif tf.executing_eagerly():
            *leaves, ok = (tf.convert_to_tensor(row) for row in self._read(indices.numpy()))
        else:
            *leaves, ok = fetch_rows(self._handle, indices, [s.dtype for s in self.spec])
        for leaf, spec, path in zip(leaves, self.spec, self._structure.paths, strict=True):
            try:
                leaf.set_shape((*indices.shape, *spec.shape))  # checked where it was fetched
            except ValueError as error:
                raise SpecError(
                    f"{self._name}.fetch: {path} has another number of rows than there are indices, {leaf.shape[0]} "
                    f"for {indices.shape[0]}: return one row for each index"
                ) from error
        return Raw(leaves, ok)

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """Rows of the user's `read`, then which are good; called by `fetch_rows`.

        Where a batch cannot be read, its rows are read one by one, and those that fail are told apart as not good:
        what is wrong with them is found out eagerly, by whoever asks.
        """
        try:
            return self._read(indices)
        except TfjaxError:
            parts = [self._one_or_none(indices[k : k + 1]) for k in range(len(indices))]
            return tuple(np.concatenate(column) for column in zip(*(parts or [self._nothing(0)]), strict=True))

    def _one_or_none(self, index: np.ndarray) -> tuple[np.ndarray, ...]:
        try:
            return self._read(index)
        except TfjaxError:
            return self._nothing(1)

    def _nothing(self, count: int) -> tuple[np.ndarray, ...]:
        def empty(spec: tf.TensorSpec) -> np.ndarray:
            filler, dtype = (b"", object) if spec.dtype == tf.string else (0, spec.dtype.as_numpy_dtype)
            return np.full((count, *spec.shape), filler, dtype)

        return (*map(empty, self.spec), np.zeros(count, bool))

    def _read(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """The same, or what the user's `read` raised, or how what it returned differs from the spec."""
        tree, ok = _taken_apart(self._call(self._source.read, indices))
        leaves = self._flat(tree, "read")
        rows = [self._row(*item, len(indices)) for item in zip(leaves, self.spec, self._structure.paths, strict=True)]
        return (*rows, np.ones(len(indices), bool) if ok is None else np.asarray(ok, bool).reshape(len(indices)))

    def _call(self, function: Any, indices: Any) -> Any:
        """Call what is the user's; TensorFlow would take a StopIteration for the end of the dataset."""
        try:
            return function(indices)
        except TfjaxError:
            raise
        except Exception as error:
            given = error.message if isinstance(error, tf.errors.OpError) else f"{type(error).__name__}: {error}"
            raise TfjaxError(f"{self._name} raised {given}") from error

    def _flat(self, tree: Any, method: str) -> list[Any]:
        whole = isinstance(tree, list) and len(self.spec) > 1
        leaves, found = self._structure.flatten(tuple(tree) if whole else tree)
        if found.paths != self._structure.paths:
            raise SpecError(
                f"{self._name}.{method} returns the leaves {_list(found.paths)}, its spec has "
                f"{_list(self._structure.paths)}: return the structure of spec"
            )
        return leaves

    def _row(self, leaf: Any, spec: tf.TensorSpec, path: str, count: int) -> np.ndarray:
        try:
            refuse_mask(leaf, f"{self._name}.read: {path}")
        except TypeError as error:
            raise SpecError(str(error)) from error
        rows = native(np.asarray(leaf))
        rows = rows.astype(object) if rows.dtype.kind in "SU" else rows
        wanted = np.dtype(object) if spec.dtype == tf.string else np.dtype(spec.dtype.as_numpy_dtype)
        if rows.dtype != wanted or rows.shape != (count, *spec.shape):
            raise self._differs("read", path, format_like(rows), spec, str(count))
        return rows

    def _differs(self, method: str, path: str, given: str, spec: tf.TensorSpec, count: str) -> SpecError:
        wanted = format_like(spec, count)
        return SpecError(f"{self._name}.{method}: {path} is {given} for {count} indices, and by its spec {wanted}")

    def _trace(self) -> Any:
        autograph = tf.__internal__.autograph
        fetch = autograph.tf_convert(self._source.fetch, autograph.control_status_ctx())

        def flat(indices: tf.Tensor) -> list[tf.Tensor]:
            tree, ok = _taken_apart(fetch(indices))
            leaves = self._flat(tree, "fetch")
            rows = [self._tensor(*item, indices) for item in zip(leaves, self.spec, self._structure.paths, strict=True)]
            return rows if ok is None else [*rows, tf.ensure_shape(tf.cast(ok, tf.bool), indices.shape)]

        try:
            return tf.function(flat, autograph=False).get_concrete_function(_INDICES)
        except SpecError:
            raise
        except Exception as error:
            raise TfjaxError(
                f"{self._name}.fetch raised {type(error).__name__} as it was traced: {error}. It is called in the "
                "graph, with a symbolic int64 tensor (n,): use TensorFlow ops, or define read(indices) in NumPy "
                "instead of fetch"
            ) from error

    def _tensor(self, leaf: Any, spec: tf.TensorSpec, path: str, indices: tf.Tensor) -> tf.Tensor:
        if isinstance(leaf, tf.RaggedTensor | tf.SparseTensor):
            raise self._differs("fetch", path, type(leaf).__name__, spec, "n")
        rows = tf.convert_to_tensor(leaf)
        # Of so many rows whatever is asked for, or of another shape or dtype.
        fixed = bool(rows.shape.rank) and rows.shape[0] is not None
        if fixed or rows.dtype != spec.dtype or not rows.shape.is_compatible_with((None, *spec.shape)):
            raise self._differs("fetch", path, format_like(rows), spec, "n")
        given = [f"{self._name}.fetch: {path} has another number of rows than there are indices"]
        same = tf.debugging.Assert(tf.equal(tf.shape(rows)[0], tf.size(indices)), given)
        with tf.control_dependencies([same]):
            return tf.ensure_shape(rows, (None, *spec.shape))

    def describe(self) -> str:
        """The user's own words, or which method is called."""
        how = "fetch in the graph" if self._traced is not None else "read, one Python call a batch"
        return str(self._optional("describe", f"{self._name}.{how}"))

    def locate(self, index: int) -> str:
        """The user's own words, or nothing."""
        return str(self._optional("locate", "", index))

    def stamp(self) -> str | None:
        """The user's own stamp; None where there is none, and nothing is kept on disk for the source."""
        stamp = self._optional("stamp", None)
        return None if stamp is None else str(stamp)

    def check(self) -> None:
        """The user's own check."""
        self._optional("check", None)

    def _optional(self, method: str, default: Any, *arguments: Any) -> Any:
        return getattr(self._source, method)(*arguments) if _has(self._source, method) else default


def require_members(source: Any) -> None:
    """Raise TypeError where an object lacks a member of a source, or has one of another kind.

    >>> require_members([1, 2])
    Traceback (most recent call last):
    TypeError: from_source: list has no `spec` (a pytree of tf.TensorSpec or jax.ShapeDtypeStruct, one example)
    """
    if isinstance(source, type):
        raise TypeError(f"from_source takes an object, given the class {source.__name__}: pass {source.__name__}(...)")
    name = type(source).__name__
    for member, meaning in _MEMBERS.items():
        if not _has(source, member):
            raise TypeError(f"from_source: {name} has no `{member}` ({meaning})")
    if not any(_has(source, method) and callable(getattr(source, method)) for method in ("fetch", "read")):
        raise TypeError(
            f"from_source: {name} has no method `fetch` (int64 indices (n,) in the graph to a pytree like spec of "
            "tensors (n, ...)), and none named `read`, which does the same in NumPy"
        )
    for member in ("spec", "identity"):
        if callable(getattr(source, member)):
            raise TypeError(f"from_source: {name}.{member} is a method: make it an attribute or a property")
    if not len(source):
        raise ValueError(f"from_source: {name} has a length of 0: a source holds at least one example")


def _has(source: Any, member: str) -> bool:
    """Whether a member is there, without running a property that may fail for a reason of its own."""
    try:
        inspect.getattr_static(source, member)
    except AttributeError:
        return hasattr(source, member)
    return True


def _identity(source: Any, name: str) -> dict[str, Any]:
    given = source.identity
    if not isinstance(given, Mapping) or not given:
        raise TypeError(f"{name}.identity is {given!r}: give a dict of names, sizes and counts, at least one")
    try:
        kept: dict[str, Any] = json.loads(json.dumps(dict(given), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}.identity is {given!r}, which is not of JSON types ({error})") from error
    if kept != dict(given):
        raise TypeError(f"{name}.identity is {given!r}, which JSON reads back as {kept!r}: use lists and text keys")
    for text in _texts(kept):
        if PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute() or text.startswith("file:"):
            raise ValueError(
                f"{name}.identity holds the absolute path {text!r}: a state is to resume where the data lies "
                "elsewhere, so name the file without its folder"
            )
    return kept


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for item in inner for text in _texts(item)]


def _taken_apart(out: Any) -> tuple[Any, Any]:
    """The rows, and which of them could be read where that is said."""
    if not isinstance(out, Raw):
        return out, None
    return tuple(out.leaves) if isinstance(out.leaves, list) else out.leaves, out.ok


def _list(paths: Sequence[str]) -> str:
    return ", ".join(paths) or "none"
