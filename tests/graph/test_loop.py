"""All functions between a fetch and the batch as one loop: what enters it, and that nothing changes by it."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tfjax
from tfjax.graph.loop import Loop
from tfjax.graph.plan import Run


def pipe_of(rows: int = 12) -> "tfjax.Pipeline":
    image = np.arange(rows * 6, dtype=np.uint8).reshape(rows, 2, 3)
    return tfjax.from_arrays(
        {"image": image, "label": np.arange(rows), "name": np.array([f"n{i}" for i in range(rows)])}
    )


LOOPS = ("MapDefun", "While", "StatelessWhile")


def loop_of(pipe: "tfjax.Pipeline") -> Loop:
    return pipe._plan.rows.loop


def loops(pipe: "tfjax.Pipeline") -> list[Any]:
    """The loops of the graph of a batch."""
    plan = pipe._plan
    run = Run(start_epoch=0, start=0, stop=None)
    batch = tf.function(lambda n: plan._batch(run, n)[0], autograph=False)
    graph = batch.get_concrete_function(tf.TensorSpec((), tf.int64))
    inner = [f.graph for f in graph.graph._functions.values() if hasattr(f, "graph")]
    return [op for g in (graph.graph, *inner) for op in g.get_operations() if op.type in LOOPS]


def test_leaves_that_no_function_touches_stay_outside() -> None:
    pipe = pipe_of().map(lambda e: {**e, "label": e["label"] + 1})
    assert loop_of(pipe)._entering == [1], "only the label"
    assert sorted(loop_of(pipe)._kept) == [0, 2]


def test_a_leaf_that_is_read_enters_and_is_still_handed_on() -> None:
    pipe = pipe_of().map(lambda e: {**e, "mean": tf.reduce_mean(tf.cast(e["image"], tf.float32))})
    loop = loop_of(pipe)
    assert loop._entering == [0] and loop._computed == [2]
    assert pipe.keep_on_host("name").batch(4).peek()["mean"].tolist() == [2.5, 8.5, 14.5, 20.5]


def test_functions_that_only_choose_leave_no_loop() -> None:
    pipe = pipe_of().map(lambda e: (e["label"], e["image"])).map(lambda e: {"a": e[1], "b": e[0]}).batch(4)
    assert loops(pipe) == []
    assert pipe.peek()["b"].tolist() == [0, 1, 2, 3]


def test_several_functions_are_one_loop() -> None:
    pipe = pipe_of().map(lambda e: {**e, "label": e["label"] + 1}).map(lambda e: {**e, "label": e["label"] * 2})
    pipe = pipe.random_map(lambda e, seed: {**e, "r": tf.random.stateless_uniform((), seed)}).drop("name").batch(4)
    assert len(loops(pipe)) == 1
    assert pipe.peek()["label"].tolist() == [2, 4, 6, 8]


def test_a_leaf_swapped_by_one_function_and_read_by_the_next() -> None:
    rows = {"a": np.arange(4), "b": np.arange(10, 14)}
    pipe = tfjax.from_arrays(rows).map(lambda e: {"a": e["b"], "b": e["a"]}).map(lambda e: {**e, "c": e["a"] + 1})
    batch = pipe.batch(4).peek()
    assert {k: v.tolist() for k, v in batch.items()} == {
        "a": [10, 11, 12, 13],
        "b": [0, 1, 2, 3],
        "c": [11, 12, 13, 14],
    }
    assert loop_of(pipe)._entering == [1]


def test_a_leaf_given_out_twice() -> None:
    pipe = tfjax.from_arrays({"a": np.arange(4)}).map(lambda e: {"x": e["a"], "y": e["a"], "z": e["a"] + 1}).batch(4)
    assert {k: v.tolist() for k, v in pipe.peek().items()} == {"x": [0, 1, 2, 3], "y": [0, 1, 2, 3], "z": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    "build",
    [
        lambda p: p.map(lambda _: {"k": tf.constant(7)}),
        lambda p: p.map(lambda _: {"k": 7}),
        lambda p: p.map(lambda _: {"k": np.int64(7)}),
    ],
    ids=["tensor", "number", "numpy"],
)
def test_a_function_that_reads_nothing(build: Any) -> None:
    pipe = build(tfjax.from_arrays(np.arange(5))).batch(2)
    assert [b["k"].tolist() for b in pipe] == [[7, 7], [7, 7], [7]]


def test_a_predicate_that_reads_nothing() -> None:
    pipe = tfjax.from_arrays(np.arange(5))
    assert (len(pipe.filter(lambda _: True)), len(pipe.filter(lambda _: tf.constant(False)))) == (5, 0)


def test_shapes_may_vary_between_functions() -> None:
    def grow(e: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {"r": tf.range(e["label"])}

    pipe = pipe_of().map(grow).map(lambda e: {"sum": tf.reduce_sum(e["r"]), "n": tf.size(e["r"])}).batch(12)
    assert pipe.peek()["sum"].tolist() == [sum(range(i)) for i in range(12)]
    assert pipe.peek()["n"].tolist() == list(range(12))


def test_batches_are_the_same_for_every_batch_size_and_parallelism() -> None:
    def fn(e: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        x = tf.cast(e["image"], tf.float32)
        return {"x": tf.nn.softmax(x * 0.37) + tf.sin(x)}

    pipe = pipe_of().map(fn)
    whole = np.asarray(pipe.batch(12).peek()["x"])
    for size, calls in ((1, 1), (5, 4), (7, 2)):
        parts = [np.asarray(b["x"]) for b in pipe.batch(size).options(parallel_calls=calls)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
