"""A tf.data.Dataset that exists already: it can only be streamed, from its beginning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from tfjax._tensorflow import tf
from tfjax.errors import SpecError
from tfjax.sources.dataset_graph import DatasetGraph, dataset_graph
from tfjax.sources.stream import Opened, Resume, Stream, is_batched, refuse_scalars, shape_of

_NO_SUCH = "cannot be looked at: it is larger than 64 MiB, or holds what TensorFlow cannot write down"


class Foreign(Stream):
    """A dataset, its flat specs, and whether its elements are batches."""

    def __init__(
        self,
        dataset: tf.data.Dataset,
        specs: Sequence[Any],
        paths: Sequence[str],
        flatten: Callable[[Any], Sequence[Any]],
        *,
        batched: bool | None,
        resume: Resume = "replay",
    ) -> None:
        """Hold a dataset.

        Args:
            dataset: any tf.data.Dataset.
            specs: its flat element specs.
            paths: a key path for each.
            flatten: an element to its leaves, in the order of `specs`.
            batched: whether elements are batches; None: read it off the leading dimensions.
            resume: how a state of it is taken.

        Raises:
            ValueError: the leading dimensions do not tell.
        """
        if batched is not None and not isinstance(batched, bool):
            raise TypeError(f"from_tf: batched is {batched!r}: pass True, False or None")
        self.dataset, self._flatten, self.resume = dataset, flatten, resume
        size = int(dataset.cardinality())
        self.is_endless = size == tf.data.INFINITE_CARDINALITY
        self.cardinality = None if size < 0 else size
        # tf.nest and JAX order some dictionaries differently.
        alike = [id(s) for s in tf.nest.flatten(dataset.element_spec)] == [id(s) for s in specs]
        self._is_flat = alike
        if batched is None:
            _refuse_no_arrays(specs, paths)
            batched = is_batched([shape_of(s) for s in specs], paths, "from_tf")
        self.batched = batched
        arrays = {p: shape_of(s) for p, s in zip(paths, specs, strict=True) if isinstance(s, tf.TensorSpec)}
        leading = {shape[0] for shape in arrays.values() if batched and shape}
        self.rows_of_a_batch = next(iter(leading)) if len(leading) == 1 else None
        if batched:
            refuse_scalars(list(arrays.values()), list(arrays), "from_tf")
            specs = [tf.TensorSpec(s.shape[1:], s.dtype) if isinstance(s, tf.TensorSpec) else s for s in specs]
        self.spec = tuple(specs)

    @cached_property
    def graph(self) -> DatasetGraph | None:
        """What the dataset is made of; None where that cannot be looked at."""
        return dataset_graph(self.dataset)

    @property
    def identity(self) -> dict[str, Any]:
        """Specs, cardinality and a hash of the graph, whose function bodies count by their ops."""
        return {
            "specs": [repr(s) for s in self.spec],
            "cardinality": self.cardinality,
            "batched": self.batched,
            "graph": None if self.graph is None else self.graph.digest,
        }

    @property
    def notes(self) -> list[str]:
        """What the shuffles of the graph mean for a state."""
        if self.graph is None:
            return [f"the graph {_NO_SUCH}; a shuffle in it that reshuffles each iteration is not repeated"]
        if self.graph.reshuffles and self.graph.reads_what_changes:
            return [
                "the dataset reshuffles, and reads a variable: its order goes on from run to run and is not repeated"
            ]
        if self.graph.is_unseeded and self.resume == "replay":
            return ["the dataset shuffles without a seed: each run has another order, and a state does not repeat it"]
        return []

    def open(self, entropy: int) -> Opened:
        """The dataset; where it reshuffles, one for each epoch, whose order depends on the epoch alone."""
        graph = self.graph
        if graph is not None and not graph.reads_what_changes:
            if graph.reshuffles or (entropy and graph.is_unseeded):
                return Opened(graph.epochs(entropy), self._leaves, self._is_flat)
        return Opened(lambda _: self.dataset, self._leaves, self._is_flat)

    def _leaves(self, *tree: Any) -> Sequence[tf.Tensor]:
        """The leaves of an element, which tf.data hands over as one argument, or a tuple as several."""
        return self._flatten(tree[0] if len(tree) == 1 else tree)

    def buffers(self) -> list[tuple[str, int | None]]:
        """See `Stream`."""
        return [("the graph", None)] if self.graph is None else self.graph.buffers()


def _refuse_no_arrays(specs: Sequence[Any], paths: Sequence[str]) -> None:
    for spec, path in zip(specs, paths, strict=True):
        if not isinstance(spec, tf.TensorSpec):
            kind = type(spec).__name__.removesuffix("Spec")
            raise SpecError(
                f"from_tf: {path} is a {kind}, which is no array: make it dense, or drop it, with dataset.map"
            )
