"""Examples from a Python sequence: strings, scalars and arrays whose shapes vary, held as values and offsets."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tfjax


def delivered(pipe: "tfjax.Pipeline") -> list[Any]:
    return [jax.tree.map(np.asarray, e) for e in pipe.iterate()]


@st.composite
def ragged(draw: st.DrawFn) -> list[np.ndarray]:
    dtype = draw(st.sampled_from(["bool", "uint8", "int16", "int32", "float16", "float32", "complex64"]))
    rank = draw(st.integers(0, 3))
    shapes = hnp.array_shapes(min_dims=rank, max_dims=rank, min_side=0, max_side=4) if rank else st.just(())
    return draw(st.lists(shapes.flatmap(lambda s: hnp.arrays(dtype, s)), min_size=1, max_size=6))


@settings(max_examples=25)
@given(ragged())
def test_what_comes_out_is_what_went_in(arrays: list[np.ndarray]) -> None:
    got = delivered(tfjax.from_examples([{"x": a} for a in arrays]))
    for e, wanted in zip(got, arrays, strict=True):
        assert (e["x"].shape, e["x"].dtype) == (wanted.shape, wanted.dtype)
        np.testing.assert_array_equal(e["x"], wanted)


@settings(max_examples=15)
@given(st.lists(st.text() | st.binary(), min_size=1, max_size=8).filter(lambda x: len({type(v) for v in x}) == 1))
def test_strings_of_any_length(texts: list[Any]) -> None:
    got = delivered(tfjax.from_examples([{"s": t} for t in texts]).keep_on_host("s"))
    assert [e["s"].item() for e in got] == [t.encode() if isinstance(t, str) else t for t in texts]


def test_arrays_of_strings_of_varying_number() -> None:
    rows = [{"s": np.array(["a"])}, {"s": np.array(["bc", "d", ""])}, {"s": np.array([], "U1")}]
    got = delivered(tfjax.from_examples(rows).keep_on_host("s"))
    assert [e["s"].tolist() for e in got] == [[b"a"], [b"bc", b"d", b""], []]


def test_static_dimensions_are_known() -> None:
    pipe = tfjax.from_examples([{"x": np.zeros((n, 3, 2)), "y": n, "z": np.zeros((2, 2))} for n in (1, 4, 0)])
    assert {k: v.shape for k, v in pipe.spec.items()} == {"x": (None, 3, 2), "y": (), "z": (2, 2)}


def test_varying_leaves_reach_a_batch_through_map() -> None:
    pipe = tfjax.from_examples([{"x": np.arange(n)} for n in (2, 0, 3)])
    padded = pipe.map(lambda e: {"x": tf.pad(e["x"], [[0, 4 - tf.size(e["x"])]]), "n": tf.size(e["x"])})
    padded = padded.map(lambda e: {**e, "x": tf.ensure_shape(e["x"], (4,))}).shuffle(0).batch(3, remainder="keep")
    batch = padded.peek()
    assert sorted(zip(batch["n"].tolist(), batch["x"].tolist(), strict=True)) == [
        (0, [0, 0, 0, 0]),
        (2, [0, 1, 0, 0]),
        (3, [0, 1, 2, 0]),
    ]
    with pytest.raises(tfjax.SpecError, match=r"\['x'\] is \(None,\), and batch needs a static shape"):
        pipe.batch(2)


class Lazy(Sequence[dict[str, int]]):
    """A sequence that is no list."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> dict[str, int]:  # type: ignore[override]
        if i >= 4:
            raise IndexError(i)
        return {"x": i}


@pytest.mark.parametrize(
    "rows",
    [
        [{"x": i} for i in range(4)],
        tuple({"x": i} for i in range(4)),
        Lazy(),
        [{"x": np.int32(i)} for i in range(4)],
        [{"x": jnp.int32(i)} for i in range(4)],
        [{"x": tf.constant(i)} for i in range(4)],
        np.array([{"x": i} for i in range(4)]),
    ],
    ids=["list", "tuple", "sequence", "numpy", "jax", "tensorflow", "object array"],
)
def test_sequences_of_every_kind(rows: Any) -> None:
    assert [e["x"].item() for e in delivered(tfjax.from_examples(rows))] == [0, 1, 2, 3]


def test_rows_of_an_array_are_examples() -> None:
    batch = tfjax.from_examples(np.arange(6).reshape(3, 2)).batch(3).peek()
    assert batch.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_bare_values_and_nested_structures() -> None:
    assert [e.item() for e in delivered(tfjax.from_examples([1.5, 2.5]))] == [1.5, 2.5]
    rows = [{"a": (i, {"b": np.zeros(i)}), "n": None} for i in range(3)]
    got = delivered(tfjax.from_examples(rows))
    assert [(e["a"][0].item(), e["a"][1]["b"].size, e["n"]) for e in got] == [(0, 0, None), (1, 1, None), (2, 2, None)]


def test_the_examples_are_copied() -> None:
    rows = [{"x": np.zeros(2)}, {"x": np.zeros(3)}]
    pipe = tfjax.from_examples(rows)
    rows[0]["x"][:] = 7
    assert delivered(pipe)[0]["x"].tolist() == [0, 0]


def test_numpy_str_and_python_str_mix() -> None:
    got = delivered(tfjax.from_examples([{"s": "a"}, {"s": np.str_("b")}]).keep_on_host("s"))
    assert [e["s"].item() for e in got] == [b"a", b"b"]


REFUSED: dict[str, tuple[Any, type[Exception] | tuple[type[Exception], ...], str]] = {
    "no example": ([], ValueError, "empty"),
    "a dict": ({"x": [1]}, TypeError, r"given dict.*list\("),
    "a generator": ((i for i in range(3)), TypeError, r"given generator.*list\("),
    "a text": ("abc", TypeError, "given str"),
    "a number": (3, TypeError, "given int"),
    "None": (None, TypeError, "given NoneType"),
    "two dtypes": ([{"x": 1}, {"x": 1.5}], TypeError, r"\['x'\] has dtype float64 in example 1, int64 in example 0"),
    "text and number": ([{"x": "a"}, {"x": 1}], TypeError, r"\['x'\].*example 1.*example 0"),
    "two ranks": ([np.zeros(2), np.zeros((2, 2))], ValueError, "ndim 2 in example 1, 1 in example 0"),
    "a key too many": ([{"x": 1}, {"x": 1, "y": 2}], ValueError, r"example 1.*\['y'\].*one structure"),
    "a key too few": ([{"x": 1, "y": 2}, {"x": 1}], ValueError, r"example 1 .*one structure"),
    "another container": ([{"x": (1, 2)}, {"x": [1, 2]}], ValueError, "example 1 .*one structure"),
    "an object": ([{"x": object()}], TypeError, r"\['x'\] of example 0 is an? object"),
    "a number of 70 bits": ([{"x": 2**70}], TypeError, r"\['x'\] of example 0"),
    "only None": ([{"x": None}], (TypeError, ValueError), "(?i)no leaf"),
    "empty dicts": ([{}, {}], (TypeError, ValueError), "(?i)no leaf"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    rows, kind, words = REFUSED[name]
    with pytest.raises(kind, match=words):
        tfjax.from_examples(rows)
