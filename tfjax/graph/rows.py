"""Rows by position: each class wraps another, and all answer `fetch(moment, positions)` inside the graph."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from tfjax._tensorflow import tf
from tfjax.errors import CorruptDataError, TfjaxError
from tfjax.graph.element import Element
from tfjax.graph.functions import Function
from tfjax.graph.loop import Loop
from tfjax.graph.moment import Moment
from tfjax.graph.order import Transform, epoch_words, row_seeds
from tfjax.sources.base import Source


@dataclass(frozen=True, eq=False)
class Fetched:
    """Rows of a batch.

    Attributes:
        index: their identity in the source, int64 (n,).
        ok: whether each could be read, bool (n,); None where every one can. It is the flag of one bad example, which
            travels with the batch so that the policy for errors is applied where the batch is complete.
        leaves: tensors of shape (n, ...).
    """

    index: tf.Tensor
    ok: tf.Tensor | None
    leaves: Sequence[tf.Tensor]


class Failure(NamedTuple):
    """What is wrong with one row: the stage that failed, whether stored data is to blame, and the error if any."""

    stage: str
    stored: bool
    error: Exception | None


FAILURES = (tf.errors.OpError, TfjaxError, OSError, ValueError, TypeError, KeyError, IndexError, ArithmeticError)


def failure_error(failure: Failure, index: int, source: Source) -> Exception:
    """The exception that names the stage, the example and where it is stored."""
    if isinstance(failure.error, OSError) and not failure.stored:
        return failure.error  # no example is to blame for a full disk
    place = source.locate(index)
    what = "the stored record is damaged" if failure.error is None else fact(failure.error)
    kind: type[TfjaxError] = CorruptDataError if failure.stored else TfjaxError
    if isinstance(failure.error, TfjaxError):
        kind = type(failure.error)  # a source knows best what is wrong with what it read
    return kind(f"{failure.stage} failed on example {index}{f' ({place})' if place else ''}: {what}")


def fact(error: Exception) -> str:
    """What went wrong, without the stack and the node names around it."""
    text = error.message if isinstance(error, tf.errors.OpError) else str(error)
    if isinstance(error, UnicodeDecodeError):  # an op failed, and quotes bytes in its message
        text = error.object.decode("utf-8", "backslashreplace")
    around = (" ", "\t", "Graph execution error", "Detected at node", "{{function_node")
    facts = [line for line in text.splitlines() if line.strip() and not line.startswith(around)]
    bare = " ".join(facts or [re.sub(r"{{function_node [^}]*}} *", "", text).partition("\n")[0]])
    own = bare.rpartition("convert string: tfjax: ")[2]  # what `tfjax.ops.failing` says, or all
    return own.split(" [Op:")[0].strip() or type(error).__name__


class Rows(Protocol):
    """Rows that can be fetched by position."""

    length: int
    element: Element

    def index(self, moment: Moment, positions: tf.Tensor) -> tf.Tensor:
        """The identity in the source of the rows at `positions`, int64 (n,)."""
        ...

    def fetch(self, moment: Moment, positions: tf.Tensor) -> Fetched:
        """The rows at `positions`, int64 (n,)."""
        ...

    def diagnose(self, moment: Moment, position: tf.Tensor) -> Failure | None:
        """Compute one row, int64 (1,), step by step; what failed, or None."""
        ...

    def describe(self) -> list[str]:
        """How the rows come about, one line a step, from the source on."""
        ...


class SourceRows:
    """The rows of a source, in its own order."""

    def __init__(self, source: Source, element: Element) -> None:
        """Wrap a source whose raw examples are `element`."""
        self._source, self.element, self.length = source, element, len(source)

    def index(self, moment: Moment, positions: tf.Tensor) -> tf.Tensor:  # noqa: ARG002
        """See `Rows`."""
        return positions

    def fetch(self, moment: Moment, positions: tf.Tensor) -> Fetched:  # noqa: ARG002
        """See `Rows`."""
        got = self._source.fetch(positions)
        return Fetched(positions, got.ok, got.leaves)

    def diagnose(self, moment: Moment, position: tf.Tensor) -> Failure | None:
        """See `Rows`."""
        try:
            ok = self.fetch(moment, position).ok
            readable = ok is None or bool(ok[0])
        except FAILURES as error:
            return Failure("reading", True, error)
        return None if readable else Failure("reading", True, None)

    def describe(self) -> list[str]:
        """See `Rows`."""
        return [f"source: {self._source.describe()}"]


class Ordered:
    """Rows seen through an index transform."""

    def __init__(self, rows: Rows, transform: Transform) -> None:
        """Wrap `rows`."""
        self._rows, self._transform = rows, transform
        self.element, self.length = rows.element, transform.length

    def index(self, moment: Moment, positions: tf.Tensor) -> tf.Tensor:
        """See `Rows`."""
        return self._rows.index(moment, self._transform(moment.epoch, positions))

    def fetch(self, moment: Moment, positions: tf.Tensor) -> Fetched:
        """See `Rows`."""
        return self._rows.fetch(moment, self._transform(moment.epoch, positions))

    def diagnose(self, moment: Moment, position: tf.Tensor) -> Failure | None:
        """See `Rows`."""
        return self._rows.diagnose(moment, self._transform(moment.epoch, position))

    def describe(self) -> list[str]:
        """See `Rows`."""
        return self._rows.describe()


class Mapped:
    """Rows with functions applied, in one loop."""

    def __init__(self, rows: Rows, functions: Sequence[Function], seed: int) -> None:
        """Wrap `rows`.

        Args:
            rows: what the functions take.
            functions: applied in this order.
            seed: the pipeline's seed; nothing random stands before these functions, so the j-th random one among
                them is the j-th of the chain.
        """
        self._rows, self._seed = rows, seed
        self.loop = Loop(rows.element, functions)
        self.element, self.length = functions[-1].element, rows.length

    def index(self, moment: Moment, positions: tf.Tensor) -> tf.Tensor:
        """See `Rows`."""
        return self._rows.index(moment, positions)

    def fetch(self, moment: Moment, positions: tf.Tensor) -> Fetched:
        """See `Rows`."""
        got = self._rows.fetch(moment, positions)
        random = self.loop.random
        seeds = row_seeds(epoch_words(self._seed, moment.epoch, range(random)), got.index) if random else []
        return Fetched(got.index, got.ok, self.loop(moment, got.index, got.leaves, seeds))

    def diagnose(self, moment: Moment, position: tf.Tensor) -> Failure | None:
        """See `Rows`."""
        failure = self._rows.diagnose(moment, position)
        if failure is not None:
            return failure
        got = self._rows.fetch(moment, position)
        leaves = [leaf[0] for leaf in got.leaves]
        seeds = iter(row_seeds(epoch_words(self._seed, moment.epoch, range(self.loop.random)), got.index))
        for fn in self.loop.functions:
            try:
                leaves = fn(leaves, next(seeds)[0] if fn.random else None, fn.numbers(moment))
            except FAILURES as error:
                return Failure(fn.name, fn.decodes, error)
        return None

    def describe(self) -> list[str]:
        """See `Rows`."""
        names = ", ".join(fn.name for fn in self.loop.functions)
        how = "only choose leaves, so there is no loop" if self.loop.is_empty else "in one loop inside the batch"
        return [*self._rows.describe(), f"functions {how}: {names}"]
