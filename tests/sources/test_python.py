"""Python in graphs: purity, flags, stores, and that a dropped object is freed (landmine 17)."""

import gc
import weakref

import numpy as np
import pytest

from tfjax._tensorflow import tf
from tfjax.sources.python import fetch_rows, register, store_rows


class Table:
    """Row i is (i, the text of i); odd rows are bad."""

    def __init__(self):
        self.big = np.zeros(1 << 20)

    def read(self, indices):
        texts = np.array([str(i).encode() for i in indices], object)
        return indices.astype(np.float32), texts, indices % 2 == 0


class Shelf(dict):
    __hash__ = object.__hash__

    def store(self, indices, rows):
        self.update(zip(indices.tolist(), zip(*rows, strict=True), strict=True))


def dataset(handle, steps=4, size=3):
    def step(number):
        return fetch_rows(handle, number * size + tf.range(size, dtype=tf.int64), [tf.float32, tf.string])

    return tf.data.Dataset.range(steps).map(step, num_parallel_calls=2)


def test_rows_and_flags_come_in_the_order_of_the_indices():
    table = Table()
    numbers, texts, ok = zip(*dataset(register(table)).as_numpy_iterator(), strict=True)
    assert np.concatenate(numbers).tolist() == list(range(12))
    assert np.concatenate(texts).tolist() == [str(i).encode() for i in range(12)]
    assert np.concatenate(ok).tolist() == [i % 2 == 0 for i in range(12)]


def test_no_index_gives_no_row():
    table = Table()
    rows = fetch_rows(register(table), tf.zeros((0,), tf.int64), [tf.float32, tf.string])
    assert [r.shape for r in rows] == [(0,), (0,), (0,)]


def test_a_call_with_constant_inputs_may_be_folded():
    table = Table()
    handle = register(table)

    @tf.function
    def fetch():
        return fetch_rows(handle, tf.constant([5], tf.int64), [tf.float32, tf.string])[0]

    assert [float(fetch()[0]) for _ in range(3)] == [5.0] * 3


def test_rows_are_stored_once_a_step_and_idempotently():
    shelf = Shelf()
    handle = register(shelf)

    def step(i):
        i = i[None]
        with tf.control_dependencies([store_rows(handle, i, i * 2, tf.strings.as_string(i))]):
            return tf.identity(i)

    pipeline = tf.data.Dataset.range(5).map(step)
    for _ in range(2):
        assert [int(i[0]) for i in pipeline] == list(range(5))
    assert shelf == {i: (2 * i, str(i).encode()) for i in range(5)}


def test_a_store_is_not_pruned_where_nothing_waits_for_it():
    shelf = Shelf()
    handle = register(shelf)

    def step(i):
        store_rows(handle, i[None], i[None])
        return i

    assert len(list(tf.data.Dataset.range(3).map(step))) == 3
    assert len(shelf) == 3


def test_landmine_17_dropped_sources_are_freed():
    alive = []
    for _ in range(4):
        table = Table()
        alive.append(weakref.ref(table))
        pipeline = dataset(register(table))
        next(iter(pipeline))
        del table, pipeline
    gc.collect()
    assert [ref() for ref in alive] == [None] * 4


def test_the_graph_of_a_released_object_says_so():
    table = Table()
    pipeline = dataset(register(table))
    del table
    gc.collect()
    with pytest.raises(tf.errors.OpError, match=r"behind handle .* was released: keep the pipeline"):
        next(iter(pipeline))
