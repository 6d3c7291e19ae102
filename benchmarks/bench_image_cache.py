"""Caches of decoded photos, uint8 224x224x3: later epochs, the cost of filling them, and the memory that they take.

Batches are waited for, and not read, except where memory is measured.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

import tfjax
from benchmarks import cache_memory
from benchmarks.consume import going_on, receive, row_sums
from benchmarks.data import full_batches
from benchmarks.harness import OUT, Bench, Contender, Timed, arguments, cpu_ratios, ratios, require_equal
from benchmarks.photos import AS_THEY_ARE, SIDE, Photos, photos, why_no_photos
from tfjax import image

BATCH, PREFETCH = 50, 4
# Batches a sample, of those that are cached and of those that are decoded.
STEPS, DECODED_STEPS = 120, 20
ROUNDS, FILL_ROUNDS = 7, 5
DECODED, MEMORY, PATH = "tfjax, decoded each epoch", "tfjax, cache('memory')", "tfjax, cache(path)"
FLOOR, PUT = "NumPy permuted gather", "NumPy permuted gather + device_put"
FOLDER = OUT / "cache"


def decoded(found: Photos) -> tfjax.Pipeline:
    """What is cached: the recipe that is the same each epoch."""
    files = tfjax.from_files(found.paths, label=found.labels)
    return files.apply(image.Decode(), image.ResizeShortSide(256), image.CenterCrop(SIDE))


def batched(pipe: tfjax.Pipeline) -> tfjax.Pipeline:
    """Shuffled, and no more than a few batches ready."""
    return pipe.shuffle(seed=0).batch(BATCH).options(prefetch_batches=PREFETCH)


def new_folder() -> str:
    """The path of an empty cache; those before are removed."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    return str(FOLDER / "photos")


def numpy_gather(rows: dict[str, np.ndarray], place: Callable[[Any], Any]) -> Iterator[Any]:
    """A permutation an epoch, and `np.take` a batch."""
    rng = np.random.default_rng(0)
    while True:
        for index in full_batches(rng.permutation(len(rows["label"])), BATCH):
            yield place({key: np.take(value, index, axis=0) for key, value in rows.items()})


def later_epochs(bench: Bench, found: Photos) -> None:
    """Decoding, both caches once they are full, and NumPy."""
    ways = {
        DECODED: batched(decoded(found)),
        MEMORY: batched(decoded(found).cache("memory")),
        PATH: batched(decoded(found).cache(new_folder())),
    }
    going = {name: pipe.iterate(forever=True) for name, pipe in ways.items()}
    epoch = len(found.paths) // BATCH
    rows = {key: np.concatenate([np.asarray(b[key]) for b in ways[DECODED].iterate()]) for key in ("image", "label")}
    want = row_sums([rows])
    for name in (MEMORY, PATH):
        receive(itertools.islice(going[name], epoch))
        require_equal(
            f"the second epoch of {name} and decoded photos", row_sums(itertools.islice(going[name], epoch)), want
        )
    steps = {DECODED: bench.size(DECODED_STEPS, 2)}
    contenders = [Contender(n, going_on(batches, steps.get(n, bench.size(STEPS, 4)))) for n, batches in going.items()]
    for name, place in ((PUT, jax.device_put), (FLOOR, lambda batch: batch)):
        batches = numpy_gather(rows, place)
        contenders.append(Contender(name, going_on(batches, bench.size(STEPS, 4)), floor=name == FLOOR))
    table = bench.measure("later epochs", contenders, unit="photo", rounds=bench.size(ROUNDS, 1))
    for name in (MEMORY, PATH):
        bench.claim_faster(f"later epochs, {name}", table, name, DECODED, firm=12)
        bench.claim_within(f"later epochs, {name}", table, name, FLOOR, firm=1.3)


def first_epoch(bench: Bench, found: Photos) -> None:
    """A whole epoch of a new pipeline, planned before, that fills a cache, and one that does not."""
    ways: dict[str, Callable[[], tfjax.Pipeline]] = {
        "not cached": lambda: decoded(found),
        "filling cache('memory')": lambda: decoded(found).cache("memory"),
        "filling cache(path)": lambda: decoded(found).cache(new_folder()),
    }
    without, *filling = ways

    def opener(make: Callable[[], tfjax.Pipeline]) -> Callable[[], Timed]:
        def open_() -> Timed:
            pipe, held = batched(make()), []
            pipe.explain()

            def timed() -> int:
                held.append(pipe.iterate())
                return receive(held[0])

            return timed

        return open_

    contenders = [Contender(name, opener(make)) for name, make in ways.items()]
    table = bench.measure("first epoch", contenders, unit="photo", rounds=bench.size(FILL_ROUNDS, 1))
    for name in filling:
        for what, found_ratios in (("CPU time", cpu_ratios), ("the clock", ratios)):
            over = [100 * (x - 1) for x in found_ratios(table, name, without)]
            bench.claim(f"{name}, over an epoch that does not, by {what}", over, "%", "at most", 10)


def memory(bench: Bench) -> None:
    """Anonymous memory of a process that trains on a path cache of 4 GB."""
    size = bench.size(4_000_000_000, 64_000_000)
    folder, rows = new_folder(), size // cache_memory.ROW_BYTES
    free = shutil.disk_usage(FOLDER).free
    if not cache_memory.is_known() or free < 2 * size:
        reason = f"{free / 1e9:.0f} GB are free on the disk" if cache_memory.is_known() else "no RssAnon in /proc"
        bench.skip(f"memory of a path cache of {size / 1e9:.3g} GB", reason)
        return
    for what in ("fills", "trains on"):
        took = _run(folder, rows)
        figures = ", ".join(f"{name} {value:,.0f}" for name, value in took.items())
        bench.fact(f"a process that {what} a path cache of {size / 1e9:.3g} GB", figures)
    title = f"anonymous memory of a process that trains on a path cache of {size / 1e9:.3g} GB"
    bench.claim(title, [took["most_mib"] * 2**20 / 1e6], "MB", "at most", 1000)


def _run(folder: str, rows: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.cache_memory", folder, str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        sys.exit(f"{command} ended with {done.returncode}: {done.stderr[-1000:]}")
    took: dict[str, float] = json.loads(done.stdout)
    return took


def main() -> None:
    """Measure all three."""
    bench = Bench("image_cache", f"caches of photos, uint8 {SIDE}x{SIDE}x3", quick=arguments(__doc__).quick)
    try:
        if reason := why_no_photos():
            bench.skip("speed", reason)
        else:
            found = photos(AS_THEY_ARE, bench.size(2_000, 100))
            later_epochs(bench, found)
            first_epoch(bench, found)
        memory(bench)
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)
    bench.write()


if __name__ == "__main__":
    main()
