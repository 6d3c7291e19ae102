"""Arrays kept in a folder of the user's between processes: written whole or not at all, and never needed."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `tfjax doctor` asks for the folder where NumPy does not work
    import numpy as np


def cache_folder(kind: str) -> Path:
    """Where arrays of one kind are kept; it may not exist.

    Raises:
        RuntimeError: no home folder is known.

    >>> cache_folder("index").parts[-2:]
    ('tfjax', 'index')
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tfjax" / kind


def load_array(path: Path) -> np.ndarray | None:
    """What `save_array` left; None where there is nothing that can be read."""
    import numpy as np

    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array


def save_array(path: Path, array: np.ndarray, *, drop: str | None = None) -> None:
    """Write an array under a temporary name and rename it; a full or read-only disk is passed over.

    Args:
        path: where to.
        array: what.
        drop: a pattern of other files of the folder that this one replaces.
    """
    import numpy as np

    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            temporary = file.name
            file.write(buffer.getbuffer())
        os.replace(temporary, path)
        for stale in path.parent.glob(drop) if drop else ():
            if stale != path:
                stale.unlink(missing_ok=True)
    except OSError:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
