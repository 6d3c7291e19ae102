"""Rows that lie on the devices: the graph of a batch says only which of them it has."""

from __future__ import annotations

from dataclasses import dataclass

from tfjax._tensorflow import tf
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
    """

    owner: DeviceCache
    chain: Chain
    rows: Rows


class Positions:
    """The positions of rows in place of their leaves."""

    def __init__(self, rows: Rows) -> None:
        """Wrap the rows that are held."""
        self._rows = rows
        self.element, self.length = rows.element, rows.length

    def index(self, moment: Moment, positions: tf.Tensor) -> tf.Tensor:
        """See `Rows`."""
        return self._rows.index(moment, positions)

    def fetch(self, moment: Moment, positions: tf.Tensor) -> Fetched:
        """See `Rows`."""
        return Fetched(self._rows.index(moment, positions), None, [positions])

    def diagnose(self, moment: Moment, position: tf.Tensor) -> Failure | None:
        """See `Rows`."""
        return self._rows.diagnose(moment, position)

    def describe(self) -> list[str]:
        """See `Rows`."""
        return [*self._rows.describe(), f"{self.length} rows held on the devices; a batch is gathered there"]


def carried_positions(*, padded: bool) -> tuple[Carried, ...]:
    """What a batch of held rows carries: the positions, which every device needs whole, and which rows are real."""
    return (Carried(POSITION, by_row=False, words=1), *((Carried(MASK, by_row=True, words=1),) if padded else ()))
