"""A tf.data.Dataset that exists already: it can only be streamed, from its beginning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfjax._tensorflow import tf
from tfjax.errors import SpecError


class Foreign:
    """A dataset, its flat specs, and whether its elements are batches."""

    def __init__(
        self, dataset: tf.data.Dataset, specs: Sequence[Any], paths: Sequence[str], *, batched: bool | None
    ) -> None:
        """Hold a dataset.

        Args:
            dataset: any tf.data.Dataset.
            specs: its flat element specs.
            paths: a key path for each.
            batched: whether elements are batches; None: read it off the leading dimensions.

        Raises:
            ValueError: the leading dimensions do not tell.
        """
        if batched is not None and not isinstance(batched, bool):
            raise TypeError(f"from_tf: batched is {batched!r}: pass True, False or None")
        self.dataset = dataset
        # tf.nest and JAX order some dictionaries differently.
        self.is_flat_alike = [id(s) for s in tf.nest.flatten(dataset.element_spec)] == [id(s) for s in specs]
        self.batched = _is_batched(specs, paths) if batched is None else batched
        if self.batched:
            specs = [_row(spec, path) for spec, path in zip(specs, paths, strict=True)]
        self.spec = tuple(specs)

    @property
    def is_endless(self) -> bool:
        """Whether the graph says that it never ends."""
        return bool(self.dataset.cardinality() == tf.data.INFINITE_CARDINALITY)

    @property
    def cardinality(self) -> int | None:
        """Examples or batches; None where that is not known or without end."""
        cardinality = int(self.dataset.cardinality())
        return None if cardinality < 0 else cardinality

    @property
    def identity(self) -> dict[str, Any]:
        """Specs and cardinality; a graph has no name of its own that is the same in two processes."""
        return {
            "specs": [repr(s) for s in self.spec],
            "cardinality": self.cardinality,
            "batched": self.batched,
        }


def _is_batched(specs: Sequence[Any], paths: Sequence[str]) -> bool:
    odd = next(((p, s) for p, s in zip(paths, specs, strict=True) if not isinstance(s, tf.TensorSpec)), None)
    if odd is not None:
        kind = type(odd[1]).__name__.removesuffix("Spec")
        raise SpecError(
            f"from_tf: {odd[0]} is a {kind}, which is no array: make it dense, or drop it, with dataset.map"
        )
    shapes = [spec.shape for spec in specs]
    if any(shape.rank == 0 for shape in shapes):
        return False
    leading = [None if shape.rank is None else shape[0] for shape in shapes]
    known_ranks = all(shape.rank is not None for shape in shapes)
    if known_ranks and all(n is None for n in leading):
        return True
    if known_ranks and len(set(leading)) == 1 and any(shape.rank == 1 for shape in shapes):
        return True
    shown = ", ".join(
        f"{p}: {tuple(s) if s.rank is not None else 'unknown'}" for p, s in zip(paths, shapes, strict=True)
    )
    raise ValueError(f"from_tf cannot tell whether these are batches ({shown}): say batched=True or batched=False")


def _row(spec: Any, path: str) -> Any:
    if not isinstance(spec, tf.TensorSpec):
        return spec
    if spec.shape.rank == 0:
        raise SpecError(f"from_tf(batched=True): {path} is a scalar, which has no batch dimension: say batched=False")
    return tf.TensorSpec(spec.shape[1:], spec.dtype)
