"""`keep_on_host`: leaves that are delivered as host arrays."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .row import Context, Rows

if TYPE_CHECKING:
    import tfjax


@dataclass(frozen=True)
class KeepOnHost:
    """The named keys stay on the host; the chain reads them at delivery, the rows pass."""

    keys: tuple[str, ...]

    def apply(self, rows: Rows, context: Context) -> Rows:  # noqa: ARG002
        """The rows as they are."""
        return rows

    def write(self, pipe: "tfjax.Pipeline") -> "tfjax.Pipeline":
        """The stage as a user writes it."""
        return pipe.keep_on_host(*self.keys)
