"""What the prefetching iterator adds to the bridge: its thread, its queue, its count of batches.

The dataset is one small batch of constants, repeated, so that production costs next to nothing.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax

import tfjax
from benchmarks.bench_handoff import dataset_of, ours
from benchmarks.harness import Bench, Contender, Table, Timed, arguments, require_equal
from tfjax.placement.prefetch import Prefetcher

BRIDGE = "the bridge alone, no thread"
DEPTH = 2
STEP_S = 0.002


def plain_queue(items: Iterator[Any]) -> Iterator[Any]:
    """What people write: a daemon thread that fills a `queue.Queue(2)`."""
    ready: queue.Queue[Any] = queue.Queue(DEPTH)

    def fill() -> None:
        for item in items:
            ready.put(item)

    threading.Thread(target=fill, daemon=True).start()
    while True:
        yield ready.get()


def iterator(prefetch: int) -> Iterator[Any]:
    """The whole of tfjax."""
    pipe = tfjax.from_tf(dataset_of((8, 4), "float32"), batched=True).place(jax.devices()[0], prefetch=prefetch)
    return pipe.iterate(forever=True)


def flow(items: Iterator[Any], count: int, step: Any = None) -> Timed:
    """`count` items, each followed by a step, after some that may have been made ready before."""
    for _ in range(2 * DEPTH):
        next(items)

    def timed() -> int:
        for item in itertools.islice(items, count):
            if step:
                step()
            del item
        return count

    return timed


def sleep_step() -> None:
    """A step that leaves the GIL to others."""
    time.sleep(STEP_S)


def python_step() -> None:
    """A step that holds the GIL."""
    end = time.perf_counter() + STEP_S
    while time.perf_counter() < end:
        pass


def bridge() -> Iterator[Any]:
    """The bridge over the same dataset."""
    return ours(dataset_of((8, 4), "float32"))


def measure(bench: Bench, title: str, count: int, step: Any) -> Table:
    """All ways, each an iterator that goes on, beside one step."""
    ways: dict[str, Iterator[Any]] = {
        "tfjax": iterator(DEPTH),
        "tfjax, prefetch=0": iterator(0),
        "the bridge through queue.Queue(2)": plain_queue(bridge()),
        BRIDGE: bridge(),
    }
    first = [int(next(items)["label"].sum()) for items in ways.values()]
    require_equal("first batches", first, first[:1] * len(first))
    contenders = [Contender(name, _opener(items, count, step)) for name, items in ways.items()]
    if step is None:
        contenders += _queues_alone(count)
    else:
        contenders.append(Contender("the step alone", _opener(itertools.repeat(0), count, step), floor=True))
    return bench.measure(title, contenders, unit="batch")


def _queues_alone(count: int) -> list[Contender]:
    counted = Prefetcher(lambda: itertools.count(), size=DEPTH)
    plain = plain_queue(itertools.count())
    return [
        Contender("tfjax's Prefetcher, of integers", _opener(counted, count, None)),
        Contender("queue.Queue(2), of integers", _opener(plain, count, None), floor=True),
    ]


def _opener(items: Iterator[Any], count: int, step: Any) -> Any:
    return lambda: flow(items, count, step)


def main() -> None:
    """Measure it idle, beside a sleeping step and beside a step of pure Python."""
    bench = Bench("prefetch", "the prefetching iterator on top of the bridge", quick=arguments(__doc__).quick)
    table = measure(bench, "idle: nothing but next", bench.size(3000, 50), None)
    added = [a.per_item_us - b.per_item_us for a, b in zip(table["tfjax"], table[BRIDGE], strict=True)]
    bench.claim("idle, on top of the bridge", added, "us", "at most", 45, 30)
    bench.claim("idle, the bridge included", [s.per_item_us for s in table["tfjax"]], "us", "at most", None)
    for title, step in (("sleeping", sleep_step), ("pure Python", python_step)):
        measure(bench, f"beside a {title} step of 2 ms: step and wait", bench.size(200, 5), step)
    bench.write()


if __name__ == "__main__":
    main()
