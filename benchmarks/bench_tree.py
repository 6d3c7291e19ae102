"""A tree of four leaves to 8 devices of one host, and a foreign iterable of such trees: what the consumer waits."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import grain
import jax
import numpy as np
from flax import jax_utils
from jax.sharding import NamedSharding, PartitionSpec

import tfjax
from benchmarks.consume import wait_for
from benchmarks.harness import Bench, Contender, Timed, arguments, require_equal, spread
from tfjax.placement.prefetch import Prefetcher
from tfjax.placement.put import Putter

DEVICES, ROWS, STEP_S = 8, 256, 0.03
PUT = "device_put(tree, sharding)"
FOREIGN = "device_put(tree, sharding), by the consumer"
Tree = dict[str, np.ndarray]


def aligned(array: np.ndarray) -> np.ndarray:
    """The same array read-only, where a device can share it: as TensorFlow's memory is."""
    memory = np.empty(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    out = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    out[:] = array
    memory.flags.writeable = out.flags.writeable = False
    return out


def tree() -> Tree:
    """A batch of photos with three small leaves, every shard of which starts on 64 bytes."""
    rng = np.random.default_rng(0)
    return {
        "image": aligned(rng.integers(0, 256, (ROWS, 224, 224, 3), np.uint8)),
        "label": aligned(np.arange(ROWS, dtype=np.int32)),
        "box": aligned(rng.random((ROWS, 4), np.float32)),
        "embedding": aligned(rng.random((ROWS, 64), np.float32)),
    }


def shared(batch: dict[str, jax.Array], of: Tree) -> int:
    """How many shards lie in the memory that they came from."""
    found = 0
    for key, leaf in batch.items():
        begin, end = of[key].ctypes.data, of[key].ctypes.data + of[key].nbytes
        found += sum(begin <= s.data.unsafe_buffer_pointer() < end for s in leaf.addressable_shards)
    return found


def placed(batch: Tree, sharding: NamedSharding, count: int) -> list[Contender]:
    """The placement alone: the leaves of one batch, again and again."""
    leaves, structure = jax.tree.flatten(batch)
    put = Putter([sharding] * len(leaves))

    def repeat(place: Callable[[], Any]) -> Callable[[], Timed]:
        def timed() -> int:
            for _ in range(count):
                wait_for(place())
            return count

        return lambda: timed

    ours = lambda: jax.tree.unflatten(structure, put(leaves))  # noqa: E731
    by_leaf = lambda: {k: jax.make_array_from_callback(v.shape, sharding, v.__getitem__) for k, v in batch.items()}  # noqa: E731
    return [
        Contender("tfjax", repeat(ours)),
        Contender("make_array_from_callback a leaf", repeat(by_leaf)),
        Contender(PUT, repeat(lambda: jax.device_put(batch, sharding)), floor=True),
    ]


def wait_us(items: Iterator[Any], count: int) -> float:
    """What a consumer spends a batch in `next` and in the wait for its arrays, a sleeping step between two."""
    for _ in range(4):  # what is ready before the first
        next(items)
    waited = 0.0
    for _ in range(count):
        time.sleep(STEP_S)
        began = time.perf_counter()
        wait_for(next(items))
        waited += time.perf_counter() - began
    return waited / count * 1e6


def foreign(batch: Tree, sharding: NamedSharding) -> dict[str, Callable[[], Iterator[Any]]]:
    """Iterables of NumPy trees, new arrays each time as a loader makes them, and ways to put them."""
    rows = {k: v.reshape(DEVICES, ROWS // DEVICES, *v.shape[1:]) for k, v in batch.items()}

    def trees() -> Iterator[Tree]:
        return ({k: v.copy() for k, v in batch.items()} for _ in itertools.count())

    def by_grain() -> Iterator[Any]:
        data = grain.MapDataset.range(10**6).map(lambda _: {k: v.copy() for k, v in batch.items()})
        # Its default is 500 batches ahead, which are 19 GB here.
        ahead = data.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))
        return iter(grain.experimental.device_put(ahead, sharding))

    def by_flax() -> Iterator[Any]:
        return jax_utils.prefetch_to_device(({k: v.copy() for k, v in rows.items()} for _ in itertools.count()), 2)

    return {
        "tfjax.prefetch_to_device": lambda: tfjax.prefetch_to_device(trees(), sharding),
        "tfjax.prefetch_to_device, size=0": lambda: tfjax.prefetch_to_device(trees(), sharding, size=0),
        # The trees are made on a thread, so that `device_put` alone is timed, and not the making.
        FOREIGN: lambda: (jax.device_put(t, sharding) for t in Prefetcher(trees, size=2)),
        "grain.experimental.device_put": by_grain,
        "flax prefetch_to_device": by_flax,
    }


def measure_foreign(bench: Bench, batch: Tree, sharding: NamedSharding) -> None:
    """The consumer's time, in which tfjax does nothing but take a batch from a queue."""
    ways = foreign(batch, sharding)
    count = bench.size(20, 2)
    sums = {name: _sums(next(open_items())) for name, open_items in ways.items()}
    require_equal("foreign batches", list(sums.values()), [sums[FOREIGN]] * len(sums))
    rounds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(bench.rounds):
        for name in list(ways) if number % 2 else reversed(list(ways)):
            rounds[name].append(wait_us(ways[name](), count))
    for name, found in rounds.items():
        low, middle, high = spread(found)
        bench.fact(f"foreign trees, consumer's wait, {name}", f"{middle:.0f} us ({low:.0f} to {high:.0f})")
    ratio = [a / b for a, b in zip(rounds["tfjax.prefetch_to_device"], rounds[FOREIGN], strict=True)]
    bench.claim(f"foreign trees, consumer's wait over {FOREIGN}", ratio, "x", "at most", 1.1)
    alone = [a / b for a, b in zip(rounds["tfjax.prefetch_to_device, size=0"], rounds[FOREIGN], strict=True)]
    bench.claim("foreign trees, the same without a thread, making included", alone, "x", "at most", None)


def _sums(batch: Any) -> list[float]:
    return [float(np.asarray(leaf, np.float64).sum()) for leaf in jax.tree.leaves(batch)]


def main() -> None:
    """Count shared shards, time the placement alone, then foreign iterables."""
    jax.config.update("jax_num_cpu_devices", DEVICES)
    bench = Bench("tree", "a tree of four leaves over 8 devices", quick=arguments(__doc__).quick)
    mesh = jax.make_mesh((DEVICES,), ("data",))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    batch = tree()
    (ours,) = tfjax.prefetch_to_device([batch], sharding)
    require_equal("trees", _sums(ours), _sums(jax.device_put(batch, sharding)))
    bench.claim("shards of 32 without a copy", [shared(ours, batch)], "of 32", "at least", 32)
    table = bench.measure("placed", placed(batch, sharding, bench.size(500, 10)), unit="batch")
    bench.claim("4 leaves to 8 devices", [s.per_item_us for s in table["tfjax"]], "us", "at most", 160, 120)
    bench.claim_within("4 leaves to 8 devices", table, "tfjax", PUT, firm=None)
    measure_foreign(bench, batch, sharding)
    bench.write()


if __name__ == "__main__":
    main()
