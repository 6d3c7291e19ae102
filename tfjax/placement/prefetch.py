"""Items of an iterator made ready ahead of time by one thread.

The iterator is opened, advanced and released on that thread: whoever takes the items never waits for a release, and
Ctrl-C reaches the main thread at once, because it only ever waits on a queue.

    >>> items = Prefetcher(lambda: iter(range(3)), size=2)
    >>> list(items)
    [0, 1, 2]
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_END = object()
_JOIN_TIMEOUT_S = 5.0
_THREADS = ("tfjax-prefetch", "tfjax-release")


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
        self.items.put((_END, None))


_live: weakref.WeakSet[_Shared] = weakref.WeakSet()


class Prefetcher(Iterator[T], Generic[T]):
    """An iterator over what another one yields, up to `size` items ahead; closing it twice does no harm."""

    def __init__(self, open_items: Callable[[], Iterator[T]], *, size: int) -> None:
        """Start the thread.

        Args:
            open_items: called on the thread; makes the iterator.
            size: items held ready.
        """
        if size < 1:
            raise ValueError(f"prefetch size {size} is below 1: a thread holds at least one item ready")
        self._shared = _Shared(size)
        self._ended: BaseException | None = None
        self.wait_s = 0.0
        _live.add(self._shared)
        thread = threading.Thread(target=_produce, args=(self._shared, open_items), name=_THREADS[0], daemon=True)
        self._thread = thread
        self._stop = weakref.finalize(self, self._shared.stop)
        self._stop.atexit = False  # `_stop_all` does it for all of them, and waits
        thread.start()

    def __next__(self) -> T:
        """The next item.

        Raises:
            StopIteration: there is none left, or the prefetcher was closed.
            Exception: what the thread raised, with its traceback.
        """
        if self._ended is not None:
            raise self._ended.with_traceback(None)
        began = time.perf_counter()
        item, error = self._shared.items.get()
        self.wait_s += time.perf_counter() - began
        if item is not _END:
            self._shared.room.put(None)
            return item  # type: ignore[no-any-return]
        self._shared.items.put((_END, error))  # for whoever else waits
        self._ended = StopIteration() if error is None or self._shared.stopped else error
        self._stop()
        raise self._ended

    def close(self) -> None:
        """Stop the thread; a `next` that waits in another thread ends."""
        self._ended = self._ended or StopIteration()
        self._stop()
        if self._thread is not threading.current_thread():
            self._thread.join(_JOIN_TIMEOUT_S)  # an item that is being made may never come: it is not waited for


class Direct(Iterator[T], Generic[T]):
    """The same over an iterator that is advanced by whoever takes the items, with nothing made ahead."""

    def __init__(self, items: Iterator[T]) -> None:
        """Wrap an iterator."""
        self._items: Iterator[T] | None = items
        self._ended: BaseException | None = None
        self._lock = threading.Lock()
        self.wait_s = 0.0
        self._release = weakref.finalize(self, _release, items)
        self._release.atexit = False

    def __next__(self) -> T:
        """The next item; see `Prefetcher`."""
        with self._lock:
            if self._ended is not None or self._items is None:
                raise self._ended.with_traceback(None) if self._ended else StopIteration
            began = time.perf_counter()
            try:
                return next(self._items)
            except BaseException as error:
                self._ended = error
                raise
            finally:
                self.wait_s += time.perf_counter() - began

    def close(self) -> None:
        """Release the iterator."""
        self._ended = self._ended or StopIteration()
        self._items = None
        self._release()


def _release(items: Iterator[Any]) -> None:
    """Drop an iterator on another thread: deleting one of tf.data while it tunes itself stalls for up to a second."""
    box = [items]
    del items
    threading.Thread(target=box.clear, name=_THREADS[1], daemon=True).start()


def _produce(shared: _Shared, open_items: Callable[[], Iterator[Any]]) -> None:
    items: Iterator[Any] | None = None
    try:
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
        _live.discard(shared)


@atexit.register
def _stop_all() -> None:
    """Let no thread run TensorFlow while the interpreter goes down."""
    for shared in _live.copy():
        shared.stop()
    for thread in threading.enumerate():
        if thread.name in _THREADS:
            thread.join(_JOIN_TIMEOUT_S)
