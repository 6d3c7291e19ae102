"""What a streaming source is: a graph that can only be read from the beginning of an epoch."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from tfjax._tensorflow import tf
from tfjax.errors import SpecError

Resume = Literal["replay", "checkpoint"]


Shape = Sequence[int | None] | None


class Opened(NamedTuple):
    """The graph of a source for one run.

    Attributes:
        epoch: an int64 scalar to the elements of that epoch, inside or outside of a graph.
        leaves: the arguments that tf.data hands a function of one element, to its flat leaves.
        is_flat: whether elements are tuples of the leaves, in their order, already.
        owner: what has to live as long as the graph is run; it is released with the run.
    """

    epoch: Callable[[tf.Tensor], tf.data.Dataset]
    leaves: Callable[..., Sequence[tf.Tensor]]
    is_flat: bool
    owner: Any = None


class Stream(abc.ABC):
    """Examples, or batches, that are read one after the other.

    Attributes:
        spec: the leaves of one example, without the batch dimension.
        batched: whether elements are batches.
        resume: how a state of it is taken.
        is_endless: whether an epoch never ends.
        cardinality: elements of an epoch; None where that is not known, or without end.
        rows_of_a_batch: None where elements are no batches, or it is not known.
    """

    spec: tuple[tf.TypeSpec, ...]
    batched: bool = False
    resume: Resume = "replay"
    is_endless: bool = False
    cardinality: int | None = None
    rows_of_a_batch: int | None = None

    @property
    @abc.abstractmethod
    def identity(self) -> dict[str, Any]:
        """Names, sizes and counts that tell this source from another; JSON types, never absolute paths."""

    @abc.abstractmethod
    def open(self, entropy: int) -> Opened:
        """The graph for one run; `entropy` stands in where the graph asks for chance without a seed."""

    @property
    def notes(self) -> list[str]:
        """What `explain` says of it."""
        return []

    def buffers(self) -> list[tuple[str, int | None]]:
        """What a checkpoint of the source's graph holds: a name, and bytes where they are known."""
        return []

    def diagnose(self, error: Exception) -> Exception | None:  # noqa: ARG002
        """The exception that a failure inside the source stands for; None for any other failure."""
        return None

    def check(self) -> None:
        """Raise CorruptDataError where what is stored changed since the source was made."""
        return


def is_batched(shapes: Sequence[Shape], paths: Sequence[str], caller: str) -> bool:
    """Whether elements of these shapes are batches, by their leading dimensions.

    Args:
        shapes: of the leaves; None for one of unknown rank, and for an unknown dimension.
        paths: a key path for each.
        caller: for the message.

    Raises:
        ValueError: they do not tell.

    >>> is_batched([(4, 28, 28), (4,)], ["x", "y"], "from_tf"), is_batched([(28, 28), ()], ["x", "y"], "from_tf")
    (True, False)
    """
    if any(shape is not None and len(shape) == 0 for shape in shapes):
        return False
    leading = {None if shape is None else shape[0] for shape in shapes}
    if None not in shapes and len(leading) == 1 and (None in leading or any(len(shape or ()) == 1 for shape in shapes)):
        return True
    shown = ", ".join(f"{p}: {'unknown' if s is None else tuple(s)}" for p, s in zip(paths, shapes, strict=True))
    raise ValueError(f"{caller} cannot tell whether these are batches ({shown}): say batched=True or batched=False")


def refuse_scalars(shapes: Sequence[Shape], paths: Sequence[str], caller: str) -> None:
    """Raise SpecError where a leaf of a batch has no dimension."""
    for shape, path in zip(shapes, paths, strict=True):
        if shape is not None and len(shape) == 0:
            raise SpecError(
                f"{caller}(batched=True): {path} is a scalar, which has no batch dimension: say batched=False"
            )


def shape_of(spec: tf.TensorSpec) -> Shape:
    """The shape of a spec in Python's types; None where its rank is not known."""
    return None if spec.shape.rank is None else tuple(spec.shape)
