"""The kept-index list of a predicate: made once, exact, and reading only what the predicate uses."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tfjax

Example = dict[str, tf.Tensor]


class Column:
    """A function of one leaf that notes for which rows it ran."""

    def __init__(self, source: str, target: str) -> None:
        self.source, self.target, self.rows = source, target, set()

    def __call__(self, e: Example) -> Example:
        done = tf.numpy_function(self.note, [e[self.source]], tf.int64, stateful=False)
        return {**e, self.target: tf.ensure_shape(done, ())}

    def note(self, x: np.ndarray) -> np.ndarray:
        self.rows.add(int(x))
        return x * 2


def rows(n: int = 10) -> "tfjax.Pipeline":
    return tfjax.from_arrays({"a": np.arange(n), "b": np.arange(n) + 100})


def column(pipe: "tfjax.Pipeline", key: str = "a") -> list[int]:
    return [int(e[key]) for e in pipe.iterate()]


def test_only_what_the_predicate_uses_is_computed() -> None:
    used, unused = Column("a", "x"), Column("b", "y")
    pipe = rows().map(used).map(unused).filter(lambda e: e["x"] % 8 == 0)
    assert len(pipe) == 3
    assert used.rows == set(range(10))
    assert unused.rows == set(), "no leaf of b is computed before it is delivered"
    assert column(pipe, "y") == [200, 208, 216]
    assert unused.rows == {100, 104, 108}


def test_the_list_is_made_once_a_stage() -> None:
    calls: list[int] = []

    def note(x: np.ndarray) -> np.ndarray:
        calls.append(int(x))
        return x % 2 == 0

    def even(e: Example) -> Any:
        return tf.ensure_shape(tf.numpy_function(note, [e["a"]], tf.bool), ())

    pipe = rows().filter(even)
    for build in (pipe, pipe.batch(2), pipe.shuffle(0).batch(2), pipe.take(3), pipe.map(lambda e: e)):
        list(build.iterate())
    assert sorted(calls) == list(range(10))


def test_filters_compose_in_order() -> None:
    pipe = rows(30).filter(lambda e: e["a"] % 2 == 0).skip(1).filter(lambda e: e["a"] % 3 != 0).take(4)
    assert column(pipe) == [a for a in [a for a in range(30) if a % 2 == 0][1:] if a % 3][:4]


def test_length_shuffle_split_and_index_are_exact() -> None:
    pipe = rows(100).filter(lambda e: e["a"] % 7 == 0)
    kept = list(range(0, 100, 7))
    assert sorted(column(pipe.shuffle(3))) == kept
    parts = pipe.split({"one": 0.5, "two": 0.5}, seed=1)
    assert sorted(column(parts["one"]) + column(parts["two"])) == kept
    whole = rows(100).map(lambda e: e)
    index = pipe.random_map(lambda e, seed: {"a": e["a"], "i": seed[1]})
    assert column(index, "i") == kept, "a row keeps the identity that it has in the source"
    assert len(whole) == 100


def test_after_a_shuffle_it_is_as_if_before() -> None:
    one = rows(20).shuffle(5).filter(lambda e: e["a"] > 9).batch(4)
    two = rows(20).filter(lambda e: e["a"] > 9).shuffle(5).batch(4)
    for epoch in range(3):
        assert [b["a"].tolist() for b in one.iterate(start_epoch=epoch)] == [
            b["a"].tolist() for b in two.iterate(start_epoch=epoch)
        ]


@pytest.mark.parametrize("n", [1, 1023, 1024, 1025, 3000])
def test_more_rows_than_are_asked_at_a_time(n: int) -> None:
    pipe = tfjax.from_arrays(np.arange(n)).filter(lambda x: x % 5 == 0)
    assert len(pipe) == -(-n // 5)
    assert [int(b) for b in pipe.skip(len(pipe) - 1).iterate()] == [(n - 1) // 5 * 5]


def test_strings_and_varying_shapes() -> None:
    pipe = tfjax.from_examples([{"s": "x" * n, "v": np.zeros(n)} for n in range(6)])
    assert [e["v"].size for e in pipe.filter(lambda e: tf.strings.length(e["s"]) > 3).drop("s").iterate()] == [4, 5]
    assert len(pipe.filter(lambda e: tf.size(e["v"]) < 2)) == 2


def test_nothing_or_everything_is_kept() -> None:
    assert len(rows().filter(lambda e: e["a"] < 0).batch(2)) == 0
    assert column(rows().filter(lambda e: e["a"] >= 0)) == list(range(10))


def test_over_a_cache() -> None:
    pipe = rows().map(lambda e: {"a": e["a"] * 3}).cache("memory").filter(lambda e: e["a"] % 2 == 0).batch(5)
    assert pipe.peek()["a"].tolist() == [0, 6, 12, 18, 24]


def test_a_file_that_cannot_be_read_fails_a_predicate_that_reads_it(tmp_path):
    paths = [tmp_path / f"{i}.jpg" for i in range(3)]
    for path in paths:
        path.write_bytes(b"\xff\xd8\xff" + b"x" * 20)
    (tmp_path / "notes.txt").write_bytes(b"no image")
    pipe = tfjax.from_folder(tmp_path, labels={**{p.name: 1 for p in paths}, "notes.txt": 0})
    assert len(pipe.filter(lambda e: e["label"] == 1)) == 3
    with pytest.raises(tfjax.CorruptDataError, match=r"notes\.txt"):
        len(pipe.filter(lambda e: tf.strings.length(e["image"]) > 10))
