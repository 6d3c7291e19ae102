"""`tfjax show NAME`: the first examples of a dataset, as a PNG."""

from __future__ import annotations

import sys
from pathlib import Path

from tfjax.tools.errors import refused_input


def write_picture(name: str, *, split: str, data_dir: str | None, count: int, out: Path) -> None:
    """Write the picture, and say where.

    Raises:
        UserError: there is no such dataset or split, or it has no images; or a library is missing.
    """
    with refused_input(ImportError, ValueError, KeyError, TypeError, OSError):
        import tfjax

        pipe = tfjax.load(name, split=split, data_dir=data_dir)
        picture = pipe.show(count)
        picture.save(out)
    sys.stdout.write(f"{picture.shown} examples of {name} {split}: {out}\n")
