"""`cache`: nothing that a batch could show."""

import atexit
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from .row import Context, Rows

if TYPE_CHECKING:
    import tfjax

FOLDERS = Path(tempfile.mkdtemp(prefix="tfjax-oracle-"))
atexit.register(shutil.rmtree, FOLDERS, ignore_errors=True)


@dataclass(frozen=True)
class Cache:
    """A cache in memory, or in a folder of its own each time it is written; perhaps with room for some rows only."""

    where: Literal["memory", "folder"] = "memory"
    limited: bool = False

    def apply(self, rows: Rows, context: Context) -> Rows:  # noqa: ARG002
        """The rows as they are."""
        return rows

    def write(self, pipe: "tfjax.Pipeline") -> "tfjax.Pipeline":
        """The stage as a user writes it."""
        where = "memory" if self.where == "memory" else FOLDERS / uuid.uuid4().hex
        return pipe.cache(where, limit_bytes=5 * row_bytes(pipe) if self.limited else None)


def row_bytes(pipe: "tfjax.Pipeline") -> int:
    """About the bytes of a row; a leaf of no fixed size takes 64."""
    specs = pipe._element.specs
    fixed = [s.dtype.name != "string" and s.shape.is_fully_defined() for s in specs]
    sizes = (int(np.prod(s.shape)) * s.dtype.size if is_fixed else 64 for s, is_fixed in zip(specs, fixed, strict=True))
    return sum(sizes) + 8
