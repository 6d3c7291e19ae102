"""Elements of a graph as flat leaves: by the raw op, and by `next` where there is no such op."""

from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf

import tfjax
from tfjax.bridge import reader as module
from tfjax.bridge.reader import Reader


def as_list(tensor: tf.Tensor) -> list[int]:
    return tensor.numpy().tolist()


def nested() -> tf.data.Dataset:
    rows = {"b": tf.range(4), "a": (tf.range(10, 14), {"c": tf.range(20, 24)})}
    return tf.data.Dataset.from_tensor_slices(rows).batch(2)


def reader_of(dataset: tf.data.Dataset, leaves: int, *, raw: bool) -> Reader:
    opened = Reader(dataset, [as_list] * leaves)
    assert opened._resource is not None
    if not raw:
        opened._resource = None
    return opened


@pytest.fixture(params=[True, False], ids=["raw op", "next"])
def raw(request: pytest.FixtureRequest) -> Iterator[bool]:
    yield request.param


def test_leaves_in_the_order_of_tf_nest(raw: bool) -> None:
    elements = list(reader_of(nested(), 3, raw=raw))
    assert elements == [[[10, 11], [20, 21], [0, 1]], [[12, 13], [22, 23], [2, 3]]]


def test_the_end_stays_the_end(raw: bool) -> None:
    opened = reader_of(tf.data.Dataset.range(1), 1, raw=raw)
    assert next(opened) == [0]
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(opened)


def test_an_empty_dataset(raw: bool) -> None:
    assert list(reader_of(tf.data.Dataset.range(0), 1, raw=raw)) == []


def test_an_error_of_the_graph_is_tensorflows(raw: bool) -> None:
    failing = tf.data.Dataset.range(3).map(lambda x: tf.debugging.check_numerics(1 / tf.cast(x, tf.float32), "inf"))
    opened = reader_of(failing, 1, raw=raw)
    with pytest.raises(tf.errors.InvalidArgumentError):
        next(opened)


def test_an_error_that_quotes_bytes_is_tensorflows_too(raw: bool) -> None:
    failing = tf.data.Dataset.from_tensors(b"\xff").map(tf.strings.to_number)
    with pytest.raises(tf.errors.UnknownError, match=r"convert string: \\xff"):
        next(reader_of(failing, 1, raw=raw))


def test_a_pipeline_names_what_failed_on_bytes() -> None:
    pipe = tfjax.from_arrays({"x": np.array([b"1", b"\xff"], object)}).map(lambda e: tf.strings.to_number(e["x"]))
    with pytest.raises(tfjax.TfjaxError, match=r"^map\(.*\) failed on example 1: .*convert string: \\xff$"):
        list(pipe.batch(2))


def test_one_converter_a_leaf() -> None:
    with pytest.raises(ValueError, match="zip"):
        next(Reader(nested(), [as_list]))


def test_a_pipeline_without_the_raw_op(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Reader):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)
            self._resource = None

    monkeypatch.setattr(module, "Reader", Slow)
    pipe = tfjax.from_arrays({"y": np.arange(5), "x": np.ones((5, 2))}).batch(2)
    assert [(b["x"].shape, b["y"].tolist()) for b in pipe] == [((2, 2), [0, 1]), ((2, 2), [2, 3]), ((1, 2), [4])]
