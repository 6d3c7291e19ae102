"""Trees of tensors to trees of arrays and back: the same bits, over the same memory, narrowed only where it fits."""

import collections
import gc
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tfjax
from tfjax.errors import SpecError

DTYPES = [np.dtype(d) for d in ("?", "i1", "i2", "i4", "u1", "u2", "u4", "f2", "f4", "c8")]


class Pair(NamedTuple):
    """A user's structure."""

    first: Any
    second: Any


def pointer(tensor: tf.Tensor) -> int:
    return int(np.asarray(memoryview(tensor)).ctypes.data)


def same_bits(a: Any, b: Any) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@settings(max_examples=60)
@given(st.sampled_from(DTYPES).flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, min_side=0))))
def test_there_and_back_keeps_every_bit(values: np.ndarray) -> None:
    array = tfjax.to_jax(tf.constant(values))
    assert same_bits(array, values)
    assert same_bits(tfjax.to_tensor(array).numpy(), values)


def test_there_and_back_shares_memory() -> None:
    tensor = tf.constant(np.arange(100, dtype=np.float32))
    array = tfjax.to_jax(tensor)
    back = tfjax.to_tensor(array)
    assert pointer(tensor) == array.unsafe_buffer_pointer() == pointer(back)


def test_memory_outlives_the_array() -> None:
    tensor = tfjax.to_tensor(jnp.arange(100_000))
    gc.collect()
    for _ in range(100):
        jnp.zeros(100_000, jnp.int32).block_until_ready()
    assert tensor.numpy().tolist() == list(range(100_000))


def test_bfloat16_there_and_back() -> None:
    values = jnp.asarray([1.5, -2, jnp.inf], jnp.bfloat16)
    tensor = tfjax.to_tensor(values)
    assert tensor.dtype == tf.bfloat16
    assert same_bits(tfjax.to_jax(tensor), values)


def test_structures_are_kept() -> None:
    one = tf.constant(1)
    tree = {"a": [one, (one,)], "b": Pair(one, None), "c": collections.OrderedDict(z=one, a=tf.constant(2))}
    out = tfjax.to_jax(tree)
    assert jax.tree.structure(out) == jax.tree.structure(tree)
    assert isinstance(out["b"], Pair)
    assert {k: int(v) for k, v in out["c"].items()} == {"z": 1, "a": 2}
    assert int(tfjax.to_tensor(out)["c"]["a"]) == 2


FITS: dict[str, tuple[Any, str]] = {
    "int64": (np.array([2**31 - 1, -(2**31)], np.int64), "int32"),
    "uint64": (np.array([2**32 - 1, 0], np.uint64), "uint32"),
    "float64": (np.array([1.5, 3e38, np.inf, -np.inf, np.nan]), "float32"),
    "complex128": (np.array([1 + 2j, complex(np.inf, 1), complex(np.nan, 0), 3e38 + 3e38j]), "complex64"),
    "empty": (np.zeros((0, 2), np.int64), "int32"),
    "scalar": (np.int64(7), "int32"),
}


@pytest.mark.parametrize("name", FITS)
def test_64_bits_that_fit_are_narrowed(name: str) -> None:
    values, slim = FITS[name]
    assert same_bits(tfjax.to_jax(tf.constant(values)), np.asarray(values).astype(slim))


@pytest.mark.parametrize("name", FITS)
def test_a_pipeline_narrows_alike(name: str) -> None:
    values, slim = FITS[name]
    rows = np.asarray(values)[None]
    with tfjax.from_arrays(rows).batch(1).iterate() as batches:
        assert same_bits(next(batches), rows.astype(slim))


OVERFLOWS = {
    "int64": np.array([0, 2**40 + 5]),
    "int64 by one": np.array([2**31]),
    "int64 below": np.array([-(2**31) - 1]),
    "uint64": np.array([2**32], np.uint64),
    "float64": np.array([1e300]),
    "complex128": np.array([1e300 + 0j]),
    "complex128, imaginary": np.array([1 - 1e300j]),
}


@pytest.mark.parametrize("name", OVERFLOWS)
def test_a_value_that_does_not_fit_is_refused(name: str) -> None:
    dtype = name.split()[0].strip(",")
    with pytest.raises(SpecError, match=rf"\['a'\].*{dtype}.*jax_enable_x64"):
        tfjax.to_jax({"a": tf.constant(OVERFLOWS[name])})


@pytest.mark.parametrize("name", OVERFLOWS)
def test_a_pipeline_refuses_it_alike(name: str) -> None:
    dtype = name.split()[0].strip(",")
    pipe = tfjax.from_arrays({"a": OVERFLOWS[name]}).batch(1)
    with pytest.raises(SpecError, match=rf"\['a'\].*{dtype}.*jax_enable_x64"), pipe.iterate() as batches:
        list(batches)


@pytest.mark.parametrize("value", [np.arange(3), 3, "text", None, tf.Variable(1.0)], ids=lambda v: type(v).__name__)
def test_only_eager_tensors_are_converted(value: object) -> None:
    if value is None:
        assert tfjax.to_jax(None) is None  # no leaf
        return
    with pytest.raises(TypeError, match=r"\['a'\].*pass eager tensors"):
        tfjax.to_jax({"a": value})


def test_inside_a_graph_there_is_no_eager_tensor() -> None:
    with pytest.raises(TypeError, match="pass eager tensors"):
        tf.function(tfjax.to_jax, autograph=False)(tf.constant(1))


def test_other_leaves_become_tensors() -> None:
    tree = tfjax.to_tensor({"s": "text", "n": 3, "f": 1.5, "a": np.arange(2), "b": np.bool_(True)})
    assert {k: v.dtype.name for k, v in tree.items()} == {
        "s": "string",
        "n": "int32",
        "f": "float32",
        "a": "int64",
        "b": "bool",
    }


@pytest.mark.parametrize("how", ["another device", "sharded", "replicated"])
def test_arrays_elsewhere_are_fetched(how: str) -> None:
    mesh, spec = jax.make_mesh((8,), ("d",)), jax.sharding.PartitionSpec
    where = {
        "another device": jax.devices()[3],
        "sharded": jax.sharding.NamedSharding(mesh, spec("d")),
        "replicated": jax.sharding.NamedSharding(mesh, spec()),
    }[how]
    assert tfjax.to_tensor(jax.device_put(np.arange(8), where)).numpy().tolist() == list(range(8))


@pytest.mark.parametrize(
    "make",
    [
        object,
        lambda: jax.random.key(0),
        lambda: jnp.zeros(3, jnp.float8_e4m3fn),
        lambda: jnp.zeros(3, jnp.int4),
    ],
    ids=["object", "key", "float8", "int4"],
)
def test_what_tensorflow_has_no_dtype_for(make: Any) -> None:
    with pytest.raises(TypeError, match=r"to_tensor: \['a'\]"):
        tfjax.to_tensor({"a": make()})
