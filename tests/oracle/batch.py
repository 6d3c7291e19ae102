"""`batch`: rows in order, `size` at a time."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .mask import mask
from .remainder import groups
from .row import Context, Rows
from .tree import Tree, stack

if TYPE_CHECKING:
    import tfjax


@dataclass(frozen=True)
class Batch:
    """Batches of `size`; without a `remainder`: drop after a shuffle, keep otherwise."""

    size: int
    remainder: str | None = None

    def policy(self, shuffled: bool) -> str:
        """The remainder that holds."""
        return self.remainder or ("drop" if shuffled else "keep")

    def apply(self, rows: Rows, context: Context) -> list[Tree]:
        """Stacked examples, with the mask where they are padded."""
        policy = self.policy(context.shuffled)
        batches = [stack([row.example for row in part]) for part in groups(rows, self.size, policy)]
        if policy != "pad":
            return batches
        return [batch | {"mask": mask(i, self.size, len(rows))} for i, batch in enumerate(batches)]

    def write(self, pipe: "tfjax.Pipeline") -> "tfjax.Pipeline":
        """The stage as a user writes it."""
        return pipe.batch(self.size, **({"remainder": self.remainder} if self.remainder else {}))
