"""One batch over 8 devices of one host: whether its shards are shared, and what it costs over one device."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import tensorflow_datasets as tfds
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import tfjax
from benchmarks.bench_handoff import dataset_of
from benchmarks.consume import wait_for
from benchmarks.harness import Bench, Contender, Timed, arguments, require_equal
from tfjax._tensorflow import tf

DEVICES = 8
SHAPE = (256, 224, 224, 3)


def placed(ds: tf.data.Dataset, where: Any, axis: str | None = None) -> Iterator[Any]:
    """tfjax, on the calling thread, so that what is timed is the placement and not a queue."""
    return tfjax.from_tf(ds, batched=True).place(where, axis, prefetch=0).iterate(forever=True)


def usual(ds: tf.data.Dataset, where: Any) -> Iterator[Any]:
    """Views, put by `jax.device_put`."""
    return (jax.device_put(batch, where) for batch in tfds.as_numpy(ds))


def handed(batches: Iterator[Any], count: int) -> Callable[[], Timed]:
    """`count` batches, each waited for."""

    def timed() -> int:
        for batch in itertools.islice(batches, count):
            wait_for(batch)
            del batch
        return count

    return lambda: timed


def shared_shards(ds: tf.data.Dataset, mesh: Mesh) -> dict[str, int]:
    """For each leaf, how many of its shards lie in the memory of TensorFlow's tensor."""
    tensors = next(iter(ds))  # one constant batch: every element of the dataset is this memory
    batch = next(placed(ds, mesh, "data"))
    found = {}
    for key, tensor in tensors.items():
        begin = np.asarray(memoryview(tensor)).ctypes.data
        end = begin + tensor.dtype.size * int(np.prod(tensor.shape))
        at = [shard.data.unsafe_buffer_pointer() for shard in batch[key].addressable_shards]
        found[key] = sum(begin <= pointer < end for pointer in at)
        require_equal(f"{key} on {DEVICES} devices", np.asarray(batch[key]).sum(), tensor.numpy().sum())
    return found


def main() -> None:
    """Count shared shards, then time."""
    jax.config.update("jax_num_cpu_devices", DEVICES)
    bench = Bench("devices", "a batch of 256x224x224x3 uint8 and labels over 8 devices", quick=arguments(__doc__).quick)
    mesh = jax.make_mesh((DEVICES,), ("data",))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    ds = dataset_of(SHAPE, np.uint8)
    shards = shared_shards(ds, mesh)
    bench.fact("shards in TensorFlow's memory, of 8", shards)
    bench.claim("image: shards of 8 without a copy", [shards["image"]], "of 8", "at least", DEVICES)
    count = bench.size(500, 10)
    ways = {
        "tfjax, 8 devices": placed(ds, mesh, "data"),
        "tfjax, one device": placed(ds, jax.devices()[0]),
        "as_numpy + device_put(view, sharding)": usual(ds, sharding),
        "as_numpy + device_put(view), one device": usual(ds, jax.devices()[0]),
    }
    contenders = [Contender(name, handed(batches, count)) for name, batches in ways.items()]
    table = bench.measure("handed over", contenders, unit="batch")
    pairs = zip(table["tfjax, 8 devices"], table["tfjax, one device"], strict=True)
    bench.claim("8 devices over one", [a.per_item_us - b.per_item_us for a, b in pairs], "us", "at most", 120)
    bench.claim_faster("8 devices", table, "tfjax, 8 devices", "as_numpy + device_put(view, sharding)", firm=None)
    bench.write()


if __name__ == "__main__":
    main()
