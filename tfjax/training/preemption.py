"""SIGTERM, with which clusters announce that a machine is taken away: the run saves a checkpoint and ends."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

PREEMPTED = 143  # 128 + SIGTERM, as shells have it


class Preempted(SystemExit):
    """The process was asked to end, and its run was saved: not caught, it ends with the exit code 143."""

    def __init__(self, text: str) -> None:
        """With a message."""
        super().__init__(PREEMPTED)
        self.text = text

    def __str__(self) -> str:
        """The message."""
        return self.text


class BrokenOff(BaseException):
    """SIGTERM came during something that need not be waited for."""


class Notice:
    """Whether SIGTERM came."""

    def __init__(self) -> None:
        """Not yet."""
        self.came = False
        self._may_break: Callable[[], bool] | None = None

    def note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as signal calls it
        """It came; another one changes nothing."""
        self.came = True
        self._break()

    @contextlib.contextmanager
    def breaking_off(self, may_break: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """What is done meanwhile is broken off when it comes, or has come, while `may_break` allows it.

        Raises:
            BrokenOff: it was.
        """
        self._may_break = may_break
        try:
            if self.came:
                self._break()
            yield
        finally:
            self._may_break = None

    def _break(self) -> None:
        if self._may_break is not None and self._may_break():
            self._may_break = None
            raise BrokenOff


@contextlib.contextmanager
def noted(*, active: bool) -> Iterator[Notice]:
    """What SIGTERM is noted in meanwhile; only the main thread can be told of signals."""
    notice = Notice()
    if not active or threading.current_thread() is not threading.main_thread():
        yield notice
        return
    before = signal.signal(signal.SIGTERM, notice.note)
    try:
        yield notice
    finally:
        # None is a handler that was not set from Python, and cannot be set from it.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
