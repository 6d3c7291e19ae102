"""`cache("device")`: the batches are those without it, to the bit, on any mesh; the rows are moved once."""

import gc
import weakref

import jax
import numpy as np
import pytest
import tensorflow as tf
from jax.sharding import AxisType, PartitionSpec

import tfjax
from tfjax import device_cache
from tfjax.graph.cache import cached as graph_cached

ROWS = {
    "x": np.random.default_rng(0).integers(0, 255, (103, 4, 4, 3)).astype(np.uint8),
    "y": np.arange(103),
    "odd": np.arange(103) % 2 == 1,
}


def double(example):
    return {**example, "y": example["y"] * 2}


def where_of(kind):
    if kind is None:
        return ()
    if kind == "device":
        return (jax.devices()[3],)
    return (jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind, kind)), "data")


def pipes(*, remainder="drop", kind=None, finish=lambda pipe: pipe, limit=None):
    """A pipeline without the cache, and with it."""
    source = tfjax.from_arrays(ROWS).shuffle(3).map(double)
    return [finish(p.batch(16, remainder)).place(*where_of(kind)) if kind else finish(p.batch(16, remainder))
            for p in (source, source.cache("device", limit_bytes=limit))]  # fmt: skip


def same(one, other):
    return one.dtype == other.dtype and one.sharding == other.sharding and np.array_equal(one, other)


ROW_BYTES = 4 * 4 * 3 + 8 + 1
SOME = 41 * ROW_BYTES + 7  # 41 rows, which divide over no mesh


KINDS = [None, "device", AxisType.Auto, AxisType.Explicit]
# 7 rows, which are left over and kept, do not divide over 4 devices.
CASES = [(kind, "pad", limit) for kind in KINDS for limit in (None, SOME)]
CASES += [(kind, "drop", None) for kind in KINDS] + [
    (None, "keep", None),
    (None, "keep", SOME),
    ("device", "keep", None),
]


@pytest.mark.parametrize(("kind", "remainder", "limit"), CASES, ids=str)
def test_batches_are_the_same_to_the_bit(kind, remainder, limit):
    def finish(pipe):
        pipe = pipe.random_device_map(lambda e, k: {**e, "u": jax.random.uniform(k)}, per_example=True)
        return pipe.device_map(lambda b: {**b, "bright": b["x"] / 255}).skip(1)

    plain, held = pipes(remainder=remainder, kind=kind, finish=finish, limit=limit)
    assert held.spec == plain.spec and len(held) == len(plain)
    expected, found = list(plain.iterate(epochs=2)), list(held.iterate(epochs=2))
    assert len(found) == 2 * len(plain)
    assert all(jax.tree.all(jax.tree.map(same, *pair)) for pair in zip(expected, found, strict=True))


@pytest.mark.parametrize("limit", [None, SOME])
def test_it_resumes_and_has_the_fingerprint_of_the_pipeline_without_it(limit):
    plain, held = pipes(limit=limit)
    with plain.iterate(epochs=3) as batches:
        for _ in range(8):
            next(batches)
        state = batches.state
    rest = [b["y"].tolist() for b in plain.iterate(epochs=3, state=state)]
    assert [b["y"].tolist() for b in held.iterate(epochs=3, state=state)] == rest


def test_rows_are_computed_once_for_all_runs_and_freed_with_the_pipeline():
    rows, seen = counted()
    held = rows.cache("device")
    for pipe in (held.shuffle(0).batch(5), held.shuffle(1).batch(4)):
        assert sorted(np.concatenate([np.asarray(b) for b in pipe.iterate(epochs=3)])) == sorted(list(range(20)) * 3)
    assert sorted(seen) == list(range(20))
    stage = weakref.ref(held._stage)
    array = weakref.ref(next(iter(device_cache._of_stage[held._stage].values()))[0])
    del held, pipe, rows
    gc.collect()
    assert stage() is None and array() is None


def counted():
    """Rows, and a list of those that were computed."""
    seen = []

    def look(i):
        seen.extend(np.atleast_1d(i).tolist())
        return i

    rows = tfjax.from_arrays(np.arange(20)).map(lambda i: tf.ensure_shape(tf.numpy_function(look, [i], tf.int64), ()))
    return rows, seen


def stats_of(pipe, **how):
    with pipe.iterate(**how) as batches:
        found = sorted(np.concatenate([np.asarray(b) for b in batches]).tolist())
        return found, (batches.stats.hits, batches.stats.misses)


def test_rows_beyond_the_limit_are_computed_each_time():
    rows, seen = counted()
    held = rows.cache("device", limit_bytes=12 * 8 + 7).shuffle(0).batch(5)
    assert stats_of(held, epochs=3) == (sorted(list(range(20)) * 3), (36, 24))
    assert sorted(seen) == sorted([*range(12), *(i for i in range(12, 20) for _ in range(3))])
    assert "12 of 20 rows held on the devices; the others are computed" in held.explain()
    assert "cache('device', limit_bytes=103)" in held.explain()
    assert stats_of(rows.cache("device").batch(5))[1] == (20, 0)
    assert stats_of(rows.cache("device", limit_bytes=20 * 8).batch(5))[1] == (20, 0)


def test_stacks_and_specs_of_two_axes_with_rows_beyond_the_limit():
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
    where = {"x": PartitionSpec("data", None, "model", None), "y": PartitionSpec("data"), "odd": PartitionSpec("data")}
    source = tfjax.from_arrays(ROWS).shuffle(3)
    plain, held = (
        p.batch(16, "pad").stack(2).place(mesh, where) for p in (source, source.cache("device", limit_bytes=SOME))
    )
    for one, other in zip(plain, held, strict=True):
        assert jax.tree.all(jax.tree.map(same, one, other))


def test_rows_beyond_the_limit_come_from_the_cache_below():
    rows, seen = counted()
    stacked = rows.cache("memory").cache("device", limit_bytes=12 * 8).batch(4).options(parallel_calls=1)
    found, counts = stats_of(stacked, epochs=2)
    assert found == sorted(list(range(20)) * 2) and sorted(seen) == list(range(20))
    # 12 rows of each epoch on the device; the others computed once and then in memory; and the 12 that filled it.
    assert counts == (12 * 2 + 8, 8 * 2 + 8 + 12)


def test_a_row_beyond_the_limit_that_fails_is_named():
    divide = tfjax.from_arrays({"x": np.arange(10)}).map(lambda e: {"x": 6 // (e["x"] - 8)})
    pipe = divide.cache("device", limit_bytes=40).batch(5)
    with pytest.raises(tfjax.TfjaxError, match=r"map\(.*\) failed on example 8"):
        list(pipe)


def test_a_limit_that_holds_no_row_is_refused():
    with pytest.raises(ValueError, match="limit_bytes=56 holds no row, which takes 57 bytes"):
        tfjax.from_arrays(ROWS).cache("device", limit_bytes=ROW_BYTES - 1)
    with pytest.raises(TypeError, match="limit_bytes takes an int"):
        tfjax.from_arrays(ROWS).cache("device", limit_bytes="1 GB")
    with pytest.raises(ValueError, match="compression"):
        tfjax.from_arrays(ROWS).cache("device", compression="zlib")


def test_without_batch_and_in_to_tf_rows_come_from_the_graph():
    held = tfjax.from_arrays(ROWS).map(double).cache("device")
    assert int(held[5]["y"]) == 10
    batch = next(iter(held.batch(4).to_tf()))
    assert batch["y"].numpy().tolist() == [0, 2, 4, 6]
    assert "gathered" in str(held.batch(4).copy_report()) and "103 rows held on the devices" in held.batch(4).explain()


def test_a_cache_serves_every_mesh_that_its_pipelines_are_placed_on():
    held = tfjax.from_arrays(ROWS).cache("device").batch(8, "drop")
    for devices in (jax.devices()[:2], jax.devices()[2:4]):
        mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,), devices=devices)
        batch = held.place(mesh, "data").peek()
        assert batch["y"].devices() == set(devices) and batch["y"].tolist() == list(range(8))


def test_filling_it_fills_no_automatic_cache():
    pipe = tfjax.load("digits", split="train[:50]").cache("device").batch(10)
    pipe.peek()
    assert "automatic cache" not in pipe.explain() and all(graph_cached.store_of(s) is None for s in pipe._chain)


def test_under_it_another_cache_and_a_filter():
    source = tfjax.from_arrays(ROWS).filter(lambda e: e["odd"]).map(double)
    plain, held = source.shuffle(1).batch(8), source.cache("memory").cache("device").shuffle(1).batch(8)
    for one, other in zip(plain.iterate(epochs=2), held.iterate(epochs=2), strict=True):
        assert jax.tree.all(jax.tree.map(same, one, other))


def test_what_is_refused():
    source = tfjax.from_arrays(ROWS)
    with pytest.raises(ValueError, match=r"map comes after cache\('device'\).*device_map"):
        source.cache("device").map(double)
    with pytest.raises(ValueError, match=r"cache comes after random_map.*same every epoch"):
        source.random_map(lambda e, _: e).cache("device")
    with pytest.raises(tfjax.SpecError, match="static shape"):
        tfjax.from_examples([{"x": np.zeros(n)} for n in (1, 2)]).cache("device")
    with pytest.raises(tfjax.SpecError, match="string"):
        tfjax.from_arrays({"s": np.array(["a", "b"])}).cache("device")
    with pytest.raises(ValueError, match="place_per_device"):
        source.cache("device").batch(8).place_per_device(jax.devices()[:2])
    with pytest.raises(ValueError, match="streams"):
        tfjax.from_tf(tf.data.Dataset.range(3)).cache("device")


def test_more_than_a_device_has_is_refused_before_it_is_filled(monkeypatch):
    monkeypatch.setattr(device_cache, "available_bytes", lambda: 100)
    with pytest.raises(
        tfjax.PlacementError, match=r"needs .* on .*, which has 100 B: give limit_bytes=.*cache\('memory'\)"
    ):
        tfjax.from_arrays(ROWS).cache("device").batch(8).peek()
    with pytest.raises(tfjax.PlacementError, match="give a smaller limit_bytes="):
        tfjax.from_arrays(ROWS).cache("device", limit_bytes=200).batch(8).peek()
    assert tfjax.from_arrays(ROWS).cache("device", limit_bytes=60).batch(8).peek()["y"].shape == (8,)
