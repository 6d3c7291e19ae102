"""The cache in a folder: what it holds, who shares it, and that nothing else of a pipeline changes."""

import gc
import os
import pathlib
import shutil
import weakref
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
import tensorflow as tf

import tfjax
from tests.dtypes import DTYPES
from tests.graph.cache.counted import Counted, Example, bits, cache_of, counted, stats, values, wait_whole
from tfjax.errors import CorruptDataError, TfjaxError

FEATURES = {"x": tf.io.FixedLenFeature((), tf.int64)}


def write_records(path: pathlib.Path, values: Any) -> "tfjax.Pipeline":
    with tf.io.TFRecordWriter(str(path)) as writer:
        for value in values:
            feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
            writer.write(tf.train.Example(features=tf.train.Features(feature={"x": feature})).SerializeToString())
    return tfjax.from_records(path, FEATURES, memory_bytes=0)


def images(n: int = 40) -> "tfjax.Pipeline":
    """Rows of more than a page, and small ones."""
    pixels = np.random.default_rng(0).integers(0, 256, (n, 40, 40, 3), dtype=np.uint8)
    return tfjax.from_arrays({"image": pixels, "label": np.arange(n)})


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype: str, tmp_path: pathlib.Path) -> None:
    def cast(e: tf.Tensor) -> Example:
        return {"s": tf.cast(e, dtype), "large": tf.cast(tf.range(1500) + tf.cast(e, tf.int32), dtype)}

    pipe = tfjax.from_arrays(np.arange(7)).map(cast)
    for build in (lambda p: p.batch(3), lambda p: p.shuffle(1).batch(3)):
        plain = bits(build(pipe))
        cached = pipe.cache(tmp_path / "c")
        for _ in range(2):  # while it fills, and when it is full
            assert bits(build(cached)) == plain
    wait_whole(tmp_path / "c")
    again = pipe.cache(tmp_path / "c").batch(3)
    assert bits(again) == bits(pipe.batch(3))
    assert stats(again) == (7, 0)


def test_special_values_keep_their_bits(tmp_path: pathlib.Path) -> None:
    rows = tf.constant([np.nan, np.inf, -np.inf, -0.0, 1e-7, 65504], tf.bfloat16)
    pipe = tfjax.from_arrays(rows).map(lambda e: e * 1).cache(tmp_path / "c").batch(6)
    first, second = (np.asarray(pipe.peek()).tobytes() for _ in range(2))
    assert first == second == rows.numpy().tobytes()


def test_the_files_are_plain(tmp_path: pathlib.Path) -> None:
    pipe = images().map(lambda e: {**e, "half": tf.cast(e["label"], tf.float16)})
    values(pipe.cache(tmp_path / "c").shuffle(0).batch(7, remainder="keep"))
    wait_whole(tmp_path / "c")
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == [
        "00-half.npy",
        "01-image.npy",
        "02-label.npy",
        "fill.json",
        "filled.npy",
        "manifest.json",
    ]
    (whole,) = pipe.batch(40).iterate()
    for name in ("00-half", "01-image", "02-label"):
        np.testing.assert_array_equal(np.load(tmp_path / "c" / f"{name}.npy"), whole[name[3:]])


def test_rows_are_computed_once_and_found_again(tmp_path: pathlib.Path) -> None:
    pipe, fn = counted(tmp_path / "c", 100)
    batched = pipe.shuffle(0).options(parallel_calls=1).batch(16, remainder="keep")
    runs = [values(batched, epochs=3) for _ in range(2)]
    assert runs[0] == runs[1]
    assert set(fn.rows) == set(range(100)) and len(fn.rows) == 100
    again, other = counted(tmp_path / "c", 100)
    assert values(again.shuffle(0).batch(16, remainder="keep"), epochs=3) == runs[0]
    assert len(other.rows) == 8, "some examples are looked at when it is opened"


def test_it_is_opened_once_a_process(tmp_path: pathlib.Path) -> None:
    pipe, fn = counted(tmp_path / "c")
    for other in (pipe.batch(3), pipe.shuffle(1).batch(2), pipe.take(3), pipe.split({"a": 0.5}, 0)["a"]):
        values(other)
    values(pipe.batch(8).place(jax.make_mesh((8,), ("d",))))
    assert sorted(fn.rows) == list(range(8))


def test_nothing_is_done_before_it_is_iterated(tmp_path: pathlib.Path) -> None:
    pipe, fn = counted(tmp_path / "c")
    batched = pipe.shuffle(0).batch(4)
    assert (len(batched), batched.spec["x"].shape) == (2, (4,))
    assert "those in the folder of 8 rows kept, 64 B" in batched.explain()
    assert not fn.rows and not os.listdir(tmp_path)
    batched.peek()
    assert "4 of 8 rows kept, 64 B; later one gather a batch" in batched.explain()


def test_two_stages_with_one_path_share_the_files(tmp_path: pathlib.Path) -> None:
    (one, a), (two, b) = (counted(tmp_path / "c") for _ in range(2))
    with one.batch(4).iterate() as first, two.skip(4).batch(4).iterate() as second:
        assert (next(first)["x"].tolist(), next(second)["x"].tolist()) == ([0, 10, 20, 30], [40, 50, 60, 70])
    a.rows.clear(), b.rows.clear()
    assert values(one.batch(8)) == values(two.batch(8)) == [{"x": list(range(0, 80, 10))}]
    assert not a.rows and not b.rows
    wait_whole(tmp_path / "c")


def test_rows_that_are_not_needed_are_not_computed(tmp_path: pathlib.Path) -> None:
    pipe, fn = counted(tmp_path / "c", 1000)
    assert values(pipe.skip(2).take(3).batch(3)) == [{"x": [20, 30, 40]}]
    assert (sorted(fn.rows), cache_of(pipe).rows) == ([2, 3, 4], 3)
    assert int(pipe[6]["x"]) == 60
    assert "manifest.json" not in os.listdir(tmp_path / "c")


def test_a_fill_that_is_interrupted_goes_on_where_it_stopped(tmp_path: pathlib.Path) -> None:
    def opened() -> tuple[Any, Counted]:
        pipe, fn = counted(tmp_path / "c", 8)
        return pipe.options(parallel_calls=1, prefetch_batches=1).batch(2).place(jax.devices()[0], prefetch=0), fn

    batched, _ = opened()
    with batched.iterate() as batches:
        assert next(batches)["x"].tolist() == [0, 10]
        state = batches.state.to_json()
    del batched, batches
    gc.collect()
    filled = np.load(tmp_path / "c" / "filled.npy").sum()
    assert 2 <= filled < 8
    again, _ = opened()
    with again.iterate(state=state) as batches:
        assert [b["x"].tolist() for b in batches] == [[20, 30], [40, 50], [60, 70]]
        assert batches.stats.misses == 8 - filled
    wait_whole(tmp_path / "c")


def test_rows_that_fail_are_not_stored(tmp_path: pathlib.Path) -> None:
    wrong = [True]

    def sometimes(x: np.ndarray) -> np.ndarray:
        if wrong[0] and x == 5:
            raise ValueError("not now")
        return x

    def fn(e: Example) -> Example:
        return {"x": tf.ensure_shape(tf.numpy_function(sometimes, [e["x"]], tf.int64), ())}

    pipe = tfjax.from_arrays({"x": np.arange(20)}).map(fn).cache(tmp_path / "c")
    batched = pipe.batch(2)
    with batched.iterate() as batches, pytest.raises(TfjaxError, match=r"(?s)example 5.*not now"):
        list(batches)
    assert not cache_of(pipe)._filled[4:6].any()
    wrong[0] = False
    assert values(batched) == [{"x": [i, i + 1]} for i in range(0, 20, 2)]
    wait_whole(tmp_path / "c")


def test_records_that_cannot_be_read_are_not_stored(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.tfrecord"
    write_records(path, range(20))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 + 15] ^= 1
    path.write_bytes(data)
    pipe = tfjax.from_records(path, FEATURES, memory_bytes=0).options(verify_payload=True).cache(tmp_path / "c")
    for _ in range(2):
        with pytest.raises(CorruptDataError, match=r"example 10 .*x\.tfrecord"):
            values(pipe.batch(5))
    assert cache_of(pipe)._filled.tolist()[5:15] == [True] * 5 + [False] + [True] * 4


def test_the_state_is_that_of_the_pipeline_without_it(tmp_path: pathlib.Path) -> None:
    plain = images().map(lambda e: {**e, "label": e["label"] + 1})
    finish: Callable[[Any], Any] = lambda p: p.apply(tfjax.image.RandomFlip()).shuffle(3).batch(6)  # noqa: E731
    one, two = finish(plain), finish(plain.cache(tmp_path / "c"))
    assert one._parts == two._parts
    wanted = bits(one, epochs=2)
    for first, second in ((one, two), (two, one)):
        with first.iterate(epochs=2) as batches:
            for _ in range(4):
                next(batches)
            state = batches.state
        assert bits(second, epochs=2, state=state.to_json()) == wanted[4:]
        assert state.parts == second.iterate().state.parts and state.probe == second.iterate().state.probe


def test_every_place_in_a_chain(tmp_path: pathlib.Path) -> None:
    def chain(p: Any, cache: Callable[[Any], Any]) -> Any:
        p = cache(p.filter(lambda e: e["label"] % 3 != 0))
        p = cache(p.split({"a": 0.7, "b": 0.3}, seed=1)["a"])
        p = cache(p.map(lambda e: {**e, "label": e["label"] * 2}))
        return cache(p.skip(1)).shuffle(2).take(12).batch(4)

    folders = iter(range(100))
    plain = chain(images(), lambda p: p)
    cached = chain(images(), lambda p: p.cache(tmp_path / str(next(folders))))
    assert bits(plain, epochs=2) == bits(cached, epochs=2) == bits(cached.options(caches=False), epochs=2)


@pytest.mark.parametrize("upper", ["memory", "folder"])
def test_levels(upper: str, tmp_path: pathlib.Path) -> None:
    where = "memory" if upper == "memory" else tmp_path / "2"
    pipe, fn = counted(tmp_path / "1", 40)
    twice = pipe.map(lambda e: {"x": e["x"] + 1}).cache(where).shuffle(2).batch(8)
    first = values(twice, epochs=2)
    assert sorted(x for b in first[:5] for x in b["x"]) == [10 * i + 1 for i in range(40)]
    assert set(fn.rows) == set(range(40))
    assert stats(twice) == (40, 0), "the upper level alone is asked"
    again = counted(tmp_path / "1", 40)[0].map(lambda e: {"x": e["x"] + 1}).cache("memory").shuffle(2).batch(8)
    assert stats(again) == (40, 40), "what is not in memory is in the folder"
    assert values(again, epochs=2) == first


def test_the_first_rows_are_kept_where_there_is_a_limit(tmp_path: pathlib.Path) -> None:
    pipe = images().map(lambda e: {**e, "label": e["label"] + 1})
    row = 40 * 40 * 3 + 8
    wanted = bits(pipe.shuffle(0).batch(8), epochs=2)
    for _ in range(2):
        cached = pipe.cache(tmp_path / "c", limit_bytes=25 * row + row - 1)
        assert bits(cached.shuffle(0).batch(8), epochs=2) == wanted
        assert np.load(tmp_path / "c" / "01-label.npy").shape == (25,)
    wait_whole(tmp_path / "c")
    hits, misses = stats(pipe.cache(tmp_path / "c", limit_bytes=25 * row + row - 1).batch(8))
    assert (hits, misses) == (25, 15)
    with pytest.raises(ValueError, match=rf"differ in `limit_bytes` \(here None, there {25 * row + row - 1}\)"):
        pipe.cache(tmp_path / "c").peek()


def test_a_whole_cache_reads_nothing_of_the_source(tmp_path: pathlib.Path) -> None:
    source = tmp_path / "x.tfrecord"
    pipe = write_records(source, range(50)).cache(tmp_path / "c").shuffle(0).batch(10)
    wanted = values(pipe, epochs=3)
    wait_whole(tmp_path / "c")
    pipe = tfjax.from_records(source, FEATURES, memory_bytes=0).cache(tmp_path / "c").shuffle(0).batch(10)
    with pipe.iterate(epochs=3) as batches:
        first = next(batches)["x"].tolist()
        source.write_bytes(b"nothing is left of it")
        assert [{"x": first}, *({"x": b["x"].tolist()} for b in batches)] == wanted
    with pytest.raises(CorruptDataError, match="changed while it was in use"):
        pipe.iterate()
    source.unlink()
    with pytest.raises(CorruptDataError, match="is gone: bring it back"):
        pipe.iterate()


def test_pages_are_the_systems(tmp_path: pathlib.Path) -> None:
    """What is trained on is no memory of the process."""
    rows, row = 200, 2**20
    pipe = tfjax.from_arrays(np.arange(rows)).map(lambda i: tf.cast(tf.range(row) + tf.cast(i, tf.int32), tf.uint8))
    settings = {"parallel_calls": 1, "prefetch_batches": 1}
    batched = pipe.cache(tmp_path / "c").shuffle(0).options(**settings).batch(4)
    stats(batched.take(2))

    def anonymous() -> int:
        status = pathlib.Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))

    before = anonymous()
    assert stats(batched, epochs=2)[0] >= rows
    assert anonymous() - before < rows * row / 3
    wait_whole(tmp_path / "c")
    shutil.rmtree(tmp_path / "c")


def test_a_complete_cache_is_mapped_read_only(tmp_path: pathlib.Path) -> None:
    first, _ = counted(tmp_path / "c")
    values(first.batch(8))
    assert cache_of(first)._columns[0].array.flags.writeable
    wait_whole(tmp_path / "c")
    (tmp_path / "c").chmod(0o555)
    again, _ = counted(tmp_path / "c")
    assert values(again.batch(8)) == values(first.batch(8))
    assert not cache_of(again)._columns[0].array.flags.writeable


def test_batches_of_the_cache_are_not_the_cache(tmp_path: pathlib.Path) -> None:
    pipe, _ = counted(tmp_path / "c")
    values(pipe.batch(8))
    array = pipe.batch(8).peek()["x"]
    buffer = cache_of(pipe)._columns[0].array
    begin, end = buffer.ctypes.data, buffer.ctypes.data + buffer.nbytes
    assert not begin <= array.unsafe_buffer_pointer() < end


def test_it_is_closed_with_the_last_pipeline(tmp_path: pathlib.Path) -> None:
    def opened() -> list[str]:
        links = [os.path.join("/proc/self/fd", n) for n in os.listdir("/proc/self/fd")]
        names = [os.readlink(link) for link in links if os.path.lexists(link)]
        maps = pathlib.Path("/proc/self/maps").read_text().splitlines()
        return [n for n in names if str(tmp_path) in n] + [m for m in maps if str(tmp_path) in m]

    pipe, _ = counted(tmp_path / "c")
    kept = pipe.shuffle(0).batch(4)
    values(kept)
    wait_whole(tmp_path / "c")
    cache = weakref.ref(cache_of(pipe))
    del pipe
    gc.collect()
    assert cache() is not None and opened()
    del kept
    gc.collect()
    assert cache() is None and opened() == []


def test_an_empty_leaf_and_an_empty_source(tmp_path: pathlib.Path) -> None:
    pipe = tfjax.from_arrays(np.zeros((4, 0, 3))).map(lambda e: e + 1).cache(tmp_path / "1").batch(2)
    for _ in range(2):
        assert [b.shape for b in pipe] == [(2, 0, 3)] * 2
    assert len(tfjax.from_arrays(np.zeros((0, 3))).map(lambda e: e + 1).cache(tmp_path / "2").batch(2)) == 0


def test_a_filter_over_it(tmp_path: pathlib.Path) -> None:
    pipe, fn = counted(tmp_path / "c")
    even = pipe.filter(lambda e: e["x"] % 20 == 0).batch(4)
    assert even.peek()["x"].tolist() == [0, 20, 40, 60]
    assert sorted(fn.rows) == list(range(8))
    wait_whole(tmp_path / "c")


def test_a_structure_of_ones_own(tmp_path: pathlib.Path) -> None:
    pipe = images(8).map(lambda e: (e["image"], {"deep": (e["label"], e["label"] * 2)})).cache(tmp_path / "c")
    for _ in range(2):
        image, rest = pipe.batch(4).peek()
        assert (image.shape, rest["deep"][1].tolist()) == ((4, 40, 40, 3), [0, 2, 4, 6])
    assert {"01-1-deep-0.npy", "02-1-deep-1.npy"} < set(os.listdir(tmp_path / "c"))
