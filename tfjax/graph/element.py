"""The element that flows between two stages: flat specs, the user's structure, and which keys stay on the host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tfjax._tensorflow import tf
from tfjax.errors import SpecError
from tfjax.spec import Structure, format_keys, format_like

NARROW = {tf.int64: tf.int32, tf.uint64: tf.uint32, tf.float64: tf.float32, tf.complex128: tf.complex64}
NUMERIC = frozenset(
    {tf.bool, tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64}
    | {tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.complex64, tf.complex128}
)
# What makes an array of a leaf that is none, inside map.
_DENSE = {
    tf.RaggedTensorSpec: "x.to_tensor(shape=...), which is padded and cut to that shape,",
    tf.SparseTensorSpec: "tf.sparse.to_dense(x)",
    tf.data.DatasetSpec: "x.take(n).batch(n, drop_remainder=True).get_single_element(), which is its first n elements,",
}
_FIXED = "cut or pad it in map, or say its shape there with tf.ensure_shape"
_FIXED_IMAGE = "add Resize or a crop of tfjax.image, or say its shape in map with tf.ensure_shape"


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
        self._require(lambda i: self.no_array(i, any_dtype=True) or self.no_rows(i))

    def require_arrays(self) -> None:
        """Raise SpecError where a leaf is no array: ragged, sparse, a dataset, or of a dtype without a way to JAX."""
        self._require(self.no_array)

    def require_deliverable(self) -> None:
        """Raise SpecError where a leaf can be neither a jax.Array nor kept on the host as asked."""
        self.require_arrays()
        self._require(self.no_device)

    def _require(self, refusal: Callable[[int], str | None]) -> None:
        message = next(filter(None, map(refusal, range(len(self.specs)))), None)
        if message:
            raise SpecError(message)

    def no_array(self, leaf: int, *, any_dtype: bool = False) -> str | None:
        """Why a leaf is no array, with the fix; None where it is one."""
        path, spec = self.structure.paths[leaf], self.specs[leaf]
        if not isinstance(spec, tf.TensorSpec):
            dense = next((how for kind, how in _DENSE.items() if isinstance(spec, kind)), "what is a tensor")
            return f"{path} is a {describe_spec(spec)}, which is no array: return {dense} from map{self._or_drop(leaf)}"
        if any_dtype or spec.dtype in NUMERIC or spec.dtype == tf.string:
            return None
        return f"{path} is {spec.dtype.name}, which has no way to JAX: cast it in map{self._or_drop(leaf)}"

    def no_rows(self, leaf: int) -> str | None:
        """Why an array cannot be a row of a batch, with the fix; None where it can."""
        path, shape = self.structure.paths[leaf], self.specs[leaf].shape
        if shape.is_fully_defined():
            return None
        shown = tuple(shape) if shape.rank is not None else "of unknown rank"
        fix = _FIXED_IMAGE if shape.rank == 3 else _FIXED
        return f"{path} is {shown}, and batch needs a static shape: {fix}{self._or_drop(leaf)}"

    def no_device(self, leaf: int) -> str | None:
        """Why an array cannot be a jax.Array, with the fix; None where it can, or is kept on the host."""
        if self.specs[leaf].dtype != tf.string or self.on_host(leaf):
            return None
        path, key = self.structure.paths[leaf], self.structure.keys[leaf]
        fix = "encode it in map" if key is None else f"use drop({key!r}) or keep_on_host({key!r})"
        return (
            f"{path} is a string, which JAX has no dtype for: {fix}, encode it as integers, or put "
            "tfjax.image.Decode() before where it is an encoded image"
        )

    def _or_drop(self, leaf: int) -> str:
        key = self.structure.keys[leaf]
        return "" if key is None else f", or use drop({key!r})"


def describe_spec(spec: tf.TypeSpec) -> str:
    """A spec in one word, e.g. `uint8[28,28,1]`."""
    if isinstance(spec, tf.TensorSpec | tf.RaggedTensorSpec | tf.SparseTensorSpec):
        name = "" if isinstance(spec, tf.TensorSpec) else type(spec).__name__.removesuffix("TensorSpec").lower() + " "
        return name + format_like(spec)
    if isinstance(spec, tf.data.DatasetSpec):
        return f"dataset of {', '.join(describe_spec(s) for s in tf.nest.flatten(spec.element_spec))}"
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
