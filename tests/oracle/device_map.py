"""`device_map`: a function of one delivered batch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .functions import Function
from .row import Context, Rows

if TYPE_CHECKING:
    import tfjax


@dataclass(frozen=True)
class DeviceMap:
    """The function on every batch as it is delivered: the chain applies it last."""

    fn: Function

    def apply(self, rows: Rows, context: Context) -> Rows:  # noqa: ARG002
        """The batches as they are."""
        return rows

    def write(self, pipe: "tfjax.Pipeline") -> "tfjax.Pipeline":
        """The stage as a user writes it."""
        return pipe.device_map(self.fn.graph)
