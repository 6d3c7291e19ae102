"""Handing a batch of two leaves from tf.data to JAX, production excluded: the bridge alone.

The dataset is one batch of constants, repeated, so that all that is measured is what happens after the graph.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
from flax import jax_utils

from benchmarks.consume import checksum, wait_for, zero
from benchmarks.harness import Bench, Contender, Timed, arguments, require_equal
from tfjax._tensorflow import tf
from tfjax.bridge.leaf import converters, leaves_of
from tfjax.bridge.reader import Reader
from tfjax.bridge.tree import flatten

PHOTOS = (256, 224, 224, 3)
BATCHES = {
    "tiny": ((8, 4), np.float32),
    "256x224x224x3 uint8": (PHOTOS, np.uint8),
    "256x224x224x3 float32": (PHOTOS, np.float32),
}


def dataset_of(shape: tuple[int, ...], dtype: Any) -> tf.data.Dataset:
    """One batch {"image", "label"}, for ever; the image has this shape and dtype."""
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, shape, np.uint8).astype(dtype),
        "label": np.arange(shape[0], dtype=np.int32),
    }
    return tf.data.Dataset.from_tensors(batch).repeat()


def ours(dataset: tf.data.Dataset) -> Iterator[Any]:
    """The bridge: flat leaves by the raw op, one conversion a leaf, the structure rebuilt."""
    import tfjax

    pipe = tfjax.from_tf(dataset, batched=True)
    _, structure = flatten(dataset.element_spec)
    return map(structure.unflatten, Reader(dataset, converters(leaves_of(pipe._plan), share=True, committed=False)))


def keras_adapter(dataset: tf.data.Dataset) -> Iterator[Any]:
    """What Keras's `fit` on the JAX backend iterates over for a tf.data.Dataset."""
    from keras.src.trainers.data_adapters.tf_dataset_adapter import TFDatasetAdapter

    batches = TFDatasetAdapter(dataset).get_jax_iterator()
    return (jax.tree.map(jnp.asarray, batch) for batch in batches)


def flax_prefetch(dataset: tf.data.Dataset) -> Iterator[Any]:
    """`flax.jax_utils.prefetch_to_device`, which wants a leading dimension of devices."""
    batches = (jax.tree.map(lambda x: x[None], batch) for batch in tfds.as_numpy(dataset))
    return jax_utils.prefetch_to_device(batches, 2, jax.local_devices()[:1])


WAYS: dict[str, Callable[[tf.data.Dataset], Iterator[Any]]] = {
    "tfjax": ours,
    "next + jax.dlpack.from_dlpack": lambda ds: (jax.tree.map(jax.dlpack.from_dlpack, b) for b in iter(ds)),
    "tfds.as_numpy + device_put": lambda ds: map(jax.device_put, iter(tfds.as_numpy(ds))),
    "jnp.asarray(t.numpy())": lambda ds: (jax.tree.map(lambda t: jnp.asarray(t.numpy()), b) for b in iter(ds)),
    "Keras's adapter": keras_adapter,
    "flax prefetch_to_device": flax_prefetch,
}
FLOOR = "bare next(iterator)"


def handed(batches: Iterator[Any], count: int) -> Timed:
    """`count` batches, each waited for."""

    def timed() -> int:
        for batch in itertools.islice(batches, count):
            wait_for(batch)
            del batch
        return count

    return timed


def read(batches: Iterator[Any], count: int) -> Timed:
    """`count` batches, each read to its last byte."""

    def timed() -> int:
        total = zero()
        for batch in itertools.islice(batches, count):
            total = checksum(total, batch)
            del batch
        jax.block_until_ready(total)
        return count

    return timed


def bare(dataset: tf.data.Dataset, count: int) -> Timed:
    """`count` batches that stay TensorFlow's."""
    batches = iter(dataset)

    def timed() -> int:
        for batch in itertools.islice(batches, count):
            del batch
        return count

    return timed


def opener(make: Callable[[tf.data.Dataset], Iterator[Any]], ds: tf.data.Dataset, count: int, how: Any) -> Any:
    """A contender's `open`: the iterator is made once, so that only batches are timed."""
    batches = make(ds)
    return lambda: how(batches, count)


def require_same(ds: tf.data.Dataset) -> None:
    """Compare the first batch of every way with TensorFlow's own."""
    want = [int(t.numpy().astype(np.float64).sum()) for t in tf.nest.flatten(next(iter(ds)))]
    for name, way in WAYS.items():
        got = [int(np.asarray(x).astype(np.float64).sum()) for x in jax.tree.leaves(next(way(ds)))]
        require_equal(f"the batches of {name} and of TensorFlow", got, want)


def measure(bench: Bench, title: str, ds: tf.data.Dataset) -> None:
    """One kind of batch: handed over, then read."""
    large = title != "tiny"
    # A slow way is given fewer batches a sample; figures are a batch.
    fast, slow = bench.size(1000, 20), bench.size(5 if large else 1000, 2 if large else 20)
    counts = {name: slow if name not in ("tfjax", "next + jax.dlpack.from_dlpack") else fast for name in WAYS}
    contenders = [Contender(n, opener(WAYS[n], ds, counts[n], handed)) for n in WAYS]
    floor_open = bare(ds, fast)
    contenders.append(Contender(FLOOR, lambda: floor_open, floor=True))
    table = bench.measure(f"{title}: handed over", contenders, unit="batch")
    bench.claim_within(title, table, "tfjax", FLOOR, firm=1.3, stretch=0.8)
    bench.claim_faster(title, table, "tfjax", "tfds.as_numpy + device_put", firm=2.5)
    firm = 250 if title.endswith("uint8") else None
    bench.claim_faster(title, table, "tfjax", "flax prefetch_to_device", firm=firm)
    some = ("tfjax", "tfds.as_numpy + device_put", "flax prefetch_to_device")
    readers = [Contender(n, opener(WAYS[n], ds, slow, read)) for n in some]
    bench.measure(f"{title}: handed over and read (jitted checksum)", readers, unit="batch")


def main() -> None:
    """Measure all three kinds of batch."""
    bench = Bench("handoff", "a batch of two leaves from tf.data to JAX", quick=arguments(__doc__).quick)
    for title, (shape, dtype) in BATCHES.items():
        ds = dataset_of((8, *shape[1:]) if bench.quick else shape, dtype)
        require_same(ds)
        measure(bench, title, ds)
    bench.write()


if __name__ == "__main__":
    main()
