"""A picture of a pipeline: its rows are fetched, what each leaf means is found, and that is drawn."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfjax._arguments import require_count
from tfjax.tools.show.parts import Given, find_parts, panels
from tfjax.tools.show.rows import first_rows


@dataclass(frozen=True)
class Picture:
    """A PNG: shown by a notebook, and written by `save`.

    Attributes:
        png: its bytes.
        shown: how many examples it shows.
    """

    png: bytes = field(repr=False)
    shown: int

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the PNG; the folder is made where it does not exist.

        Raises:
            ValueError: the name does not end in .png.
        """
        target = Path(path)
        if target.suffix.lower() != ".png":
            raise ValueError(f"save: the picture is a PNG, given {os.fspath(path)!r}: name a file that ends in .png")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self.png)

    def _repr_png_(self) -> bytes:
        return self.png


def show(pipe: Any, n: int, given: Given) -> Picture:
    """See `Pipeline.show`."""
    count = require_count("show: n", n, least=1)
    try:
        from tfjax.tools.show.draw import draw
    except ImportError as e:
        raise ImportError(f"show needs {e.name!r}: pip install 'tfjax[cli]'", name=e.name) from e
    rows = first_rows(pipe, count, given.image)
    parts = find_parts(rows[0], pipe.info, given)
    return Picture(draw(panels(rows, parts, pipe.info)), len(rows))
