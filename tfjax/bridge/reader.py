"""The elements of a tf.data graph, one after the other, as flat leaves that left TensorFlow without a copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tfjax._tensorflow import tf
from tfjax.graph.plan import Plan, Run

Converter = Callable[[tf.Tensor], Any]


class Reader(Iterator[list[Any]]):
    """Flat leaves of each element, converted by one function a leaf."""

    def __init__(self, dataset: tf.data.Dataset, convert: Sequence[Converter]) -> None:
        """Open the dataset.

        Args:
            dataset: its elements are flattened by tf.nest.
            convert: for each leaf, tensor to array.
        """
        self._iterator = iter(dataset)
        self._convert = tuple(convert)
        specs = tf.nest.flatten(dataset.element_spec)
        # Numbers and lists, which the op's wrapper would make of these at every call, for 6 us.
        self._types = [s.dtype.as_datatype_enum for s in specs]
        self._shapes = [s.shape if s.shape.rank is None else s.shape.as_list() for s in specs]
        # The op itself costs 15 us; `next` adds as much again to pack a structure that nobody wants.
        self._resource = getattr(self._iterator, "_iterator_resource", None)
        self._dataset = dataset  # holds what the handles in its graph point to; last, as it goes after the iterator

    def __next__(self) -> list[Any]:
        """The next element.

        Raises:
            StopIteration: the dataset has ended.
            tf.errors.OpError: the graph failed.
        """
        return [convert(leaf) for convert, leaf in zip(self._convert, self.tensors(), strict=True)]

    @property
    def resource(self) -> tf.Tensor:
        """The iterator as TensorFlow's ops take it."""
        return self._iterator._iterator_resource

    def tensors(self) -> list[tf.Tensor]:
        """The next element, still in TensorFlow."""
        try:
            if self._resource is None:
                return tf.nest.flatten(next(self._iterator))  # type: ignore[no-any-return]
            return tf.raw_ops.IteratorGetNext(  # type: ignore[no-any-return]
                iterator=self._resource, output_types=self._types, output_shapes=self._shapes
            )
        except tf.errors.OutOfRangeError:
            raise StopIteration from None
        except UnicodeDecodeError as error:  # an op failed, and quotes bytes in its message
            raise tf.errors.UnknownError(None, None, error.object.decode("utf-8", "backslashreplace")) from None


def read(plan: Plan, run: Run, convert: Sequence[Converter], *, narrow: bool) -> Iterator[list[Any]]:
    """The leaves of each step of a run.

    Args:
        plan: the graph.
        run: its steps.
        convert: for each leaf, tensor to array.
        narrow: whether 64-bit leaves become 32 bits.

    Raises:
        CorruptDataError: stored data is damaged; the message names stage, example and place.
        TfjaxError: a function failed; the message names stage and example.
        SpecError: a value does not fit the dtype that it is narrowed to.
    """
    reader: Reader | None = Reader(plan.dataset(run, narrow=narrow), convert)
    step = run.start
    while reader is not None:
        try:
            leaves = next(reader)
        except StopIteration:
            return
        except tf.errors.OpError as error:
            # Neither exception may keep the iterator alive: the frames of their tracebacks hold what is local.
            failed, reader = plan.diagnose(run, step, error), None
            raise failed from failed.__cause__ or error.with_traceback(None)
        held = [leaves]
        del leaves  # or this frame would keep the batch alive until the next one is asked for
        yield held.pop()
        step += 1


def structured(plan: Plan, run: Run) -> tf.data.Dataset:
    """The graph of a run with elements in the user's structure, in their own dtypes."""
    dataset = plan.dataset(run, narrow=False)
    structure = plan.element.structure

    def pack(*element: Any) -> Any:
        own = element[: len(structure.paths)] if plan.carried else element
        leaves, _ = structure.flatten(own[0] if len(own) == 1 else own)
        return structure.unflatten(leaves)

    try:
        out = dataset.map(tf.autograph.experimental.do_not_convert(pack))
    except TypeError as error:
        kind = type(plan.element.structure.unflatten(plan.element.specs)).__name__
        raise TypeError(f"to_tf: tf.data cannot hold a {kind}: return a dict, tuple or NamedTuple from map") from error
    out._tfjax_plan = plan, dataset  # the graph holds handles to Python objects that the plan keeps alive
    return out
