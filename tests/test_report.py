"""What `copy_report` says of each leaf, and that it is so: read off the addresses of what is delivered."""

import itertools

import jax
import numpy as np
import pytest
import tensorflow as tf
from jax.sharding import PartitionSpec as P

import tfjax
from tfjax.report import LeafReport


def outcomes(pipe: "tfjax.Pipeline") -> dict[str, tuple[str, str]]:
    return {leaf.path: (leaf.outcome, leaf.why) for leaf in pipe.copy_report().leaves}


def test_one_line_a_leaf() -> None:
    rows = {"x": np.zeros((4, 64), np.float32), "n": np.arange(4), "s": np.array(list("abcd"))}
    report = tfjax.from_arrays(rows).keep_on_host("s").batch(4).copy_report()
    assert str(report).splitlines() == [
        "['n']: int32[4], shared (narrowed from int64 in the graph)",
        "['s']: object[4], host (strings become Python bytes)",
        "['x']: float32[4,64], shared",
    ]
    assert report.leaves[2] == LeafReport("['x']", "float32[4,64]", "shared", "")


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float16", "bfloat16", "float32", "complex64"])
def test_batches_are_shared_whatever_their_dtype(dtype: str) -> None:
    rows = tf.cast(tf.ones((8, 33)), dtype)
    assert outcomes(tfjax.from_arrays(rows).batch(4)) == {"the element": ("shared", "")}


def test_numbers_on_the_host_are_views() -> None:
    assert outcomes(tfjax.from_arrays({"n": np.arange(4)}).keep_on_host("n").batch(2)) == {"['n']": ("host", "shared")}


def test_empty_leaves() -> None:
    assert outcomes(tfjax.from_arrays(np.zeros((4, 0))).batch(2))["the element"][0] == "shared"


def test_without_batches() -> None:
    assert outcomes(tfjax.from_arrays(np.float32([1, 2]))) == {"the element": ("shared", "")}
    assert outcomes(tfjax.from_tf(tf.data.Dataset.range(3)))["the element"][0] == "shared"


@pytest.mark.parametrize("width", [16, 64, 1024])
def test_all_shards_are_shared_where_each_starts_on_64_bytes(width: int) -> None:
    rows = {"x": np.zeros((16, width), np.float32), "u": np.zeros((16, 4 * width), np.uint8)}
    pipe = tfjax.from_arrays(rows).batch(8).place(jax.make_mesh((8,), ("d",)), "d")
    assert outcomes(pipe) == {path: ("shared", "8 of 8 shards") for path in ("['u']", "['x']")}


def test_shards_that_start_elsewhere_are_copied_and_why() -> None:
    pipe = tfjax.from_arrays(np.zeros((16, 3), np.float32)).batch(8).place(jax.make_mesh((8,), ("d",)), "d")
    outcome, why = outcomes(pipe)["the element"]
    assert outcome == "copied"
    assert "of 8 shards; shards of 12 bytes do not start on 64" in why


def test_replicas_on_other_devices() -> None:
    mesh = jax.make_mesh((8,), ("d",))
    outcome, why = outcomes(tfjax.from_arrays(np.zeros((8, 64), np.float32)).batch(8).place(mesh, P()))["the element"]
    assert outcome in ("shared", "copied") and "of 8 shards" in why


def test_another_device_and_a_mesh_of_one() -> None:
    pipe = tfjax.from_arrays(np.zeros((8, 64), np.float32)).batch(8)
    for where in (jax.devices()[5], jax.sharding.Mesh(np.array(jax.devices()[:1]), ("d",))):
        assert outcomes(pipe.place(where)) == {"the element": ("shared", "")}


def test_it_is_so() -> None:
    """Delivered arrays lie where a cache's or a dataset's batch lies, not in a copy."""
    tensors = [tf.random.stateless_uniform((8, 64), (i, 0)) for i in range(3)]
    addresses = {np.asarray(memoryview(t)).ctypes.data for t in tensors}
    shared = {tfjax.to_jax(t).unsafe_buffer_pointer() for t in tensors}
    assert shared == addresses
    mesh = jax.make_mesh((8,), ("d",))
    with tfjax.from_arrays(np.zeros((8, 16), np.float32)).batch(8).place(mesh, "d").iterate() as batches:
        pointers = sorted(s.data.unsafe_buffer_pointer() for s in next(batches).addressable_shards)
    assert {b - a for a, b in itertools.pairwise(pointers)} == {64}, "8 shards, one behind the other"


def test_an_error_of_the_graph_is_told_as_when_iterating() -> None:
    with pytest.raises(tfjax.SpecError, match=r"\['a'\].*int32"):
        tfjax.from_arrays({"a": np.array([2**40])}).batch(1).copy_report()


def test_nothing_to_report() -> None:
    with pytest.raises((IndexError, ValueError), match=r"epoch of this pipeline has none|yields nothing"):
        tfjax.from_arrays(np.arange(3)).skip(5).batch(2).copy_report()
