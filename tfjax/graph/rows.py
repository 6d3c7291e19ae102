"""Rows by position: each class wraps another, and all answer `fetch(epoch, positions)` inside the graph."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from tfjax._tensorflow import tf
from tfjax.errors import CorruptDataError, TfjaxError
from tfjax.graph.element import Element
from tfjax.graph.functions import Function
from tfjax.graph.loop import Loop, row_seeds
from tfjax.graph.memory import MemoryCache
from tfjax.graph.order import Transform, epoch_words
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
    place = source.locate(index)
    what = "the stored record is damaged" if failure.error is None else fact(failure.error)
    kind: type[TfjaxError] = CorruptDataError if failure.stored else TfjaxError
    if isinstance(failure.error, TfjaxError):
        kind = type(failure.error)  # a source knows best what is wrong with what it read
    return kind(f"{failure.stage} failed on example {index}{f' ({place})' if place else ''}: {what}")


def fact(error: Exception) -> str:
    """What went wrong, without the stack and the node names around it."""
    text = error.message if isinstance(error, tf.errors.OpError) else str(error)
    around = (" ", "\t", "Graph execution error", "Detected at node", "{{function_node")
    facts = [line for line in text.splitlines() if line.strip() and not line.startswith(around)]
    bare = " ".join(facts or [re.sub(r"{{function_node [^}]*}} *", "", text)])
    return bare.split(" [Op:")[0].strip() or type(error).__name__


class Rows(Protocol):
    """Rows that can be fetched by position."""

    length: int
    element: Element

    def index(self, epoch: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        """The identity in the source of the rows at `positions`, int64 (n,)."""
        ...

    def fetch(self, epoch: tf.Tensor, positions: tf.Tensor) -> Fetched:
        """The rows at `positions`, int64 (n,)."""
        ...

    def diagnose(self, epoch: tf.Tensor, position: tf.Tensor) -> Failure | None:
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

    def index(self, epoch: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:  # noqa: ARG002
        """See `Rows`."""
        return positions

    def fetch(self, epoch: tf.Tensor, positions: tf.Tensor) -> Fetched:  # noqa: ARG002
        """See `Rows`."""
        got = self._source.fetch(positions)
        return Fetched(positions, got.ok, got.leaves)

    def diagnose(self, epoch: tf.Tensor, position: tf.Tensor) -> Failure | None:
        """See `Rows`."""
        try:
            ok = self.fetch(epoch, position).ok
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

    def index(self, epoch: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        """See `Rows`."""
        return self._rows.index(epoch, self._transform(epoch, positions))

    def fetch(self, epoch: tf.Tensor, positions: tf.Tensor) -> Fetched:
        """See `Rows`."""
        return self._rows.fetch(epoch, self._transform(epoch, positions))

    def diagnose(self, epoch: tf.Tensor, position: tf.Tensor) -> Failure | None:
        """See `Rows`."""
        return self._rows.diagnose(epoch, self._transform(epoch, position))

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

    def index(self, epoch: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        """See `Rows`."""
        return self._rows.index(epoch, positions)

    def fetch(self, epoch: tf.Tensor, positions: tf.Tensor) -> Fetched:
        """See `Rows`."""
        got = self._rows.fetch(epoch, positions)
        random = self.loop.random
        seeds = row_seeds(epoch_words(self._seed, epoch, range(random)), got.index) if random else []
        return Fetched(got.index, got.ok, self.loop(got.index, got.leaves, seeds))

    def diagnose(self, epoch: tf.Tensor, position: tf.Tensor) -> Failure | None:
        """See `Rows`."""
        failure = self._rows.diagnose(epoch, position)
        if failure is not None:
            return failure
        got = self._rows.fetch(epoch, position)
        leaves = [leaf[0] for leaf in got.leaves]
        seeds = iter(row_seeds(epoch_words(self._seed, epoch, range(self.loop.random)), got.index))
        for fn in self.loop.functions:
            try:
                leaves = fn(leaves, next(seeds)[0]) if fn.random else fn(leaves)
            except FAILURES as error:
                return Failure(fn.name, fn.decodes, error)
        return None

    def describe(self) -> list[str]:
        """See `Rows`."""
        names = ", ".join(fn.name for fn in self.loop.functions)
        how = "only choose leaves, so there is no loop" if self.loop.is_empty else "in one loop inside the batch"
        return [*self._rows.describe(), f"functions {how}: {names}"]


class Cached:
    """Rows computed once, then gathered from memory."""

    def __init__(self, rows: Rows, cache: MemoryCache) -> None:
        """Wrap `rows`, whose elements do not depend on the epoch."""
        self._rows, self._cache = rows, cache
        self.element, self.length = rows.element, rows.length

    def index(self, epoch: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        """See `Rows`."""
        return self._rows.index(epoch, positions)

    def fetch(self, epoch: tf.Tensor, positions: tf.Tensor) -> Fetched:
        """See `Rows`."""
        index = self._rows.index(epoch, positions)
        if self._cache.is_complete:
            return Fetched(index, None, self._cache.gather(positions))
        missing = tf.boolean_mask(positions, tf.logical_not(self._cache.has(positions)))

        def fill() -> tf.Tensor:
            got = self._rows.fetch(epoch, missing)
            with tf.control_dependencies([self._cache.keep(missing, got)]):
                return tf.constant(True) if got.ok is None else tf.reduce_all(got.ok)

        stored = tf.cond(tf.size(missing) > 0, fill, lambda: tf.constant(True))
        with tf.control_dependencies([stored]):
            return Fetched(index, self._cache.has(positions), self._cache.gather(positions))

    def diagnose(self, epoch: tf.Tensor, position: tf.Tensor) -> Failure | None:
        """See `Rows`."""
        return self._rows.diagnose(epoch, position)

    def describe(self) -> list[str]:
        """See `Rows`."""
        return [*self._rows.describe(), self._cache.describe()]
