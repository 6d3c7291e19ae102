"""The cache in memory: what it holds, who shares it, and that it is whole or not used."""

import dataclasses
import gc
import weakref
from typing import Any

import jax
import numpy as np
import pytest
import tensorflow as tf

import tfjax
from tests.dtypes import DTYPES
from tests.graph.cache.counted import Example, cache_of, counted, stats, values
from tfjax.errors import SpecError, TfjaxError
from tfjax.graph.cache import fit
from tfjax.graph.cache.cached import store_of


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype: str) -> None:
    def cast(e: tf.Tensor) -> Example:
        return {"s": tf.cast(e, dtype), "v": tf.cast(tf.stack([e, e + 1]), dtype)}

    pipe = tfjax.from_arrays(np.arange(7)).map(cast)
    cached = pipe.cache("memory")
    for build in (lambda p: p.batch(3), lambda p: p.shuffle(1).batch(3)):
        plain = [jax.tree.map(np.asarray, b) for b in build(pipe)]
        for _ in range(2):  # while it fills, and when it is full
            for got, wanted in zip(build(cached).iterate(), plain, strict=True):
                jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, got), wanted)
                assert got["v"].dtype == wanted["v"].dtype
    assert cache_of(cached).is_complete


def test_special_values_keep_their_bits() -> None:
    rows = tf.constant([np.nan, np.inf, -np.inf, -0.0, 1e-7, 65504], tf.bfloat16)
    pipe = tfjax.from_arrays(rows).map(lambda e: e * 1).cache("memory").batch(6)
    first, second = (np.asarray(pipe.peek()).tobytes() for _ in range(2))
    assert first == second == rows.numpy().tobytes()


def test_rows_are_computed_once() -> None:
    pipe, fn = counted("memory")
    batched = pipe.shuffle(0).batch(3, remainder="keep")
    runs = [values(batched, epochs=3) for _ in range(2)]
    assert runs[0] == runs[1]
    assert set(fn.rows) == set(range(8))
    assert cache_of(pipe).is_complete
    seen = len(fn.rows)
    values(batched, epochs=2, start_epoch=7)
    assert len(fn.rows) == seen


def test_pipelines_that_are_derived_share_it() -> None:
    pipe, fn = counted("memory")
    values(pipe.batch(4))
    seen = len(fn.rows)
    for other in (
        pipe.batch(3),
        pipe.shuffle(1).batch(2),
        pipe.take(3),
        pipe.map(lambda e: {"x": e["x"] + 1}).batch(2),
        pipe.split({"a": 0.5}, 0)["a"].batch(2),
        pipe.batch(8).place(jax.make_mesh((8,), ("d",))),
    ):
        values(other)
    assert len(fn.rows) == seen


def test_two_caches_are_two() -> None:
    pipe, _ = counted("memory")
    one, two = (pipe.map(lambda e: {"x": e["x"] + 1}).cache("memory") for _ in range(2))
    values(one.batch(2))
    assert cache_of(one).is_complete and store_of(two._chain[-1]) is None


def test_rows_that_are_not_needed_are_not_computed() -> None:
    pipe, fn = counted("memory")
    assert values(pipe.skip(2).take(3).batch(3)) == [{"x": [20, 30, 40]}]
    assert sorted(set(fn.rows)) == [2, 3, 4]
    assert (cache_of(pipe).rows, cache_of(pipe).is_complete) == (3, False)
    assert int(pipe[6]["x"]) == 60


def test_a_fill_that_is_interrupted_goes_on_where_it_stopped() -> None:
    pipe, fn = counted("memory")
    batched = pipe.options(parallel_calls=1, prefetch_batches=1).batch(2).place(jax.devices()[0], prefetch=0)
    with batched.iterate() as batches:
        assert next(batches)["x"].tolist() == [0, 10]
        state = batches.state
    gc.collect()
    filled = set(fn.rows)
    assert {0, 1} <= filled
    with batched.iterate(state=state) as batches:
        assert [b["x"].tolist() for b in batches] == [[20, 30], [40, 50], [60, 70]]
    assert values(batched) == [{"x": [10 * i, 10 * i + 10]} for i in range(0, 8, 2)]
    assert set(fn.rows) == set(range(8))


def test_rows_that_fail_are_not_stored() -> None:
    wrong = [True]

    def sometimes(x: np.ndarray) -> np.ndarray:
        if wrong[0] and x == 5:
            raise ValueError("not now")
        return x

    def fn(e: Example) -> Example:
        return {"x": tf.ensure_shape(tf.numpy_function(sometimes, [e["x"]], tf.int64), ())}

    pipe = tfjax.from_arrays({"x": np.arange(8)}).map(fn).cache("memory")
    batched = pipe.batch(2)
    with batched.iterate() as batches, pytest.raises(TfjaxError, match=r"(?s)example 5.*not now"):
        list(batches)
    assert not cache_of(pipe)._filled[4:6].any()
    wrong[0] = False
    assert values(batched) == [{"x": [i, i + 1]} for i in range(0, 8, 2)]
    assert cache_of(pipe).is_complete


def test_it_is_freed_with_the_last_pipeline() -> None:
    pipe, _ = counted("memory")
    values(pipe.batch(2))
    cache = weakref.ref(cache_of(pipe))
    kept = pipe.shuffle(0).batch(4)
    del pipe
    gc.collect()
    assert cache() is not None
    del kept
    gc.collect()
    assert cache() is None


def test_two_caches_in_one_chain() -> None:
    pipe, fn = counted("memory")
    twice = pipe.map(lambda e: {"x": e["x"] + 1}).cache("memory").shuffle(2).batch(4)
    assert values(twice) == values(twice)
    assert sorted(x for b in values(twice) for x in b["x"]) == [10 * i + 1 for i in range(8)]
    assert cache_of(pipe).is_complete
    assert set(fn.rows) == set(range(8))


def test_batches_of_the_cache_are_not_the_cache() -> None:
    """A user who donates or changes what was delivered does not reach the kept rows."""
    pipe, _ = counted("memory")
    array = pipe.batch(8).peek()["x"]
    buffer = cache_of(pipe)._columns[0].array
    begin, end = buffer.ctypes.data, buffer.ctypes.data + buffer.nbytes
    assert not begin <= array.unsafe_buffer_pointer() < end


def test_an_empty_leaf_and_an_empty_source() -> None:
    pipe = tfjax.from_arrays(np.zeros((4, 0, 3))).map(lambda e: e + 1).cache("memory").batch(2)
    assert [b.shape for b in pipe] == [(2, 0, 3)] * 2
    assert len(tfjax.from_arrays(np.zeros((0, 3))).map(lambda e: e + 1).cache("memory").batch(2)) == 0


@pytest.mark.parametrize(
    ("rows", "leaf"),
    [
        ([{"x": np.zeros(n)} for n in (1, 2)], r"\['x'\] is float64\[None\]"),
        ([{"x": "text"}], r"\['x'\] is string\[\]"),
    ],
)
def test_leaves_without_a_fixed_size(rows: Any, leaf: str) -> None:
    with pytest.raises(SpecError, match=rf"{leaf}: resize, pad or drop it before"):
        tfjax.from_examples(rows).cache("memory")


def test_what_does_not_fit_is_refused_before_a_row_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "available_bytes", lambda: 63)
    pipe, fn = counted("memory")
    for use in (lambda p: p.iterate(), lambda p: p.peek(), lambda p: p.batch(2).to_tf()):
        with pytest.raises(ValueError, match=r"takes 64 B \(8 rows of 8 bytes\), and 63 B of memory.*limit_bytes="):
            use(pipe)
    assert len(pipe) == 8 and not fn.rows
    limited, _ = counted("memory", limit_bytes=63)
    assert values(limited.batch(4)) == [{"x": [0, 10, 20, 30]}, {"x": [40, 50, 60, 70]}]


def test_it_is_full_also_where_another_thread_knew_less() -> None:
    pipe, _ = counted("memory")
    values(pipe.batch(8))
    store = cache_of(pipe)

    class SetBack(type(store)):  # type: ignore[misc]
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, 0 if name == "_known" else value)

    store.__class__ = SetBack
    assert store.is_full and store._known == 0


def test_the_first_rows_are_kept_where_there_is_a_limit() -> None:
    pipe, fn = counted("memory", limit_bytes=5 * 8 + 7)
    batched = pipe.shuffle(0).batch(3, remainder="keep")
    plain = tfjax.from_arrays({"x": np.arange(8) * 10}).shuffle(0).batch(3, remainder="keep")
    assert values(batched, epochs=3) == values(plain, epochs=3)
    assert (cache_of(pipe).rows, cache_of(pipe).is_full, cache_of(pipe).is_complete) == (5, True, False)
    assert cache_of(pipe)._filled.tolist() == [True] * 5 + [False] * 3
    fn.rows.clear()
    assert values(batched, epochs=3) == values(plain, epochs=3)
    assert sorted(fn.rows) == sorted([5, 6, 7] * 3)
    assert "5 of 8 rows kept, 40 B" in batched.explain()


def test_a_limit_that_holds_no_row() -> None:
    with pytest.raises(ValueError, match="limit_bytes=7 holds no row, which takes 8 bytes"):
        counted("memory", limit_bytes=7)[0].peek()


def test_hits_and_misses() -> None:
    pipe, _ = counted("memory")
    batched = pipe.shuffle(0).options(parallel_calls=1).batch(4)  # or an epoch may begin before the first has ended
    assert stats(batched, epochs=3) == (16, 8)
    assert stats(batched, epochs=2) == (16, 0)
    limited = counted("memory", limit_bytes=40)[0].options(parallel_calls=1).batch(4)
    assert stats(limited, epochs=2) == (5, 11)
    assert stats(batched.options(caches=False), epochs=2) == (0, 0)
    assert stats(tfjax.from_tf(tf.data.Dataset.range(4)).batch(2)) == (0, 0)


def test_two_levels_are_counted_together() -> None:
    pipe, _ = counted("memory")
    twice = pipe.map(lambda e: {"x": e["x"] + 1}).cache("memory").batch(4)
    assert stats(twice) == (0, 16)
    assert stats(twice) == (8, 0)


def test_an_automatic_cache_after_a_fused_crop_is_shared() -> None:
    """The stage that was planned is another in each plan; what is kept belongs to the one that was asked for."""
    photos = [tf.io.encode_jpeg(np.full((24, 32, 3), 9 * i, np.uint8)).numpy() for i in range(6)]
    opened = tfjax.from_arrays({"image": np.array(photos, object)})
    pipe = type(opened)(dataclasses.replace(opened._chain[0], auto_cache=True))
    cropped = pipe.apply(tfjax.image.Decode(), tfjax.image.CenterCrop(8))
    assert "is fused with" in cropped.explain()
    assert stats(cropped.batch(2)) == (0, 6)
    assert stats(cropped.shuffle(0).batch(3)) == (6, 0)
    assert [b["image"][0, 0, 0, 0].item() for b in cropped.batch(1)] == [9 * i for i in range(6)]
