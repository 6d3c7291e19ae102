"""The element that flows between two stages: flat specs, the user's structure, and which keys stay on the host."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tfjax._tensorflow import tf
from tfjax.errors import SpecError
from tfjax.spec import Structure, format_keys, format_spec

NARROW = {tf.int64: tf.int32, tf.uint64: tf.uint32, tf.float64: tf.float32, tf.complex128: tf.complex64}
NUMERIC = frozenset(
    {tf.bool, tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64}
    | {tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.complex64, tf.complex128}
)
_DENSE = "make it dense in map, e.g. with .to_tensor() or tf.sparse.to_dense, or drop it"
_FIX = "add Resize, sequence.Pad, bucket or tf.ensure_shape"


@dataclass(frozen=True, eq=False)
class Element:
    """One example, without a batch dimension."""

    specs: tuple[tf.TypeSpec, ...]
    structure: Structure
    host_keys: frozenset[str] = frozenset()

    def leaves(self) -> zip[tuple[str, tf.TypeSpec]]:
        """Pairs of key path and spec."""
        return zip(self.structure.paths, self.specs, strict=True)

    def on_host(self, leaf: int) -> bool:
        """Whether a leaf is delivered as a NumPy array."""
        return self.structure.keys[leaf] in self.host_keys

    def describe(self) -> str:
        """Every leaf with its shape and dtype, in one line."""
        return ", ".join(f"{path}: {describe_spec(spec)}" for path, spec in self.leaves()) or "nothing"

    def keep_on_host(self, keys: tuple[str, ...]) -> Element:
        """The same element with these keys kept on the host."""
        self.require_keys("keep_on_host", keys)
        return replace(self, host_keys=self.host_keys | set(keys))

    def require_keys(self, stage: str, keys: tuple[str, ...]) -> None:
        """Raise KeyError where the element has no such top-level key, TypeError where it has none at all."""
        if not any(self.structure.keys):
            raise TypeError(
                f"{stage} takes the keys of a dict, but elements are ({self.describe()}): return a dict from map"
            )
        missing = [k for k in keys if k not in self.structure.keys]
        if missing:
            raise KeyError(f"{stage}: no key {missing[0]!r}; the keys are {format_keys(self.structure.keys)}")

    def require_static(self) -> None:
        """Raise SpecError where a leaf cannot be stacked into a batch."""
        for path, spec in self.leaves():
            _require_tensor(path, spec)
            if not spec.shape.is_fully_defined():
                shape = tuple(spec.shape) if spec.shape.rank is not None else "of unknown rank"
                raise SpecError(f"{path} is {shape}, and batch needs a static shape: {_FIX}")

    def require_arrays(self) -> None:
        """Raise SpecError where a leaf is no array: ragged, sparse, a dataset, or of a dtype without a way to JAX."""
        for path, spec in self.leaves():
            _require_tensor(path, spec)
            if spec.dtype not in NUMERIC and spec.dtype != tf.string:
                raise SpecError(f"{path} is {spec.dtype.name}, which has no way to JAX: cast or drop it in map")

    def require_deliverable(self) -> None:
        """Raise SpecError where a leaf can be neither a jax.Array nor kept on the host as asked."""
        self.require_arrays()
        for i, (path, spec) in enumerate(self.leaves()):
            if spec.dtype == tf.string and not self.on_host(i):
                key = self.structure.keys[i]
                fix = "encode it in map" if key is None else f"use drop({key!r}) or keep_on_host({key!r})"
                raise SpecError(f"{path} is a string, which JAX has no dtype for: {fix}, or encode it as integers")


def _require_tensor(path: str, spec: tf.TypeSpec) -> None:
    if not isinstance(spec, tf.TensorSpec):
        raise SpecError(f"{path} is a {type(spec).__name__.removesuffix('Spec')}, which is no array: {_DENSE}")


def describe_spec(spec: tf.TypeSpec) -> str:
    """A spec in one word, e.g. `uint8[28,28,1]`."""
    if isinstance(spec, tf.TensorSpec | tf.RaggedTensorSpec | tf.SparseTensorSpec):
        name = "" if isinstance(spec, tf.TensorSpec) else type(spec).__name__.removesuffix("TensorSpec").lower() + " "
        return name + format_spec(None if spec.shape.rank is None else tuple(spec.shape), spec.dtype.name)
    return type(spec).__name__


def size_bytes(element: Element) -> int | None:
    """Bytes of one example; None where a leaf has no fixed size."""
    total = 0
    for spec in element.specs:
        if not isinstance(spec, tf.TensorSpec) or spec.dtype.size == 0 or not spec.shape.is_fully_defined():
            return None
        if spec.dtype in (tf.string, tf.variant, tf.resource):
            return None
        total += spec.dtype.size * spec.shape.num_elements()
    return total
