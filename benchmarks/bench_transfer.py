"""Batches to an accelerator: the rate against pinned memory and a pageable put, and overlap with a matmul step.

Without an accelerator nothing is measured, and the script says so. It needs neither TensorFlow nor TFDS.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

import tfjax
from benchmarks.harness import Bench, Contender, Timed, arguments, require_equal

BATCHES = {"38.5 MB uint8": ((256, 224, 224, 3), np.uint8), "154 MB float32": ((256, 224, 224, 3), np.float32)}
PAGEABLE, PINNED = "device_put of pageable memory", "device_put from pinned memory"


def batch_of(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """One batch that nobody writes to."""
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8).astype(dtype)
    array.flags.writeable = False
    return array


def contenders(array: np.ndarray, device: jax.Device, count: int) -> list[Contender]:
    """The same array put `count` times, waited for each time."""
    pinned = jax.device_put(array, SingleDeviceSharding(device, memory_kind="pinned_host"))
    ours = tfjax.prefetch_to_device(itertools.repeat(array), device)

    def repeat(put: Callable[[], Any]) -> Callable[[], Timed]:
        def timed() -> int:
            for _ in range(count):
                jax.block_until_ready(put())
            return count

        return lambda: timed

    there = SingleDeviceSharding(device)
    return [
        Contender("tfjax.prefetch_to_device", repeat(lambda: next(ours))),
        Contender(PAGEABLE, repeat(lambda: jax.device_put(array, device))),
        Contender(PINNED, repeat(lambda: jax.device_put(pinned, there)), floor=True),
    ]


def matmul_step(device: jax.Device, seconds: float) -> Callable[[Any], Any]:
    """A jitted step of about as many seconds, which depends on the batch."""
    weights = jax.device_put(jnp.ones((4096, 4096), jnp.bfloat16), device)

    @jax.jit
    def step(batch: Any, repeats: Any) -> Any:
        first = batch.reshape(-1)[0].astype(jnp.bfloat16)
        return jax.lax.fori_loop(0, repeats, lambda _, x: x @ weights * 1e-4, weights + first).sum()

    probe = jax.device_put(np.zeros(8, np.uint8), device)
    step(probe, 10).block_until_ready()
    began = time.perf_counter()
    step(probe, 100).block_until_ready()
    repeats = max(1, round(seconds / (time.perf_counter() - began) * 100))
    return lambda batch: step(batch, repeats)


def overlap(items: Iterator[Any], count: int, step: Callable[[Any], Any] | None) -> float:
    """Seconds a batch and its step."""
    for _ in range(4):
        jax.block_until_ready(next(items))
    began = time.perf_counter()
    for batch in itertools.islice(items, count):
        jax.block_until_ready(step(batch) if step else batch)
        del batch
    return (time.perf_counter() - began) / count


def main() -> None:
    """Measure where there is an accelerator."""
    bench = Bench("transfer", "batches to an accelerator", quick=arguments(__doc__).quick)
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        bench.skip("everything", "JAX has no accelerator here")
        bench.write()
        return
    bench.fact("device", device.device_kind)
    count = bench.size(20, 3)
    for title, (shape, dtype) in BATCHES.items():
        array = batch_of(shape, dtype)
        (first,) = tfjax.prefetch_to_device([array], device)
        require_equal(title, int(np.asarray(first).sum(dtype=np.int64)), int(array.sum(dtype=np.int64)))
        table = bench.measure(title, contenders(array, device, count), unit="batch")
        pairs = zip(table[PINNED], table["tfjax.prefetch_to_device"], strict=True)
        rate = [a.per_item_us / b.per_item_us for a, b in pairs]
        bench.claim(f"{title}: rate over {PINNED}", rate, "x", "at least", 0.7, 0.9)
        shares = []
        for _ in range(bench.rounds):
            with tfjax.prefetch_to_device(itertools.repeat(array), device) as items:
                producer = overlap(items, count, None)
                step = matmul_step(device, producer)
                alone = overlap(itertools.repeat(first), count, step)
                shares.append(max(producer, alone) / overlap(items, count, step))
        bench.claim(f"{title}: share of max(transfer, matmul step)", shares, "", "at least", 0.96, 0.985)
    bench.write()


if __name__ == "__main__":
    main()
