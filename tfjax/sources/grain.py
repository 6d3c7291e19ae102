"""Elements of Grain's datasets, all of one spec, which is that of the first: by index, or one after the other."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tfjax._memory import frozen
from tfjax._tensorflow import tf
from tfjax.errors import SpecError
from tfjax.sources.examples import as_array
from tfjax.sources.stream import is_batched, refuse_scalars
from tfjax.spec import Structure, format_like

_DIGESTED = 8
Flatten = Callable[[Any], tuple[list[Any], Structure]]
_SPARSE = "a MapDataset with filter yields None in its place: filter with tfjax's .filter(...) after from_grain"


def import_grain() -> Any:
    """The grain module; ImportError names the extra where it is missing."""
    try:
        import grain
    except ImportError as error:
        raise ImportError(
            f"from_grain needs Grain, which could not be imported ({error}): pip install 'tfjax[grain]'"
        ) from error
    return grain


class MapRows:
    """What `tfjax.sources.user.UserSource` asks of a source, over a MapDataset: flat leaves, read in Python."""

    def __init__(self, dataset: Any, flatten: Flatten) -> None:
        """Read element 0, and up to seven more, evenly spread, that tell the dataset from another.

        Args:
            dataset: a `grain.MapDataset` of finite length.
            flatten: a pytree to its leaves and structure.

        Raises:
            SpecError: an element has no leaf.
            TypeError: a leaf of element 0 is no string, number or array.
            ValueError: the dataset is empty, has no end, or has a filter.
        """
        self._dataset, self._flatten = dataset, flatten
        self.kinds = list(_kinds(dataset))
        if len(dataset) == sys.maxsize:
            raise ValueError(
                "from_grain: the dataset repeats for ever: leave .repeat() out, and use iterate(epochs=...)"
            )
        if "FilterMapDataset" in self.kinds:
            raise ValueError(f"from_grain: {_SPARSE}")
        if not len(dataset):
            raise ValueError("from_grain: the dataset is empty")
        self._first, self.structure = self._arrays(0)
        if not self._first:
            raise SpecError(f"from_grain: element 0 is {dataset[0]!r}, which has no leaf")
        self.spec = tuple(tf.TensorSpec(a.shape, _dtype(a, p)) for a, p in zip(self._first, self._paths, strict=True))
        self._digest = self._digested(_spread(len(dataset)))

    def __len__(self) -> int:
        """How many elements there are."""
        return len(self._dataset)

    @property
    def _paths(self) -> tuple[str, ...]:
        return self.structure.paths

    @property
    def identity(self) -> dict[str, Any]:
        """The transformations by name, and a digest of some elements: another seed is another source."""
        return {"grain": self.kinds, "elements": self._digest}

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """The leaves of the elements at `indices`, stacked one by one: an element may reuse the memory of the last."""
        out = tuple(np.empty((len(indices), *first.shape), first.dtype) for first in self._first)
        for row, index in enumerate(indices.tolist()):
            for stacked, leaf in zip(out, self._checked(index), strict=True):
                stacked[row, ...] = leaf  # also where both are of objects
        return tuple(map(frozen, out))

    def describe(self) -> str:
        """How elements are read."""
        return f"a Grain {self.kinds[0]}, one Python call a batch"

    def _arrays(self, index: int) -> tuple[list[np.ndarray], Structure]:
        element = self._dataset[index]
        if element is None:
            raise ValueError(f"from_grain: element {index} is None: {_SPARSE}")
        leaves, structure = self._flatten(element)
        return [as_array(leaf) for leaf in leaves], structure

    def _digested(self, indices: Sequence[int]) -> str:
        """A digest of elements, equal in every process; one that cannot be read is said where it is delivered."""
        found = hashlib.sha256()
        for index in indices:
            try:
                arrays, structure = self._arrays(index)
            except Exception as error:  # noqa: BLE001 - the user's code
                found.update(f"{index} {type(error).__name__}\n".encode())
                continue
            for array, path in zip(arrays, structure.paths, strict=True):
                found.update(f"{index} {path} {format_like(array)}\n".encode())
                found.update(array.tobytes() if array.dtype != object else repr(array.tolist()).encode())
        return found.hexdigest()[:16]

    def _checked(self, index: int) -> list[np.ndarray]:
        arrays, structure = self._arrays(index)
        if structure.paths != self._paths:
            raise SpecError(
                f"from_grain: element {index} has the leaves {', '.join(structure.paths)}, element 0 has "
                f"{', '.join(self._paths)}: every element has one structure"
            )
        for array, first, path in zip(arrays, self._first, self._paths, strict=True):
            if (array.shape, array.dtype) != (first.shape, first.dtype):
                raise SpecError(
                    f"from_grain: {path} is {format_like(array)} in element {index}, {format_like(first)} in element "
                    "0: crop or pad it in dataset.map(...), or hold the elements with tfjax.from_examples, which takes "
                    "varying shapes"
                )
        return arrays


def elements(dataset: Any) -> Iterator[Any]:
    """The elements of an IterDataset or DataLoader; what iterates over it is closed with this generator."""
    iterator = iter(dataset)
    try:
        yield from iterator
    finally:
        close = getattr(iterator, "close", None)  # a DataLoader's has none
        if close is not None:
            close()


def stream_specs(leaves: Sequence[Any], paths: Sequence[str], batched: bool | None) -> tuple[list[tf.TensorSpec], bool]:
    """The specs that every element has, by the leaves of the first, and whether elements are batches.

    >>> stream_specs([np.zeros((4, 2), np.float32), np.arange(4)], ["x", "y"], None)[0][0]
    TensorSpec(shape=(None, 2), dtype=tf.float32, name=None)
    """
    if not leaves:
        raise SpecError("from_grain: the first element has no leaf")
    arrays = [as_array(leaf) for leaf in leaves]
    shapes = [a.shape for a in arrays]
    if batched is None:
        batched = is_batched(shapes, paths, "from_grain")
    if batched:
        refuse_scalars(shapes, paths, "from_grain")
    specs = [tf.TensorSpec(a.shape, _dtype(a, p)) for a, p in zip(arrays, paths, strict=True)]
    return [tf.TensorSpec((None, *s.shape[1:]), s.dtype) for s in specs] if batched else specs, batched


def _spread(count: int) -> list[int]:
    """The first index, the last, and six between them.

    >>> _spread(3), _spread(100)
    ([0, 1, 2], [0, 14, 28, 42, 56, 70, 84, 99])
    """
    return sorted({k * (count - 1) // (_DIGESTED - 1) for k in range(_DIGESTED)})


def _kinds(dataset: Any) -> Iterator[str]:
    yield type(dataset).__name__
    for parent in dataset.parents:
        yield from _kinds(parent)


def _dtype(array: np.ndarray, path: str) -> tf.DType:
    if array.dtype != object:
        return tf.as_dtype(array.dtype)
    odd = next((x for x in array.flat if not isinstance(x, str | bytes)), None)
    if odd is not None:
        raise TypeError(f"from_grain: {path} of element 0 is a {type(odd).__name__}: yield strings, numbers or arrays")
    return tf.string
