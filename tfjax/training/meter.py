"""How fast a run goes."""

from __future__ import annotations

import time


class Meter:
    """Examples a second and the share of time spent waiting for data, of training alone.

    It counts between `start`, when the device has nothing to do, and the last `add`: compiling, evaluations and
    checkpoints are left out.
    """

    def __init__(self) -> None:
        """Nothing measured yet."""
        self.examples, self.seconds, self.wait_s = 0, 0.0, 0.0
        self._last: tuple[float, float] | None = None

    def start(self, wait_s: float) -> None:
        """What comes now is training; `wait_s` is the time waited so far, as the batches have it."""
        self._last = time.perf_counter(), wait_s

    def add(self, examples: int, wait_s: float) -> None:
        """These were trained on since the last call."""
        if self._last is None:
            return
        now = time.perf_counter()
        self.examples += examples
        self.seconds += now - self._last[0]
        self.wait_s += wait_s - self._last[1]
        self._last = now, wait_s

    @property
    def started(self) -> bool:
        """Whether anything is counted."""
        return self._last is not None

    @property
    def rate(self) -> float:
        """Examples a second; 0 before it is known."""
        return self.examples / self.seconds if self.seconds else 0.0

    @property
    def waiting(self) -> float:
        """Share of the time spent waiting for data, 0 to 1."""
        return self.wait_s / self.seconds if self.seconds else 0.0
