"""`cache("device")`: the batches are those without it, to the bit, on any mesh; the rows are moved once."""

import gc
import weakref

import jax
import numpy as np
import pytest
import tensorflow as tf
from jax.sharding import AxisType

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


def pipes(*, remainder="drop", kind=None, finish=lambda pipe: pipe):
    """A pipeline without the cache, and with it."""
    source = tfjax.from_arrays(ROWS).shuffle(3).map(double)
    return [finish(p.batch(16, remainder)).place(*where_of(kind)) if kind else finish(p.batch(16, remainder))
            for p in (source, source.cache("device"))]  # fmt: skip


def same(one, other):
    return one.dtype == other.dtype and one.sharding == other.sharding and np.array_equal(one, other)


@pytest.mark.parametrize("kind", [None, "device", AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize("remainder", ["drop", "pad", "keep"])
def test_batches_are_the_same_to_the_bit(kind, remainder):
    if remainder == "keep" and isinstance(kind, AxisType):
        pytest.skip("7 rows do not divide over 4 devices")

    def finish(pipe):
        pipe = pipe.random_device_map(lambda e, k: {**e, "u": jax.random.uniform(k)}, per_example=True)
        return pipe.device_map(lambda b: {**b, "bright": b["x"] / 255}).skip(1)

    plain, held = pipes(remainder=remainder, kind=kind, finish=finish)
    assert held.spec == plain.spec and len(held) == len(plain)
    expected, found = list(plain.iterate(epochs=2)), list(held.iterate(epochs=2))
    assert len(found) == 2 * len(plain)
    assert all(jax.tree.all(jax.tree.map(same, *pair)) for pair in zip(expected, found, strict=True))


def test_it_resumes_and_has_the_fingerprint_of_the_pipeline_without_it():
    plain, held = pipes()
    with plain.iterate(epochs=3) as batches:
        for _ in range(8):
            next(batches)
        state = batches.state
    rest = [b["y"].tolist() for b in plain.iterate(epochs=3, state=state)]
    assert [b["y"].tolist() for b in held.iterate(epochs=3, state=state)] == rest


def test_rows_are_computed_once_for_all_runs_and_freed_with_the_pipeline():
    seen = []

    def look(i):
        seen.extend(np.atleast_1d(i).tolist())
        return i

    rows = tfjax.from_arrays(np.arange(20)).map(lambda i: tf.ensure_shape(tf.numpy_function(look, [i], tf.int64), ()))
    held = rows.cache("device")
    for pipe in (held.shuffle(0).batch(5), held.shuffle(1).batch(4)):
        assert sorted(np.concatenate([np.asarray(b) for b in pipe.iterate(epochs=3)])) == sorted(list(range(20)) * 3)
    assert sorted(seen) == list(range(20))
    stage = weakref.ref(held._stage)
    array = weakref.ref(next(iter(device_cache._of_stage[held._stage].values()))[0])
    del held, pipe, rows
    gc.collect()
    assert stage() is None and array() is None


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
    with pytest.raises(tfjax.PlacementError, match=r"needs .* on .*, which has 100 B: use cache\('memory'\)"):
        tfjax.from_arrays(ROWS).cache("device").batch(8).peek()
