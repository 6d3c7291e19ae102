"""Shuffled records by index, not decoded, in batches of 128: 3 KB and 100 KB."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.data import full_batches, random_records, write_array_record, write_tfrecord
from benchmarks.harness import Bench, Contender, Timed, arguments, require_equal
from tfjax._tensorflow import tf
from tfjax.graph.order import Permutation
from tfjax.sources.records import Records, Slice

BATCH = 128
SEQUENTIAL = "TFRecordDataset, sequential"
ARRAY_RECORD = "ArrayRecord, shuffled"
Batches = Iterator[tf.Tensor]


def by_index(records: Records) -> Callable[[], Batches]:
    """The graph that tfjax plans for records, less what parses and delivers them."""
    order, steps = Permutation(0, len(records)), len(records) // BATCH

    def batch(step: tf.Tensor) -> tf.Tensor:
        positions = step * BATCH + tf.range(BATCH, dtype=tf.int64)
        return records.fetch(order(tf.constant(0, tf.int64), positions)).leaves[0]

    steps_ds = tf.data.Dataset.range(steps)
    ds = steps_ds.map(batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    return lambda: iter(ds)


def sequential(path: str) -> Callable[[], Batches]:
    """The file from its beginning to its end, checksums checked, in batches."""
    ds = tf.data.TFRecordDataset(path, buffer_size=8 << 20).batch(BATCH, drop_remainder=True)
    ds = ds.prefetch(tf.data.AUTOTUNE)
    return lambda: iter(ds)


def shuffle_buffer(path: str) -> Callable[[], Batches]:
    """The same through a shuffle buffer of 1,000 records, which is no global shuffle."""
    ds = tf.data.TFRecordDataset(path, buffer_size=8 << 20).shuffle(1000).batch(BATCH, drop_remainder=True)
    ds = ds.prefetch(tf.data.AUTOTUNE)
    return lambda: iter(ds)


def count(batches: Callable[[], Batches]) -> Callable[[], Timed]:
    """Records of an epoch, opened anew, in TensorFlow's memory."""
    return lambda: lambda: sum(int(batch.shape[0]) for batch in batches())


def array_record(path: str) -> Callable[[], Timed]:
    """ArrayRecord's own reader, a permuted batch of indices a call: its threads read in parallel."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    source, rng = ArrayRecordDataSource([path]), np.random.default_rng(0)

    def timed() -> int:
        return sum(len(source.__getitems__(i)) for i in full_batches(rng.permutation(len(source)), BATCH))

    return lambda: timed


def read_file(path: str, records: int) -> Callable[[], Timed]:
    """The file's bytes copied to memory, in pieces of 1 MiB: what the system alone can do."""
    buffer = bytearray(1 << 20)

    def timed() -> int:
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
        return records

    return lambda: timed


def require_same(records: Records, written: list[bytes], ways: dict[str, Callable[[], Batches]]) -> None:
    """Compare what each way yields in an epoch with what was written, as checksums in any order."""
    whole = len(written) // BATCH * BATCH
    want = sorted(map(zlib.crc32, written))
    for name, batches in ways.items():
        got = [zlib.crc32(r) for batch in batches() for r in batch.numpy()]
        require_equal(f"records of {name} that were not written", len(set(got) - set(want)), 0)
        require_equal(f"records of {name}", len(set(got)), whole)
    require_equal("records counted", len(records), len(written))


def measure(bench: Bench, title: str, written: list[bytes], folder: Path) -> None:
    """One size of record."""
    path = write_tfrecord(folder / f"{len(written)}.tfrecord", written)
    array_path = write_array_record(folder / f"{len(written)}.array_record", written)
    records = Records([Slice(path)])
    ways = {
        "tfjax, mmap": by_index(replace(records, how="mmap")),
        "tfjax, mmap, checksums": by_index(replace(records, how="mmap", verify_payload=True)),
        "tfjax, held in memory": by_index(replace(records, how="held")),
        "tfjax, graph": by_index(replace(records, how="graph")),
        SEQUENTIAL: sequential(path),
        "TFRecordDataset, shuffle(1000)": shuffle_buffer(path),
    }
    require_same(records, written, ways)
    contenders = [Contender(name, count(way)) for name, way in ways.items()]
    contenders += [
        Contender(ARRAY_RECORD, array_record(array_path)),
        Contender("the file's bytes, read()", read_file(path, len(written)), floor=True),
    ]
    table = bench.measure(f"{title}, {len(written):,} records", contenders, unit="record")
    for way in ("tfjax, mmap", "tfjax, held in memory"):
        speed = [b.per_item_us / a.per_item_us for a, b in zip(table[way], table[SEQUENTIAL], strict=True)]
        bench.claim(f"{title}: {way}: speed over {SEQUENTIAL}", speed, "x", "at least", 0.75, 0.9)
        firm = 3 if title.startswith("3 KB") else None
        bench.claim_faster(f"{title}: {way}", table, way, ARRAY_RECORD, firm=firm)


def main() -> None:
    """Measure both sizes."""
    bench = Bench("records", "shuffled records by index, not decoded", quick=arguments(__doc__).quick)
    with tempfile.TemporaryDirectory() as scratch:
        measure(bench, "3 KB", random_records(bench.size(40_960, 1_280), 3_000), Path(scratch))
        measure(bench, "100 KB", random_records(bench.size(2_560, 256), 100_000), Path(scratch))
    bench.write()


if __name__ == "__main__":
    main()
