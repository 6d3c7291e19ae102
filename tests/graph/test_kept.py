"""The list of kept rows: made once, found again by another pipeline, and never where something could have changed."""

import numpy as np
import pytest
import tensorflow as tf

import tfjax
from tfjax.graph import kept
from tfjax.graph.code import code_hash

FEATURES = {"x": tf.io.FixedLenFeature((), tf.int64)}


def even(example):
    return example["x"] % 2 == 0


def small(example):
    return example["x"] < 3


@pytest.fixture
def records(tmp_path, monkeypatch):
    """A writer of record files, with a cache folder of the test's own; counts the lists that are made."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = []
    monkeypatch.setattr(kept, "_list", lambda *given, real=kept._list: made.append(1) or real(*given))

    def write(values):
        path = tmp_path / "x.tfrecord"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for value in values:
                feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
                example = tf.train.Example(features=tf.train.Features(feature={"x": feature}))
                writer.write(example.SerializeToString())
        return tfjax.from_records(path, FEATURES)

    write.made = made
    return write


def values(pipe):
    return [int(e["x"]) for e in pipe]


def test_another_pipeline_finds_the_list(records):
    pipe = records(range(10))
    assert values(pipe.filter(even)) == values(pipe.filter(even)) == [0, 2, 4, 6, 8]
    assert len(records.made) == 1


def test_another_predicate_or_other_data_make_another_list(records):
    pipe = records(range(10))
    assert values(pipe.filter(even)) == [0, 2, 4, 6, 8]
    assert values(pipe.filter(small)) == [0, 1, 2]
    assert values(records(range(5, 15)).filter(even)) == [6, 8, 10, 12, 14]
    assert len(records.made) == 3


def test_a_damaged_list_is_made_again(records, tmp_path):
    pipe = records(range(10))
    first = values(pipe.filter(even))
    (entry,) = (tmp_path / "cache" / "tfjax" / "kept").glob("*.npy")
    entry.write_bytes(b"nothing")
    assert values(pipe.filter(even)) == first
    assert len(records.made) == 2


def test_nothing_is_kept_of_a_function_that_cannot_be_hashed(records):
    table = np.array([True] * 5 + [False] * 5)
    pipe = records(range(10))

    def listed(example):
        return tf.gather(tf.constant(table), example["x"])

    assert values(pipe.filter(listed)) == values(pipe.filter(listed)) == [0, 1, 2, 3, 4]
    assert len(records.made) == 2


def test_nothing_is_kept_of_arrays_in_memory(records):
    assert values(tfjax.from_arrays({"x": np.array([0, 1, 2])}).filter(even)) == [0, 2]
    assert values(tfjax.from_arrays({"x": np.array([4, 6, 8])}).filter(even)) == [4, 6, 8]
    assert len(records.made) == 2


LIMIT = 3


def test_code_hash_sees_constants_defaults_closures_globals_and_inner_functions(monkeypatch):
    def above(limit):
        return lambda x: x > limit

    def by_global(x):
        return x > LIMIT

    def by_default(x, limit=1):
        return x > limit

    before = code_hash(by_global)
    assert code_hash(above(1)) == code_hash(above(1)) != code_hash(above(2))
    assert code_hash(lambda x: by_default(x)) is not None
    monkeypatch.setitem(globals(), "LIMIT", 4)
    assert code_hash(by_global) != before
    assert code_hash(above(np.zeros(2))) is None
    assert code_hash(len) is None
