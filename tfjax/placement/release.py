"""Objects whose release may take long, dropped on a thread of their own.

Deleting a tf.data iterator while it tunes itself stalls for up to a second.
"""

from __future__ import annotations

import threading


def release(owner: object, name: str) -> None:
    """Take an attribute away from its owner and drop it on another thread, which ends by itself."""
    box = [getattr(owner, name)]
    setattr(owner, name, iter(()))
    threading.Thread(target=box.clear, name="tfjax-release", daemon=True).start()
