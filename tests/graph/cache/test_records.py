"""What varies in size, in a folder: strings and leaves of varying shape, plain and compressed."""

import concurrent.futures
import errno
import os
import pathlib
import shutil
import struct
import time
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tfjax
from tests.graph.cache.counted import bits, cache_of, stats, values, wait_whole
from tfjax.errors import CorruptDataError
from tfjax.graph.cache import fit, npy
from tfjax.graph.cache.npy import Descriptor
from tfjax.graph.cache.records import Records
from tfjax.sources.index import FRAME_BYTES

N = 24


def examples() -> "tfjax.Pipeline":
    rng = np.random.default_rng(0)
    rows = [
        {
            "id": i,
            "text": f"example {i} " * (i % 4),
            "two": np.array([b"a" * i, b"\x00\xff"], object),
            "words": np.array([f"w{j}" for j in range(i % 3)], object),
            "tokens": rng.integers(-9, 9, i % 5),
            "points": rng.normal(size=(i % 3, 2)).astype(np.float32),
        }
        for i in range(N)
    ]
    return tfjax.from_examples(rows).map(
        lambda e: {**e, "half": tf.cast(e["points"], tf.bfloat16), "flags": tf.greater(e["tokens"], 0)}
    )


def dense(e: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Everything of an example in leaves of a fixed shape."""

    def filled(x: tf.Tensor) -> tf.Tensor:
        flat = tf.reshape(x, [-1])
        return tf.ensure_shape(tf.concat([flat, tf.zeros([8 - tf.size(flat)], x.dtype)], 0), [8])

    numbers = {k: filled(e[k]) for k in ("tokens", "points", "half", "flags")}
    words = tf.strings.reduce_join(e["words"], separator=" ")
    return {**numbers, "id": e["id"], "text": e["text"], "two": e["two"], "words": tf.ensure_shape(words, [])}


def finish(pipe: Any) -> Any:
    return pipe.map(dense).keep_on_host("text", "two", "words").shuffle(3).batch(5, remainder="keep")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_what_varies_is_kept_to_the_bit(compression: str | None, tmp_path: pathlib.Path) -> None:
    wanted = bits(finish(examples()), epochs=2)
    cached = finish(examples().cache(tmp_path / "c", compression=compression))
    for _ in range(2):  # while it fills, and when it is full
        assert bits(cached, epochs=2) == wanted
    wait_whole(tmp_path / "c")
    again = finish(examples().cache(tmp_path / "c", compression=compression))
    assert bits(again, epochs=2) == wanted
    assert stats(again) == (N, 0)
    assert "24 of 24 rows kept" in again.explain()


def test_an_example_that_is_not_batched(tmp_path: pathlib.Path) -> None:
    pipe = examples().cache(tmp_path / "c").keep_on_host("text", "two", "words")
    plain = examples().keep_on_host("text", "two", "words")
    for _ in range(2):
        for i in (0, 7, 23):
            assert all(np.asarray(pipe[i][k]).tolist() == np.asarray(v).tolist() for k, v in plain[i].items())


def test_strings_alone_need_no_function(tmp_path: pathlib.Path) -> None:
    pipe = tfjax.from_arrays({"s": np.array([b"", b"a", b"\x00b" * 9], object), "i": np.arange(3)})
    cached = pipe.map(lambda e: {**e, "i": e["i"] + 1}).cache(tmp_path / "c").keep_on_host("s").batch(3)
    for _ in range(2):
        assert cached.peek()["s"].tolist() == [b"", b"a", b"\x00b" * 9]
    assert "decode from the cache" not in cached.explain()
    wait_whole(tmp_path / "c")
    records = tf.data.TFRecordDataset(str(tmp_path / "c" / "rows-00000.tfrecord"))
    assert sorted(r.numpy() for r in records) == [b"", b"\x00b" * 9, b"a"]


def test_compression_compresses(tmp_path: pathlib.Path) -> None:
    pipe = tfjax.from_examples([{"v": np.zeros(1000 + i)} for i in range(8)])
    for compression in (None, "zlib"):
        finished = pipe.cache(tmp_path / str(compression), compression=compression)
        stats(finished.map(lambda e: {"n": tf.size(e["v"]), "s": tf.reduce_sum(e["v"])}).batch(4))
    sizes = [(tmp_path / str(c) / "rows-00000.tfrecord").stat().st_size for c in (None, "zlib")]
    assert sizes[0] > 8 * 8000 and sizes[1] < sizes[0] / 20
    with pytest.raises(ValueError, match=r"differ in `compression` \(here None, there zlib\)"):
        pipe.cache(tmp_path / "zlib").peek()


def test_the_rows_that_come_first_are_kept_where_there_is_a_limit(tmp_path: pathlib.Path) -> None:
    wanted = bits(finish(examples()), epochs=2)
    limit = 4000
    for _ in range(2):
        cached = examples().cache(tmp_path / "c", limit_bytes=limit)
        assert bits(finish(cached), epochs=2) == wanted
        assert 3 < cache_of(cached).rows < N - 3
    wait_whole(tmp_path / "c")
    rows = cache_of(cached).rows
    assert stats(finish(cached)) == (rows, N - rows)
    kept = sum(p.stat().st_size for p in (tmp_path / "c").iterdir() if p.suffix in (".npy", ".tfrecord"))
    assert kept <= limit + 3 * 128, "but for the headers of the arrays"


class Slow:
    """A folder whose sizes take long to look up, so that threads meet there."""

    def __init__(self) -> None:
        self.column = lambda _: self
        self.put = lambda *_: None

    def names(self) -> list[str]:
        time.sleep(0.01)
        return []


def test_threads_that_write_at_a_time_keep_the_limit_together(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, limit = 84 + FRAME_BYTES, 4000
    file = os.open(tmp_path / "rows", os.O_RDWR | os.O_CREAT)
    monkeypatch.setattr(Records, "_created", lambda _: (0, Descriptor(file)))
    records = Records(Slow(), 1, compressed=False, limit_bytes=limit)  # type: ignore[arg-type]
    leaf = np.array([b"x" * 84] * 8, object)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        kept = [threads.submit(records.append, np.arange(8) + 8 * i, [leaf]) for i in range(8)]
    assert sum(len(k.result()) for k in kept) == limit // row
    assert os.stat(tmp_path / "rows").st_size <= limit
    assert records.is_full


def strings(path: pathlib.Path, n: int = 8) -> "tfjax.Pipeline":
    rows = np.array([b"%d" % i * 100 for i in range(n)], object)
    return tfjax.from_arrays({"s": rows}).map(lambda e: {"s": e["s"] + "!"}).cache(path).keep_on_host("s")


@pytest.mark.parametrize("whole", [True, False])
def test_a_byte_that_changed(whole: bool, tmp_path: pathlib.Path) -> None:
    stats(strings(tmp_path / "c", 40).take(40 if whole else 30).batch(10))
    if whole:
        wait_whole(tmp_path / "c")
    path = tmp_path / "c" / "rows-00000.tfrecord"
    pointer, _ = np.load(tmp_path / "c" / "entries.npy")[1]
    data = bytearray(path.read_bytes())
    data[pointer + 20] ^= 1
    path.write_bytes(data)
    pipe = strings(tmp_path / "c", 40)
    assert pipe[0]["s"] == b"0" * 100 + b"!"
    match = (
        rf"example 1.*rows-00000\.tfrecord': the record at byte {pointer} is cut off or fails.*delete '{tmp_path}/c'"
    )
    with pytest.raises(CorruptDataError, match=match):
        values(pipe.batch(4))
    data[np.load(tmp_path / "c" / "entries.npy")[0][0] + 20] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptDataError, match="fails its checksum"):
        strings(tmp_path / "c", 40).iterate()  # one of the examples that are looked at


def test_a_file_that_was_cut_off(tmp_path: pathlib.Path) -> None:
    stats(strings(tmp_path / "1").batch(8))
    wait_whole(tmp_path / "1")
    stats(strings(tmp_path / "2").take(6).batch(6))
    for name in "12":
        path = tmp_path / name / "rows-00000.tfrecord"
        os.truncate(path, path.stat().st_size - 3)
    with pytest.raises(
        CorruptDataError, match=r"rows-00000.tfrecord' has \d+ bytes, and its manifest says \d+.*delete"
    ):
        strings(tmp_path / "1").iterate()
    with pytest.raises(CorruptDataError, match=r"rows-00000.tfrecord': the record at byte .* is cut off"):
        strings(tmp_path / "2").iterate()
    (tmp_path / "2" / "rows-00000.tfrecord").unlink()
    with pytest.raises(CorruptDataError, match=rf"'{path}' cannot be read \(No such file.*delete"):
        strings(tmp_path / "2").iterate()


def test_a_disk_that_fills_up(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def full(descriptor: int, data: Any, offset: int) -> int:
        if sum(written) > 300:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(real(descriptor, data[:100], offset))
        return written[-1]

    real = os.pwrite
    pipe = strings(tmp_path / "c").options(parallel_calls=1, prefetch_batches=1)
    pipe.peek()
    with monkeypatch.context() as patched:
        patched.setattr(npy.os, "pwrite", full)
        patched.setattr(fit, "_free_bytes", lambda _: 7)
        with pytest.raises(OSError, match=r"rows take 234 B more, and 7 B are free") as raised:
            values(pipe.batch(2))
        assert raised.value.errno == errno.ENOSPC and raised.value.filename == str(tmp_path / "c")
    filled = cache_of(strings_stage(pipe)).rows
    assert 0 < filled < 8
    again = strings(tmp_path / "c")
    assert [b["s"].tolist() for b in again.batch(8)] == [[b"%d" % i * 100 + b"!" for i in range(8)]]
    wait_whole(tmp_path / "c")


def strings_stage(pipe: Any) -> Any:
    """The pipeline up to its cache."""
    return pipe._parent._parent


def test_a_pointer_is_one_number(tmp_path: pathlib.Path) -> None:
    """Two processes that write the same row never leave a file of one with an offset of the other."""
    stats(strings(tmp_path / "c").batch(8))
    table = np.load(tmp_path / "c" / "entries.npy")
    assert table.shape == (8, 2) and table.dtype == np.int64
    data = (tmp_path / "c" / "rows-00000.tfrecord").read_bytes()
    for pointer, length in table.tolist():
        assert struct.unpack_from("<Q", data, pointer)[0] == length == 101


def test_a_folder_that_is_deleted_while_it_fills(tmp_path: pathlib.Path) -> None:
    pipe, late = (strings(tmp_path / "c").options(parallel_calls=1) for _ in range(2))
    pipe.peek()
    late._plan.check()
    shutil.rmtree(tmp_path / "c")
    match = rf"deleted while it was filled: make the pipeline anew: '{tmp_path}/c'"
    with pytest.raises(FileNotFoundError, match=match):
        values(late.batch(8))
    with pytest.raises(CorruptDataError, match=r"rows-00000.tfrecord' cannot be read \(No such file"):
        values(pipe.batch(8))
    assert os.listdir(tmp_path) == []
