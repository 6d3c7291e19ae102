"""Rows that lie on the devices: the graph of a batch says which of them it has, and computes those that do not."""

from __future__ import annotations

from dataclasses import dataclass

from tfjax._tensorflow import tf
from tfjax.graph.cache.counts import Counts
from tfjax.graph.carried import Carried
from tfjax.graph.moment import Moment
from tfjax.graph.rows import Failure, Fetched, Rows
from tfjax.graph.stages import Chain, DeviceCache

POSITION, MASK = "the position of a row", "the mask"


@dataclass(frozen=True, eq=False)
class Held:
    """What a device cache holds.

    Attributes:
        owner: its stage.
        chain: the stages before it, in the order in which they are planned.
        rows: what they yield.
        most: how many of them are held: the first ones.
        counts: rows of batches that are held, and that are not.
    """

    owner: DeviceCache
    chain: Chain
    rows: Rows
    most: int
    counts: Counts

    @property
    def is_all(self) -> bool:
        """Whether every row is held."""
        return self.most == self.rows.length


class Positions:
    """The positions of rows, and after them their leaves where some are not held, with zeros for those that are."""

    def __init__(self, held: Held) -> None:
        """Wrap the rows of a device cache."""
        self._held, self._rows = held, held.rows
        self.element, self.length = held.rows.element, held.rows.length

    def index(self, moment: Moment, positions: tf.Tensor) -> tf.Tensor:
        """See `Rows`."""
        return self._rows.index(moment, positions)

    def fetch(self, moment: Moment, positions: tf.Tensor) -> Fetched:
        """See `Rows`."""
        index = self._rows.index(moment, positions)
        if self._held.is_all:
            self._held.counts.add(tf.size(positions), 0)
            return Fetched(index, None, [positions])
        missing = tf.where(positions >= self._held.most)
        self._held.counts.add(tf.size(positions) - tf.size(missing), tf.size(missing))

        def zeros(*shape: int, dtype: tf.DType) -> tf.Tensor:
            return tf.zeros(tf.concat([tf.shape(positions), shape], 0), dtype)

        def none() -> list[tf.Tensor]:
            return [zeros(dtype=tf.bool), *(zeros(*s.shape, dtype=s.dtype) for s in self.element.specs)]

        def computed() -> list[tf.Tensor]:
            got = self._rows.fetch(moment, tf.gather_nd(positions, missing))
            bad = tf.zeros_like(missing[:, 0], tf.bool) if got.ok is None else tf.logical_not(got.ok)
            empty = none()
            return [tf.tensor_scatter_nd_update(e, missing, x) for e, x in zip(empty, [bad, *got.leaves], strict=True)]

        bad, *leaves = tf.cond(tf.size(missing) > 0, computed, none)
        return Fetched(index, tf.logical_not(bad), [positions, *leaves])

    def diagnose(self, moment: Moment, position: tf.Tensor) -> Failure | None:
        """See `Rows`."""
        return self._rows.diagnose(moment, position)

    def describe(self) -> list[str]:
        """See `Rows`."""
        held = self._held
        few = f" of {self.length} rows held on the devices; the others are computed, and each batch moves whole"
        how = " rows held on the devices; a batch is gathered there" if held.is_all else few
        return [*self._rows.describe(), f"{held.most}{how}"]


def carried_positions(held: Held, *, padded: bool) -> tuple[Carried, ...]:
    """What a batch of held rows carries: the positions, which every device needs whole, and which rows are real.

    Where some rows are not held, the leaves of the batch are not left out, and the mask is one of them.
    """
    position = Carried(POSITION, by_row=False, words=1)
    return (position, Carried(MASK, by_row=True, words=1)) if padded and held.is_all else (position,)
