"""`select` and `drop`: some keys of a dict."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .row import Context, Rows

if TYPE_CHECKING:
    import tfjax


@dataclass(frozen=True)
class Select:
    """The named keys only."""

    keys: tuple[str, ...]

    def apply(self, rows: Rows, context: Context) -> Rows:  # noqa: ARG002
        """A smaller dict a row."""
        return [row.with_example({k: row.example[k] for k in self.keys}) for row in rows]

    def write(self, pipe: "tfjax.Pipeline") -> "tfjax.Pipeline":
        """The stage as a user writes it."""
        return pipe.select(*self.keys)


@dataclass(frozen=True)
class Drop:
    """All but the named keys."""

    keys: tuple[str, ...]

    def apply(self, rows: Rows, context: Context) -> Rows:  # noqa: ARG002
        """A smaller dict a row."""
        return [row.with_example({k: v for k, v in row.example.items() if k not in self.keys}) for row in rows]

    def write(self, pipe: "tfjax.Pipeline") -> "tfjax.Pipeline":
        """The stage as a user writes it."""
        return pipe.drop(*self.keys)
