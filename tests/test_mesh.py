"""The first example of the design on a mesh of two: place, device_map, a state from the spec, and a step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import tfjax
from tfjax.frameworks import linen

ROWS = {"image": np.ones((32, 8, 8, 1), np.uint8), "label": np.zeros(32, np.int32), "id": np.array(["a"] * 32)}


def mesh_of(count, kind):
    return jax.make_mesh((count,), ("data",), axis_types=(kind,), devices=jax.devices()[:count])


def scaled(batch):
    return {**batch, "image": batch["image"].astype(jnp.float32) / 2}


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_a_state_from_the_spec_trains_on_the_batches(kind):
    pipe = (
        tfjax.from_arrays(ROWS)
        .keep_on_host("id")
        .shuffle(0)
        .batch(8)
        .device_map(scaled)
        .place(mesh_of(2, kind), "data")
    )
    batch = pipe.peek()
    assert pipe.spec["image"].sharding.is_equivalent_to(batch["image"].sharding, 4)
    state = linen.create_state(linen.small_cnn(10), optax.adam(1e-3), pipe.spec, seed=0)

    def loss(predict, batch):
        return optax.softmax_cross_entropy_with_integer_labels(predict(batch["image"]), batch["label"])

    batch.pop("id")
    state, measured = linen.train_step(loss)(state, batch)
    assert np.isfinite(measured["loss"])


@pytest.mark.parametrize("prefetch", [0, 2])
def test_device_functions_see_the_mesh_of_the_caller(prefetch):
    mesh = mesh_of(2, AxisType.Explicit)
    pipe = tfjax.from_arrays({"x": np.arange(8, dtype=np.float32)}).batch(4)
    pipe = pipe.device_map(lambda b: {"x": jax.reshard(b["x"], PartitionSpec("data"))}).place(
        mesh, "data", prefetch=prefetch
    )
    with jax.set_mesh(mesh):
        assert [b["x"].tolist() for b in pipe] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_mesh_of_one_device_is_still_a_mesh():
    mesh = mesh_of(1, AxisType.Auto)
    pipe = tfjax.from_arrays({"x": np.zeros((8, 16), np.float32)}).batch(4).place(mesh, "data")
    assert pipe.peek()["x"].sharding == NamedSharding(mesh, PartitionSpec("data")) == pipe.spec["x"].sharding
    assert pipe.copy_report().leaves[0].outcome == "shared"


def test_the_default_device_is_the_one_of_the_moment():
    pipe = tfjax.from_arrays(np.arange(4)).batch(2)
    first, second = jax.devices()[:2]
    assert pipe.peek().devices() == {first}
    with jax.default_device(second):
        assert pipe.peek().devices() == next(iter(pipe)).devices() == {second}


def test_a_dimension_that_a_spec_cannot_cut_is_named():
    mesh = jax.make_mesh((1, 2), ("data", "model"), devices=jax.devices()[:2])
    pipe = tfjax.from_arrays({"x": np.zeros((8, 3), np.float32)}).batch(8)
    with pytest.raises(tfjax.PlacementError, match=r"\['x'\] of shape \(8, 3\) cannot be cut"):
        pipe.place(mesh, PartitionSpec("data", "model"))
