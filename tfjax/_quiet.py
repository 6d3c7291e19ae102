"""Two lines that TensorFlow's C++ code prints at every import, and that no setting silences without changing numerics.

`TF_ENABLE_ONEDNN_OPTS=0` would silence the notice about oneDNN, but computes other floats. So what is written to the
stderr of the process while TensorFlow is imported is held back, and passed on without these lines.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

_NOISE = (b"oneDNN custom operations are on", b"All log messages before absl::InitializeLog() is called")


@contextlib.contextmanager
def without_import_noise() -> Iterator[None]:
    """Hold stderr back, and pass it on at the end, also when the import fails."""
    try:
        sys.stderr.flush()
        kept, held = os.dup(2), tempfile.TemporaryFile()
    except (AttributeError, OSError):  # no stderr, or nowhere to hold it
        yield
        return
    with held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            with contextlib.suppress(AttributeError, OSError):
                sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held:
                if not any(noise in line for noise in _NOISE):
                    os.write(2, line)
