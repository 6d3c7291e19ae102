"""The thread that makes items ready: what it delivers, how it ends, and that nothing is left behind."""

import gc
import itertools
import signal
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator

import jax
import numpy as np
import pytest
import tensorflow as tf

import tfjax
from tests import python_process
from tfjax.graph.cache.cached import store_of
from tfjax.placement.prefetch import Prefetcher


def threads() -> int:
    return sum(t.name.startswith("tfjax") for t in threading.enumerate())


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> bool:
    end = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


def numbers_then_fail(n: int) -> Iterator[int]:
    yield from range(n)
    raise KeyError("broken record")


class Hanging(Iterator[int]):
    """Gives one item, then hangs until it is let go."""

    def __init__(self) -> None:
        self.go, self.hangs, self.given = threading.Event(), threading.Event(), False

    def __next__(self) -> int:
        if not self.given:
            self.given = True
            return 0
        self.hangs.set()
        self.go.wait(30)
        raise StopIteration


@pytest.mark.parametrize("size", [1, 2, 10])
@pytest.mark.parametrize("n", [0, 1, 7])
def test_items_come_in_order_and_end(size: int, n: int) -> None:
    items = Prefetcher(lambda: iter(range(n)), size=size)
    assert list(items) == list(range(n))
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(items)
    assert wait_until(lambda: not items._thread.is_alive())


def test_none_is_an_item() -> None:
    assert list(Prefetcher(lambda: iter([None, None]), size=2)) == [None, None]


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_below_one(size: int) -> None:
    with pytest.raises(ValueError, match=rf"size {size} .*at least one"):
        Prefetcher(lambda: iter(()), size=size)


@pytest.mark.parametrize("size", [1, 3])
def test_no_more_than_size_items_ahead(size: int) -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in itertools.count():
            made.append(i)
            yield i

    prefetcher = Prefetcher(items, size=size)
    assert wait_until(lambda: len(made) == size)
    for taken in range(1, 4):
        next(prefetcher)
        assert wait_until(lambda n=taken + size: len(made) == n)
    time.sleep(0.05)
    assert len(made) == 3 + size
    prefetcher.close()


def test_an_exception_comes_in_its_place_with_its_traceback() -> None:
    items = Prefetcher(lambda: numbers_then_fail(3), size=2)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="broken record") as caught:
        next(items)
    assert "numbers_then_fail" in [frame.name for frame in traceback.extract_tb(caught.tb)]
    with pytest.raises(KeyError, match="broken record"):
        next(items)
    items.close()


def test_an_exception_of_opening() -> None:
    def fails() -> Iterator[int]:
        raise OSError("no such file")

    with pytest.raises(OSError, match="no such file"):
        next(Prefetcher(fails, size=1))


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_even_what_is_no_exception(kind: type[BaseException]) -> None:
    def fails() -> Iterator[int]:
        raise kind
        yield

    with pytest.raises(kind):
        next(Prefetcher(fails, size=1))


def test_closing_twice_is_closing_once() -> None:
    items = Prefetcher(itertools.count, size=2)
    assert next(items) == 0
    items.close()
    items.close()
    assert not items._thread.is_alive()
    with pytest.raises(StopIteration):
        next(items)


def test_closing_after_an_error_keeps_quiet() -> None:
    items = Prefetcher(lambda: numbers_then_fail(0), size=2)
    time.sleep(0.05)
    items.close()
    with pytest.raises(StopIteration):
        next(items)


@pytest.mark.parametrize("waiting", [1, 3])
def test_closing_ends_a_next_that_waits_in_another_thread(waiting: int) -> None:
    source = Hanging()
    items, ended = Prefetcher(lambda: source, size=1), []
    assert next(items) == 0

    def take() -> None:
        ended.append(next(items, "end"))

    takers = [threading.Thread(target=take, daemon=True) for _ in range(waiting)]
    for taker in takers:
        taker.start()
    time.sleep(0.1)
    closing = threading.Thread(target=items.close, daemon=True)
    closing.start()
    for taker in takers:
        taker.join(3)
    source.go.set()
    closing.join(10)
    assert ended == ["end"] * waiting
    assert not closing.is_alive()


def test_closing_does_not_wait_for_an_item_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfjax.placement.prefetch._JOIN_TIMEOUT_S", 0.2)
    source = Hanging()
    items = Prefetcher(lambda: source, size=1)
    assert next(items) == 0
    assert source.hangs.wait(10)
    with pytest.warns(UserWarning, match=r"closed while a batch was being made.*in wait, line"):
        items.close()
    source.go.set()
    assert wait_until(lambda: not items._thread.is_alive())


def test_dropping_it_ends_the_thread() -> None:
    items = Prefetcher(itertools.count, size=2)
    next(items)
    thread = items._thread
    del items
    gc.collect()
    assert wait_until(lambda: not thread.is_alive())


def test_the_iterator_is_opened_and_released_on_the_thread() -> None:
    where: dict[str, str] = {}

    class Traced(Iterator[int]):
        def __init__(self) -> None:
            where["opened"] = threading.current_thread().name

        def __next__(self) -> int:
            return 0

        def __del__(self) -> None:
            where["released"] = threading.current_thread().name

    items = Prefetcher(Traced, size=2)
    next(items)
    items.close()
    assert where == {"opened": "tfjax-prefetch", "released": "tfjax-prefetch"}


def test_items_are_not_held_by_the_thread() -> None:
    class Item:
        pass

    def items() -> Iterator[Item]:
        while True:
            yield Item()

    prefetcher = Prefetcher(items, size=1)
    seen = [weakref.ref(next(prefetcher)) for _ in range(5)]
    assert wait_until(lambda: sum(ref() is not None for ref in seen) <= 1)
    prefetcher.close()


def test_several_threads_share_the_items() -> None:
    items, got = Prefetcher(lambda: iter(range(500)), size=2), []
    takers = [threading.Thread(target=lambda: got.extend(items), daemon=True) for _ in range(4)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join(5)
    assert sorted(got) == list(range(500))
    assert not any(taker.is_alive() for taker in takers)


def endless(rows: int = 40) -> "tfjax.BatchIterator":
    return tfjax.from_arrays({"x": np.arange(rows)}).shuffle(0).batch(4).iterate(forever=True)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_threads_of_a_pipeline_share_its_batches(prefetch: int) -> None:
    pipe, got = tfjax.from_arrays(np.arange(200)).batch(1).place(jax.devices()[0], prefetch=prefetch), []
    with pipe.iterate() as batches:
        takers = [threading.Thread(target=lambda: got.extend(batches), daemon=True) for _ in range(3)]
        for taker in takers:
            taker.start()
        for taker in takers:
            taker.join(10)
        assert not any(taker.is_alive() for taker in takers)
    assert sorted(int(b[0]) for b in got) == list(range(200))


def test_an_iterator_counts_what_it_delivered() -> None:
    with endless() as batches:
        time.sleep(0.2)
        assert (batches.step, batches.stats.batches, batches.state.step) == (0, 0, 0)
        next(batches)
        time.sleep(0.05)
        assert (batches.step, batches.stats.batches, batches.state.step) == (1, 1, 1)
        stats = batches.stats
        assert 0 <= stats.wait_s <= stats.elapsed_s and 0 <= stats.wait_share <= 1


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_closed_iterator_says_so(prefetch: int) -> None:
    pipe = tfjax.from_arrays(np.arange(8)).batch(2).place(jax.devices()[0], prefetch=prefetch)
    with pipe.iterate() as batches:
        next(batches)
    batches.close()
    assert (batches.step, batches.state.step, batches.epoch, batches.stats.batches) == (1, 1, 0, 1)
    with pytest.raises(ValueError, match=r"closed.*iterate\(state="):
        next(batches)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_error_is_said_again(prefetch: int) -> None:
    rows = np.array([1, 2, 2**40, 3])
    with tfjax.from_arrays(rows).batch(1).place(jax.devices()[0], prefetch=prefetch).iterate() as batches:
        assert [int(next(batches)[0]) for _ in range(2)] == [1, 2]
        for _ in range(2):
            with pytest.raises(tfjax.SpecError, match="int32"):
                next(batches)
        assert batches.step == 2


def test_50_dropped_iterators_leave_no_thread() -> None:
    assert wait_until(lambda: threads() == 0)
    pipe = tfjax.from_arrays({"x": np.arange(40)}).shuffle(0).batch(4)
    for _ in range(50):
        batches = pipe.iterate(forever=True)
        next(batches)
        del batches
    gc.collect()
    assert wait_until(lambda: threads() == 0, timeout_s=20)


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "dropped"])
def test_a_dropped_pipeline_is_freed(closed: bool) -> None:
    pipe = tfjax.from_arrays({"x": np.arange(40)}).map(lambda e: {"x": e["x"] + 1}).cache("memory")
    stages = pipe._chain
    pipe = pipe.shuffle(0).batch(4)
    batches = pipe.iterate(forever=True)
    for _ in range(15):
        next(batches)
    cache = store_of(stages[-1])
    assert cache is not None and cache.rows == 40
    left = {"cache": weakref.ref(cache), "source": weakref.ref(stages[0].source), "pipe": weakref.ref(pipe)}
    if closed:
        batches.close()
    del pipe, batches, stages, cache

    def alive() -> list[str]:
        gc.collect()
        return [name for name, ref in left.items() if ref() is not None]

    wait_until(lambda: not alive())
    assert alive() == []


INTERRUPTED = """
    import os, time, numpy as np, tensorflow as tf, tfjax

    def slow(i):
        if i >= 1:
            time.sleep(60)
        return i

    rows = tf.data.Dataset.range(5).map(lambda i: tf.ensure_shape(tf.numpy_function(slow, [i], tf.int64), ()))
    batches = tfjax.from_tf(rows.batch(1)).iterate()
    next(batches)
    print("waiting", flush=True)
    try:
        next(batches)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        os._exit(7)
"""


def test_ctrl_c_gets_through_while_next_waits() -> None:
    process = python_process.start(INTERRUPTED)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (7, "interrupted\n"), err
    assert time.monotonic() - began < 10


LIVE = """
    import numpy as np, tfjax
    pipe = tfjax.from_arrays({"x": np.zeros((64, 1000))}).shuffle(0).batch(8)
    iterators = [pipe.iterate(epochs=5), pipe.iterate(forever=True), pipe.iterate(epochs=1)]
    for batches in iterators:
        next(batches)
    iterators.pop().close()
"""
FAILING = (
    LIVE
    + """
    for batch in tfjax.from_arrays(np.array([1, 2**40])).batch(1).iterate(forever=True):
        pass
"""
)


def test_the_interpreter_ends_without_noise() -> None:
    quiet, failing = python_process.start(LIVE), python_process.start(FAILING)
    out, err = quiet.communicate(timeout=60)
    assert (quiet.returncode, out, err) == (0, "", "")
    _, err = failing.communicate(timeout=60)
    assert failing.returncode == 1
    assert "\ntfjax.errors.SpecError: " in err


def test_tensorflow_is_not_needed_to_prefetch() -> None:
    done = python_process.run("""
        import sys
        from tfjax.placement.prefetch import Prefetcher
        print(list(Prefetcher(lambda: iter(range(3)), size=2)), "tensorflow" in sys.modules)
    """)
    assert done.stdout == "[0, 1, 2] False\n", done.stderr


def test_a_graph_that_fails_while_it_opens() -> None:
    pipe = tfjax.from_tf(tf.data.Dataset.range(4).map(lambda x: 1 // (x - x)).batch(2))
    with pipe.iterate() as batches, pytest.raises(tfjax.TfjaxError, match=r"(?i)division by zero"):
        next(batches)
