"""Whether anything stays behind: 50 epochs, 50 iterators dropped in mid-epoch, 20 dropped pipelines.

Resident memory is compared after as many again of each kind: glibc gives every new thread one of 8 heaps a core, each
keeps some of what was freed in it, and it takes about 15 dropped pipelines until all have. What leaks goes on growing.
Threads, memory maps of record files and entries of the table of Python sources are counted, and must be what they were.
"""

from __future__ import annotations

import gc
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import tfjax
from benchmarks import machine
from benchmarks.consume import consume
from benchmarks.data import photos, random_records, write_tfrecord
from benchmarks.harness import Bench, arguments
from tfjax._tensorflow import tf
from tfjax.sources import python

BATCH = 500
MARK = "leaks.tfrecord"
Act = Callable[[], None]


def arrays_pipeline(rows: int) -> tfjax.Pipeline:
    """Images in memory behind a function and a cache."""
    pipe = tfjax.from_arrays(photos(rows)).map(lambda e: {**e, "image": 255 - e["image"]})
    return pipe.cache("memory").shuffle(seed=0).batch(BATCH)


def records_pipeline(path: str) -> tfjax.Pipeline:
    """Records read through memory maps and Python."""
    pipe = tfjax.from_records(path, {"x": tf.io.FixedLenFeature((), tf.string)}).options(fetch="mmap")
    return pipe.map(lambda e: {"size": tf.strings.length(e["x"])}).shuffle(seed=0).batch(BATCH)


def epoch(pipe: tfjax.Pipeline) -> Act:
    """One whole epoch."""
    return lambda: _run(pipe, None)


def dropped_iterator(pipe: tfjax.Pipeline) -> Act:
    """An iterator that is forgotten, not closed, after two batches."""
    return lambda: _run(pipe, 2)


def dropped_pipeline(make: Callable[[], tfjax.Pipeline]) -> Act:
    """A pipeline that is made, iterated for two batches, and forgotten."""
    return lambda: _run(make(), 2)


def _run(pipe: tfjax.Pipeline, batches: int | None) -> None:
    iterator = pipe.iterate()
    if batches is None:
        consume(iterator)
    else:
        for _ in range(batches):
            next(iterator)


def settled() -> dict[str, float]:
    """What is there once threads had time to end."""
    counts: dict[str, float] = {}
    for _ in range(50):
        gc.collect()
        counts = {
            "threads": sum(t.name.startswith("tfjax") for t in threading.enumerate()),
            "maps": Path("/proc/self/maps").read_text().count(MARK),
            "sources": len(python._objects),
        }
        if not counts["threads"]:
            break
        time.sleep(0.1)
    return {**counts, "rss_mib": machine.rss_mib()}


def measure(bench: Bench, title: str, act: Act, times: int) -> None:
    """Do it `times` times, then again, and compare."""
    begun = settled()
    for _ in range(times):
        act()
    before = settled()
    series = []
    for _ in range(times):
        act()
        series.append(round(machine.rss_mib(), 1))
    after = settled()
    growth = (after["rss_mib"] / before["rss_mib"] - 1) * 100
    resident = {"begun": begun, "after the first half": before, "after the second": after}
    bench.fact(f"{title}: MiB", {name: round(there["rss_mib"]) for name, there in resident.items()})
    bench.fact(f"{title}: most MiB on the way, before garbage collection", round(max(series)))
    bench.claim(f"{title}: growth of resident memory", [growth], "%", "at most", 2)
    left = [after[key] - before[key] for key in ("threads", "maps", "sources")]
    bench.claim(f"{title}: threads, maps and sources left behind", [float(sum(map(abs, left)))], "", "at most", 0)


def main() -> None:
    """Each kind over arrays and over records."""
    bench = Bench("leaks", "what stays behind", quick=arguments(__doc__).quick)
    epochs, drops, pipes = (bench.size(n, 3) for n in (50, 50, 20))
    with tempfile.TemporaryDirectory() as scratch:
        path = write_tfrecord(Path(scratch) / MARK, random_records(bench.size(20_000, 2_000), 3_000))
        makers = {
            "arrays": lambda: arrays_pipeline(bench.size(20_000, 2_000)),
            "records": lambda: records_pipeline(path),
        }
        for kind, make in makers.items():
            pipe = make()
            measure(bench, f"{kind}: {epochs} epochs", epoch(pipe), epochs)
            measure(bench, f"{kind}: {drops} iterators dropped in mid-epoch", dropped_iterator(pipe), drops)
            del pipe
            measure(bench, f"{kind}: {pipes} dropped pipelines", dropped_pipeline(make), pipes)
    bench.write()


if __name__ == "__main__":
    main()
