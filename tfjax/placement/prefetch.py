"""Items of an iterator made ready ahead of time by one thread.

The iterator is opened, advanced and released on that thread: whoever takes the items never waits for a release, and
Ctrl-C reaches the main thread at once, because it only ever waits on a queue.

    >>> items = Prefetcher(lambda: iter(range(3)), size=2)
    >>> list(items)
    [0, 1, 2]
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from tfjax._settings import settings
from tfjax.errors import StalledPipelineError

T = TypeVar("T")
Context = Callable[[], contextlib.AbstractContextManager[Any]]
_no_context: Context = contextlib.nullcontext
_END = object()
_JOIN_TIMEOUT_S = 5.0
_THREADS = ("tfjax-prefetch", "tfjax-release")
_SILENCE_S = 60.0  # after which a wait is said


class _Fork:
    """Whether this process is the fork of one that had used an iterator: TensorFlow and JAX hang in such a one."""

    used = False
    broken = False

    @classmethod
    def in_child(cls) -> None:
        cls.broken = cls.used
        _live.clear()

    @classmethod
    def check(cls) -> None:
        cls.used = True
        if cls.broken:
            raise RuntimeError(
                "this process was forked from one that ran tfjax, where TensorFlow and JAX hang: start processes with "
                "multiprocessing.get_context('spawn')"
            )


class _Shared:
    """What the two threads share: a queue each way, both written in C, and a flag."""

    def __init__(self, size: int) -> None:
        self.items: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self.room: SimpleQueue[None] = SimpleQueue()
        self.stopped = False
        for _ in range(size):
            self.room.put(None)

    def stop(self) -> None:
        self.stopped = True
        self.room.put(None)
        self.let_go()

    def let_go(self) -> None:
        """Drop what was made ready and is not wanted any more, and end whoever waits for it."""
        with contextlib.suppress(Empty):
            while True:
                self.items.get_nowait()
        self.items.put((_END, None))


_live: weakref.WeakSet[_Shared] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Fork.in_child)


class Prefetcher(Iterator[T], Generic[T]):
    """An iterator over what another one yields, up to `size` items ahead; closing it twice does no harm."""

    def __init__(self, open_items: Callable[[], Iterator[T]], *, size: int, context: Context = _no_context) -> None:
        """Start the thread.

        Args:
            open_items: called on the thread; makes the iterator.
            size: items held ready.
            context: entered on the thread.
        """
        if size < 1:
            raise ValueError(f"prefetch size {size} is below 1: a thread holds at least one item ready")
        _Fork.check()
        self._shared = _Shared(size)
        self._ended: BaseException | None = None
        self.wait_s = 0.0
        _live.add(self._shared)
        work = (self._shared, open_items, context)
        thread = threading.Thread(target=_produce, args=work, name=_THREADS[0], daemon=True)
        self._thread = thread
        self._stop = weakref.finalize(self, self._shared.stop)
        self._stop.atexit = False  # `_stop_all` does it for all of them, and waits
        thread.start()

    def __next__(self) -> T:
        """The next item.

        Raises:
            StopIteration: there is none left, or the prefetcher was closed.
            StalledPipelineError: none came within the time that `tfjax.configure(stall_timeout_s=...)` sets.
            Exception: what the thread raised, with its traceback.
        """
        if _Fork.broken:
            _Fork.check()
        if self._ended is not None:
            raise self._ended.with_traceback(None)
        began = time.perf_counter()
        try:
            item, error = self._get()
        finally:
            self.wait_s += time.perf_counter() - began
        if item is not _END:
            self._shared.room.put(None)
            return item  # type: ignore[no-any-return]
        if self._ended is None:
            self._ended = StopIteration() if error is None or self._shared.stopped else error
        self._stop()
        self._shared.items.put((_END, None))  # for whoever else waits
        raise self._ended

    def _get(self) -> tuple[Any, BaseException | None]:
        """Wait for an item; a long wait is said once, and ends where a limit is set."""
        limit, waited = settings.stall_timeout_s, 0.0
        wait = _SILENCE_S if limit is None else min(limit, _SILENCE_S)
        while True:
            try:
                return self._shared.items.get(timeout=wait)
            except Empty:
                waited += wait
            if limit is not None and waited >= limit:
                raise StalledPipelineError(
                    f"no batch came for {waited:g} s, the stall_timeout_s of tfjax.configure; {self._where()}"
                )
            if waited == wait:
                warnings.warn(f"no batch came for {waited:g} s, still waiting; {self._where()}", stacklevel=4)
            wait = _SILENCE_S if limit is None else min(limit - waited, _SILENCE_S)

    def _where(self) -> str:
        """What the thread is doing, as far as Python sees it."""
        frame = sys._current_frames().get(self._thread.ident or -1)
        if frame is None:
            return "the thread that makes them has ended"
        last = traceback.extract_stack(frame)[-1]
        return f"the thread that makes them is in {last.name}, line {last.lineno} of {last.filename}"

    def close(self) -> None:
        """Stop the thread; a `next` that waits in another thread ends.

        An item that is being made may never come: it is waited for 5 s, and then left to itself, with a warning.
        """
        self._ended = self._ended or StopIteration()
        self._stop()
        if self._thread is threading.current_thread() or _Fork.broken:
            return
        self._thread.join(_JOIN_TIMEOUT_S)
        if self._thread.is_alive():
            warnings.warn(f"closed while a batch was being made; {self._where()}", stacklevel=3)


class Direct(Iterator[T], Generic[T]):
    """The same over an iterator that is advanced by whoever takes the items, with nothing made ahead."""

    def __init__(self, items: Iterator[T], *, context: Context = _no_context) -> None:
        """Wrap an iterator, which is advanced in a context."""
        _Fork.check()
        self._context = context
        self._items: Iterator[T] | None = items
        self._ended: BaseException | None = None
        self._lock = threading.Lock()
        self.wait_s = 0.0
        self._release = weakref.finalize(self, release, items)
        self._release.atexit = False  # `_stop_all` drops them
        _direct.add(self)

    def __next__(self) -> T:
        """The next item; see `Prefetcher`."""
        if _Fork.broken:
            _Fork.check()
        with self._lock:
            if self._ended is not None or self._items is None:
                raise self._ended.with_traceback(None) if self._ended else StopIteration
            began = time.perf_counter()
            try:
                with self._context():
                    return next(self._items)
            except BaseException as error:
                self._ended = error
                raise
            finally:
                self.wait_s += time.perf_counter() - began

    def drop(self) -> None:
        """Release the iterator on this thread."""
        self._ended, self._items = self._ended or StopIteration(), None
        self._release.detach()

    def close(self) -> None:
        """Release the iterator."""
        self._ended = self._ended or StopIteration()
        self._items = None
        self._release()


_direct: weakref.WeakSet[Direct[Any]] = weakref.WeakSet()


def made_ahead(
    open_items: Callable[[], Iterator[T]], *, size: int, context: Context = _no_context
) -> Prefetcher[T] | Direct[T]:
    """The items of an iterator, `size` of them ahead on a thread, or none on the caller's; in a context on either."""
    if size:
        return Prefetcher(open_items, size=size, context=context)
    return Direct(open_items(), context=context)


def release(items: Any) -> None:
    """Drop an iterator on another thread: deleting one of tf.data while it tunes itself stalls for up to a second."""
    box = [items]
    del items
    threading.Thread(target=box.clear, name=_THREADS[1], daemon=True).start()


def _produce(shared: _Shared, open_items: Callable[[], Iterator[Any]], context: Context) -> None:
    items: Iterator[Any] | None = None
    try:
        with context():
            items = open_items()
            while True:
                shared.room.get()
                if shared.stopped:
                    return
                item = next(items, _END)
                if item is _END:
                    break
                shared.items.put((item, None))
                del item
        shared.items.put((_END, None))
    except BaseException as error:  # noqa: BLE001 - delivered to whoever takes the items
        shared.items.put((_END, error))
    finally:
        del items
        if shared.stopped:
            shared.let_go()  # also what was put just after it was told to stop
        _live.discard(shared)


@atexit.register
def _stop_all() -> None:
    """Let no thread run TensorFlow while the interpreter goes down."""
    for shared in _live.copy():
        shared.stop()
    for direct in _direct.copy():
        direct.drop()
    for thread in threading.enumerate():
        if thread.name in _THREADS:
            thread.join(_JOIN_TIMEOUT_S)
