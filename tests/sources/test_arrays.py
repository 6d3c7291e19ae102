"""Arrays in memory: what they may be, what is refused, and that a batch is one gather."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf

import tfjax
from tfjax.sources.arrays import Arrays


def as_list(pipe: "tfjax.Pipeline") -> Any:
    return jax.tree.map(lambda a: np.asarray(a).tolist(), pipe.batch(len(pipe)).peek())


def test_the_four_things_of_a_source() -> None:
    source = Arrays([np.zeros((5, 2), np.uint8), np.array(list("abcde"))], ["['x']", "['s']"])
    assert len(source) == 5
    assert source.spec == (tf.TensorSpec((2,), tf.uint8), tf.TensorSpec((), tf.string))
    assert source.identity == {"leaves": [["uint8", [5, 2]], ["string", [5]]]}
    raw = source.fetch(tf.constant([4, 0, 4], tf.int64))
    assert raw.leaves[1].numpy().tolist() == [b"e", b"a", b"e"]
    assert raw.ok is None or raw.ok.numpy().tolist() == [True] * 3
    assert source.locate(3) == "" and source.describe() and source.check() is None


@pytest.mark.parametrize(
    "dtype",
    [
        "bool",
        "uint8",
        "int8",
        "uint16",
        "int16",
        "uint32",
        "int32",
        "uint64",
        "int64",
        "float16",
        "float32",
        "float64",
        "complex64",
        "complex128",
    ],
)
def test_every_dtype(dtype: str) -> None:
    values = (np.arange(6) % 2).reshape(3, 2).astype(dtype)
    batch = tfjax.from_arrays(values).batch(3).peek()
    np.testing.assert_array_equal(np.asarray(batch), values)
    assert batch.dtype == jax.dtypes.canonicalize_dtype(dtype)


def test_bfloat16_from_jax_and_tensorflow() -> None:
    for rows in (jnp.ones((3, 2), jnp.bfloat16), tf.ones((3, 2), tf.bfloat16)):
        assert tfjax.from_arrays(rows).batch(3).peek().dtype == jnp.bfloat16


@pytest.mark.parametrize(
    "rows",
    [
        np.arange(4),
        jnp.arange(4),
        tf.range(4),
        np.ma.masked_array(np.arange(4)),
        np.arange(8)[::2] // 2,
        np.arange(4).astype(">i4"),
        np.asfortranarray(np.arange(4)),
        memoryview(np.arange(4)),
    ],
    ids=["numpy", "jax", "tensorflow", "masked", "strided", "big-endian", "fortran", "buffer"],
)
def test_arrays_of_every_kind(rows: Any) -> None:
    assert as_list(tfjax.from_arrays({"x": rows})) == {"x": [0, 1, 2, 3]}


def test_a_sharded_array() -> None:
    where = jax.sharding.NamedSharding(jax.make_mesh((8,), ("d",)), jax.sharding.PartitionSpec("d"))
    assert as_list(tfjax.from_arrays(jax.device_put(np.arange(8), where))) == list(range(8))


def test_views_and_orders_of_memory() -> None:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    for view in (base.T, base[:, ::-1], base[::2, 1:4], np.asfortranarray(base), np.broadcast_to(base[0], (3, 6))):
        np.testing.assert_array_equal(np.asarray(tfjax.from_arrays(view).batch(len(view)).peek()), view)


@pytest.mark.parametrize(
    "rows",
    [
        np.array(["a", "grün", ""]),
        np.array([b"a", "grün".encode(), b""]),
        np.array(["a", "grün", b""], object),
        tf.constant(["a", "grün", ""]),
    ],
    ids=["str", "bytes", "object", "tensor"],
)
def test_strings(rows: Any) -> None:
    batch = tfjax.from_arrays({"s": rows}).keep_on_host("s").batch(3).peek()
    assert batch["s"].tolist() == [b"a", "grün".encode(), b""]


def test_structures() -> None:
    rows = {"a": (np.arange(2), [np.arange(2), np.arange(2)]), "b": {"c": np.arange(2)}, "n": None}
    assert as_list(tfjax.from_arrays(rows)) == {"a": ([0, 1], [[0, 1], [0, 1]]), "b": {"c": [0, 1]}, "n": None}


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "two lengths": ({"a": np.zeros(3), "b": np.zeros(4)}, ValueError, r"one length.*\['a'\]: 3, \['b'\]: 4"),
    "a scalar": ({"a": np.zeros(3), "b": 3}, ValueError, r"\['b'\] is (a|the) scalar"),
    "a text": ("abc", (TypeError, ValueError), "str|scalar"),
    "no leaf": ({}, ValueError, "no leaf at all"),
    "None": (None, ValueError, "no leaf at all"),
    "numbers and text": (np.array([1, "a"], object), TypeError, "holds an? int.*from_examples"),
    "arrays in an array": (np.array([np.zeros(2), np.zeros(3)], object), TypeError, "holds an? ndarray.*from_examples"),
    "dates": ({"d": np.array(["2020-01-01"], "datetime64[D]")}, TypeError, r"\['d'\].*datetime64"),
    "records": ({"d": np.zeros(3, [("a", "i4")])}, TypeError, r"\['d'\].*'a'"),
    "long doubles": (np.zeros(3, np.longdouble), TypeError, "float128|longdouble"),
    "a ragged tensor": ({"r": tf.ragged.constant([[1], [1, 2]])}, (TypeError, ValueError), r"\['r'\].*[Rr]agged"),
    "a sparse tensor": ({"r": tf.sparse.eye(3)}, (TypeError, ValueError), r"\['r'\].*[Ss]parse"),
    "a list of numbers": ({"x": [1, 2, 3]}, (TypeError, ValueError), r"\['x'\].*(list|np\.array)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    rows, kind, words = REFUSED[name]
    with pytest.raises(kind, match=words):
        tfjax.from_arrays(rows)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "int4"])
def test_dtypes_that_do_not_reach_jax(dtype: str) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"\['q'\].*{dtype}"):
        tfjax.from_arrays({"q": jnp.zeros((3,), dtype)}).batch(3).iterate()


def test_a_key_array_is_refused() -> None:
    with pytest.raises(TypeError, match="key"):
        tfjax.from_arrays({"k": jax.random.split(jax.random.key(0), 4)})
