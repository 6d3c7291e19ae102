"""The user's structures: flattened on entry, rebuilt at delivery, whatever is registered with JAX."""

import collections
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import tensorflow as tf

import tfjax
from tfjax.bridge.tree import flatten, flatten_arrays


class Pair(NamedTuple):
    """A NamedTuple of the user."""

    x: Any
    y: Any


def flax_struct() -> Any:
    struct = pytest.importorskip("flax.struct")

    @struct.dataclass
    class Example:
        x: Any
        y: Any
        name: str = struct.field(pytree_node=False, default="kept")

    return Example


def eqx_module() -> Any:
    eqx = pytest.importorskip("equinox")

    class Example(eqx.Module):
        x: Any
        y: Any
        name: str = eqx.field(static=True, default="kept")

    return Example


KINDS = {"NamedTuple": lambda: Pair, "flax.struct": flax_struct, "eqx.Module": eqx_module}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]()


def check(batches: Any, kind: Any, rows: int = 5) -> None:
    for at, batch in enumerate(batches):
        assert isinstance(batch, kind)
        assert getattr(batch, "name", "kept") == "kept"
        assert np.asarray(batch.x).tolist() == list(range(2 * at, min(2 * at + 2, rows)))
        assert np.asarray(batch.y).shape == (len(batch.x), 3)


def test_from_arrays(kind: Any) -> None:
    pipe = tfjax.from_arrays(kind(np.arange(5), np.zeros((5, 3)))).batch(2)
    check(pipe, kind)
    assert isinstance(pipe.spec, kind)


def test_a_dataset_holds_named_tuples_and_names_what_it_cannot_hold(kind: Any) -> None:
    pipe = tfjax.from_arrays(kind(np.arange(5), np.zeros((5, 3)))).batch(2)
    if kind is Pair:
        check(pipe.to_tf(), kind)
        return
    with pytest.raises(TypeError, match=r"(?s)to_tf.*Example.*map"):  # tf.data knows no registered pytrees
        pipe.to_tf()


def test_from_examples(kind: Any) -> None:
    check(tfjax.from_examples([kind(i, np.zeros(3)) for i in range(5)]).batch(2), kind)


def test_a_function_takes_and_returns_it(kind: Any) -> None:
    pipe = tfjax.from_arrays({"x": np.arange(5)}).map(lambda e: kind(e["x"], tf.zeros((3,))))
    check(pipe.batch(2), kind)
    check(pipe.map(lambda e: kind(e.x + 0, e.y * 2)).filter(lambda e: e.x >= 0).batch(2), kind)


def test_it_passes_placement_device_functions_and_caches(kind: Any) -> None:
    pipe = tfjax.from_arrays({"x": np.arange(5)}).map(lambda e: kind(e["x"], tf.zeros((3,)))).cache("memory").batch(2)
    check(pipe.device_map(lambda b: kind(b.x, b.y + 1)).place(jax.devices()[1]), kind)


def test_paths_and_keys() -> None:
    _, structure = flatten({"a": {"b": 1}, "c": (2, Pair(3, 4))})
    assert structure.paths == ("['a']['b']", "['c'][0]", "['c'][1].x", "['c'][1].y")
    assert structure.keys == ("a", "c", "c", "c")
    assert flatten(1)[1].paths == ("the element",)
    assert flatten((1, 2))[1].keys == (None, None)


def test_a_list_is_a_leaf_of_an_element_and_a_container_of_arrays() -> None:
    assert flatten({"l": [1, 2]})[0] == [[1, 2]]
    assert flatten_arrays({"l": [1, 2]})[0] == [1, 2]


@pytest.mark.parametrize("remainder", ["keep", "pad"])
@pytest.mark.parametrize("source", ["arrays", "examples", "foreign"])
def test_keys_that_are_not_sorted_keep_their_values(source: str, remainder: str) -> None:
    columns = collections.OrderedDict(z=np.arange(4, dtype=np.float32), a=np.arange(10, 14, dtype=np.float32))
    if source == "arrays":
        pipe = tfjax.from_arrays(columns)
    elif source == "examples":
        rows = [collections.OrderedDict((k, v[i]) for k, v in columns.items()) for i in range(4)]
        pipe = tfjax.from_examples(rows)
    else:
        pipe = tfjax.from_tf(tf.data.Dataset.from_tensor_slices(columns))
    batch = next(iter(pipe.batch(4, remainder=remainder)))
    assert {k: batch[k].tolist() for k in "za"} == {k: v.tolist() for k, v in columns.items()}


def test_unsorted_keys_of_a_dataset_without_a_stage() -> None:
    columns = collections.OrderedDict(z=np.arange(4, dtype=np.float32), a=np.arange(10, 14, dtype=np.float32))
    pipe = tfjax.from_tf(tf.data.Dataset.from_tensor_slices(columns).batch(4))
    batch = next(iter(pipe))
    assert {k: batch[k].tolist() for k in "za"} == {k: v.tolist() for k, v in columns.items()}
    batch = next(iter(pipe.to_tf()))
    assert {k: batch[k].numpy().tolist() for k in "za"} == {k: v.tolist() for k, v in columns.items()}


def test_none_is_no_leaf() -> None:
    batch = next(iter(tfjax.from_arrays({"x": np.arange(3), "n": None}).map(lambda e: e).batch(3)))
    assert batch["n"] is None and batch["x"].tolist() == [0, 1, 2]


def test_keys_need_not_be_strings() -> None:
    batch = next(iter(tfjax.from_arrays({0: np.arange(3), 1: np.arange(3)}).batch(3)))
    assert batch[1].tolist() == [0, 1, 2]


class Unregistered(dict):
    """A dict that JAX takes for a leaf."""


@pytest.mark.parametrize("value", [Unregistered(x=np.arange(3)), object()], ids=lambda v: type(v).__name__)
def test_what_is_not_registered_is_named(value: object) -> None:
    with pytest.raises((TypeError, ValueError), match=type(value).__name__):
        tfjax.from_arrays({"a": value})
