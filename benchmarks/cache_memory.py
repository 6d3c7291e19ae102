"""One epoch over a path cache in a process of its own, and its anonymous memory: `python -m benchmarks.cache_memory`.

    python -m benchmarks.cache_memory FOLDER ROWS

The first run in a folder fills it, the next one is served from it. JSON goes to the standard output.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np

import tfjax
from benchmarks.consume import checksum, zero
from tfjax import on_device
from tfjax._tensorflow import tf

BATCH, SIDE, ROW_BYTES = 64, 224, 224 * 224 * 3
_EVERY_S = 0.01
_STATUS = Path("/proc/self/status")


class Anonymous:
    """The most anonymous memory of this process since it was made, looked at every 10 ms."""

    def __init__(self) -> None:
        """Begin."""
        self.mib = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._done.wait(_EVERY_S):
            self.mib = max(self.mib, anonymous_mib())

    def stop(self) -> float:
        """The most, in MiB."""
        self._done.set()
        self._thread.join()
        return max(self.mib, anonymous_mib())


def anonymous_mib() -> float:
    """Resident memory that is of no file, in MiB."""
    line = next(x for x in _STATUS.read_text().splitlines() if x.startswith("RssAnon"))
    return float(line.split()[1]) / 1024


def is_known() -> bool:
    """Whether this system tells."""
    return _STATUS.is_file() and "RssAnon" in _STATUS.read_text()


def image(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """An image that is cheap to make, and different for each row."""
    row = tf.cast(tf.range(SIDE * 3), tf.int64) + example["label"]
    return {**example, "image": tf.broadcast_to(tf.cast(tf.reshape(row, (1, SIDE, 3)), tf.uint8), (SIDE, SIDE, 3))}


def train(folder: str, rows: int) -> float:
    """An epoch, shuffled, normalised and read under jit; images a second."""
    pipe = tfjax.from_arrays({"label": np.arange(rows)}).map(image).cache(folder).shuffle(seed=0).batch(BATCH)
    pipe = pipe.device_map(on_device.normalize("image", 127.5, 127.5))
    began, total, seen = time.perf_counter(), zero(), 0
    for batch in pipe:
        total, seen = checksum(total, batch), seen + BATCH
        del batch
    jax.block_until_ready(total)
    return seen / (time.perf_counter() - began)


def main() -> None:
    """Train for an epoch, and say what it took."""
    folder, rows = sys.argv[1], int(sys.argv[2])
    before, anonymous = anonymous_mib(), Anonymous()
    speed = train(folder, rows)
    print(json.dumps({"before_mib": before, "most_mib": anonymous.stop(), "per_s": speed}))


if __name__ == "__main__":
    main()
