"""What `from_tf` reads off a dataset: batches or examples, length, specs; and what it refuses."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tfjax
from tfjax.errors import SpecError

Dataset = tf.data.Dataset


def unknown(*shapes: tuple[int | None, ...] | None) -> Dataset:
    """A dataset with these shapes, of which nothing else is known."""
    specs = tuple(tf.TensorSpec(s, tf.float32) for s in shapes)
    row = tuple(np.zeros([n or 4 for n in (s or ())], np.float32) for s in shapes)
    return Dataset.from_generator(
        lambda: iter([row if len(shapes) > 1 else row[0]]), output_signature=specs if len(shapes) > 1 else specs[0]
    )


INFERRED: dict[str, tuple[tuple[tuple[int | None, ...] | None, ...], bool | None]] = {
    "all unknown": (((None,), (None, 3)), True),
    "one leaf, unknown": (((None, 3),), True),
    "all equal, one of rank 1": (((8,), (8, 3)), True),
    "one leaf of rank 1": (((8,),), True),
    "a scalar leaf": (((), (8, 3)), False),
    "a scalar leaf among unknown ones": (((), (None,)), False),
    "all equal, none of rank 1": (((8, 2), (8, 3)), None),
    "one leaf of rank 2": (((8, 2),), None),
    "different": (((8,), (7,)), None),
    "some unknown": (((8,), (None,)), None),
    "unknown rank": ((None,), None),
    "unknown rank beside a batch": (((None,), None), None),
}


@pytest.mark.parametrize("name", INFERRED)
def test_whether_elements_are_batches(name: str) -> None:
    shapes, batched = INFERRED[name]
    dataset = unknown(*shapes)
    if batched is None:
        with pytest.raises(ValueError, match=r"cannot tell.*batched=True or batched=False"):
            tfjax.from_tf(dataset)
    else:
        assert tfjax.from_tf(dataset)._chain[0].source.batched is batched


@pytest.mark.parametrize("batched", [True, False])
def test_what_the_user_says_holds(batched: bool) -> None:
    pipe = tfjax.from_tf(unknown((8, 2), (8, 3)), batched=batched)
    assert pipe._plan.is_batched is batched
    assert [s.shape for s in pipe.spec] == [(8, 2), (8, 3)]


@pytest.mark.parametrize("given", ["yes", 1, 0], ids=repr)
def test_batched_is_true_or_false(given: object) -> None:
    with pytest.raises(TypeError, match="batched"):
        tfjax.from_tf(Dataset.range(3), batched=given)


def test_a_scalar_has_no_batch_dimension() -> None:
    with pytest.raises(SpecError, match=r"\['b'\] is a scalar.*batched=False"):
        tfjax.from_tf(Dataset.from_tensor_slices({"a": np.zeros((3, 2)), "b": np.arange(3)}), batched=True)


@pytest.mark.parametrize(
    "given", [[1, 2], np.arange(3), None, iter([1]), "mnist", {"x": 1}], ids=lambda v: type(v).__name__
)
def test_what_is_no_dataset(given: object) -> None:
    with pytest.raises(TypeError, match=rf"takes a tf\.data\.Dataset, given {type(given).__name__}"):
        tfjax.from_tf(given)


LENGTHS: dict[str, tuple[Callable[[], "tfjax.Pipeline"], int | None]] = {
    "range": (lambda: tfjax.from_tf(Dataset.range(7)), 7),
    "batches": (lambda: tfjax.from_tf(Dataset.range(7).batch(2)), 4),
    "batched here": (lambda: tfjax.from_tf(Dataset.range(7)).batch(2), 4),
    "dropped": (lambda: tfjax.from_tf(Dataset.range(7)).batch(2, remainder="drop"), 3),
    "padded": (lambda: tfjax.from_tf(Dataset.range(7).map(lambda x: {"x": x})).batch(2, remainder="pad"), 4),
    "take and skip": (lambda: tfjax.from_tf(Dataset.range(7)).skip(1).take(5).batch(2).skip(1), 2),
    "asserted": (
        lambda: tfjax.from_tf(
            Dataset.range(7).filter(lambda x: x < 3).apply(tf.data.experimental.assert_cardinality(3))
        ),
        3,
    ),
    "filtered before": (lambda: tfjax.from_tf(Dataset.range(7).filter(lambda x: x < 3)), None),
    "filtered here": (lambda: tfjax.from_tf(Dataset.range(7)).filter(lambda x: x < 3).batch(2), None),
    "a generator": (lambda: tfjax.from_tf(unknown((None,))), None),
    "endless": (lambda: tfjax.from_tf(Dataset.range(7).repeat()), None),
    "endless, cut": (lambda: tfjax.from_tf(Dataset.range(7).repeat()).take(9).batch(2), 5),
    "empty": (lambda: tfjax.from_tf(Dataset.range(0)), 0),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_length(name: str) -> None:
    make, length = LENGTHS[name]
    if length is None:
        fix = "repeat|never ends|take" if name == "endless" else "assert_cardinality"
        with pytest.raises(TypeError, match=fix):
            len(make())
    else:
        assert len(make()) == length


def test_structures_of_a_dataset() -> None:
    rows = {"b": np.arange(4, dtype=np.int32), "a": (np.arange(4), {"c": np.arange(4, dtype=np.float32)})}
    for pipe in (
        tfjax.from_tf(Dataset.from_tensor_slices(rows).batch(2)),
        tfjax.from_tf(Dataset.from_tensor_slices(rows)).batch(2),
    ):
        batch = pipe.peek()
        assert batch["b"].tolist() == batch["a"][0].tolist() == batch["a"][1]["c"].tolist() == [0, 1]
        assert batch["a"][0].dtype == np.int32


REFUSED: dict[str, tuple[Callable[[], Dataset], str]] = {
    "ragged": (lambda: Dataset.from_tensor_slices(tf.ragged.constant([[1], [2, 3]])), r"[Rr]agged.*to_tensor"),
    "sparse": (lambda: Dataset.from_tensor_slices(tf.sparse.eye(3)), r"[Ss]parse.*to_dense"),
    "a dataset": (lambda: Dataset.range(6).window(2), "Dataset inside of each element.*nested='flatten'"),
    "a string": (lambda: Dataset.from_tensor_slices(["a"]), "is a string"),
    "None": (lambda: Dataset.range(3).map(lambda x: {"x": x, "n": None}), r"\['n'\].*no array"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_leaves_that_jax_cannot_hold(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(SpecError, match=words):
        tfjax.from_tf(make(), batched=False).iterate()


@pytest.mark.parametrize("name", ["ragged", "sparse"])
def test_they_may_be_made_dense(name: str) -> None:
    dense: dict[str, Any] = {
        "ragged": lambda r: {"x": tf.ensure_shape(tf.pad(r, [[0, 2 - tf.size(r)]]), (2,))},
        "sparse": lambda s: {"x": tf.ensure_shape(tf.sparse.to_dense(s), (3,))},
    }
    pipe = tfjax.from_tf(REFUSED[name][0](), batched=False).map(dense[name]).batch(2)
    assert pipe.peek()["x"].shape == (2, {"ragged": 2, "sparse": 3}[name])


@pytest.mark.parametrize("state", ["replay", "checkpoint"])
@pytest.mark.parametrize("name", REFUSED)
def test_they_are_refused_however_a_state_is_taken(name: str, state: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(SpecError, match=words):
        tfjax.from_tf(make().filter(lambda _: True), batched=False, state=state).iterate(forever=True)


def test_runs_are_alike_where_the_dataset_reshuffles() -> None:
    dataset = Dataset.range(20).shuffle(20, seed=1)
    pipe = tfjax.from_tf(dataset)
    first = [int(x) for x in pipe]
    pipe.peek()
    assert [int(x) for x in pipe.iterate(epochs=2)][:20] == first
    assert first == [int(x) for x in Dataset.range(20).shuffle(20, seed=1)]
    assert [int(x) for x in pipe.iterate(start_epoch=1)] == [int(x) for x in pipe.iterate(epochs=2)][20:] != first


def test_what_cannot_be_repeated_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    variable = tf.Variable(1, dtype=tf.int64)
    reading = Dataset.range(9).shuffle(9, seed=1).map(lambda x: x + variable)
    assert "reads a variable: its order goes on" in tfjax.from_tf(reading).explain()
    assert [int(x) for x in tfjax.from_tf(reading).iterate()] != []
    variable.assign(100)
    assert min(int(x) for x in tfjax.from_tf(reading)) == 100
    monkeypatch.setattr("tfjax.sources.dataset_graph.MOST_BYTES", 10)
    large = tfjax.from_tf(Dataset.from_tensor_slices(np.arange(9)).shuffle(9, seed=1))
    assert "cannot be looked at" in large.explain()
    assert sorted(int(x) for x in large) == list(range(9))


def test_another_graph_is_another_source() -> None:
    def state_of(fn: Any) -> Any:
        return tfjax.from_tf(Dataset.range(6).map(fn).batch(2)).iterate().state

    with pytest.raises(tfjax.StateMismatchError, match="source"):
        tfjax.from_tf(Dataset.range(6).map(lambda x: x * 2).batch(2)).iterate(state=state_of(lambda x: x + 2))
    same = tfjax.from_tf(Dataset.range(6).map(lambda x: x * 2).batch(2)).iterate(state=state_of(lambda x: x * 2))
    assert len(list(same)) == 3
