"""A chain to a tf.data graph over the global steps of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tfjax._tensorflow import tf
from tfjax.graph.carried import Carried
from tfjax.graph.element import Element
from tfjax.graph.stages import Chain, Origin

if TYPE_CHECKING:
    from tfjax.graph.rewrites.late_flip import LateFlip

FOREVER = 2**62


@dataclass(frozen=True, kw_only=True)
class Run:
    """The global steps that one iterator delivers, counted from the start of epoch `start_epoch`.

    `values` are the named numbers that its ops use.
    """

    start_epoch: int
    start: int
    stop: int | None
    epochs: int | None = None
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """`stop`, or a step that is never reached."""
        return FOREVER if self.stop is None else self.stop


class Plan(Protocol):
    """What planning gives, for indexed and for streaming pipelines."""

    element: Element
    kind: str

    @property
    def held(self) -> Any:
        """The `Held` rows of a device cache, whose positions are yielded in place of leaves; None without one."""
        ...

    @property
    def flips(self) -> Sequence[LateFlip]:
        """The random flips that are left to the devices; the first of what is carried says which rows they flip."""
        ...

    @property
    def on_host(self) -> Plan:
        """The same with nothing left to the devices."""
        ...

    @property
    def carried(self) -> Sequence[Carried]:
        """The leaves that `dataset` yields after those of the element."""
        ...

    @property
    def notes(self) -> list[str]:
        """What was decided, for `explain`."""
        ...

    @property
    def leading(self) -> tuple[int | None, ...]:
        """The dimensions before those of an example: none, (batch,) or (k, batch); None for one that varies."""
        ...

    @property
    def batch_size(self) -> int | None:
        """Rows of a batch; None where elements are not batched, or batches are of unknown size."""
        ...

    @property
    def is_batched(self) -> bool:
        """Whether elements have a leading batch dimension."""
        ...

    @property
    def tail(self) -> int | None:
        """Rows of the last batch of an epoch where it is shorter: 0 if none is, None if that is not known."""
        ...

    @property
    def steps_per_epoch(self) -> int | None:
        """Elements that one epoch delivers; None where that is not known."""
        ...

    @property
    def is_endless(self) -> bool:
        """Whether an epoch never ends."""
        ...

    def dataset(self, run: Run, *, narrow: bool) -> tf.data.Dataset:
        """Flat tuples of leaves, one a step; after them what is carried beside them."""
        ...

    def examples(self, run: Run, step: int) -> np.ndarray | None:
        """The index of each example in the batch of a step, int64, -1 for padding; None where examples have none."""
        ...

    def diagnose(self, run: Run, step: int, error: Exception) -> Exception:
        """Which stage and which example made a step fail."""
        ...

    def check(self) -> None:
        """Raise CorruptDataError where stored data changed since it was planned, or a cache is damaged."""
        ...

    @property
    def cache_counts(self) -> tuple[int, int]:
        """Rows that its caches had when they were asked, and those that they had not, in this process so far."""
        ...


def origin_of(chain: Chain) -> Origin:
    """The source stage of a chain."""
    origin = chain[0]
    if not isinstance(origin, Origin):
        raise TypeError(f"a pipeline starts with a source, not with {origin.describe()}")
    return origin
