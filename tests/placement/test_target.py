"""Where leaves go: devices, shardings and meshes; what does not divide names the two nearest sizes that do."""

import re
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AxisType, Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

import tfjax
from tfjax.errors import PlacementError
from tfjax.placement.specs import target
from tfjax.placement.target import check_batch


def mesh_of(*shape: int, axes: tuple[str, ...] = ("data", "model"), kind: AxisType = AxisType.Auto) -> Mesh:
    return jax.make_mesh(shape, axes[: len(shape)], axis_types=(kind,) * len(shape))


@pytest.fixture(params=[AxisType.Auto, AxisType.Explicit], ids=["Auto", "Explicit"])
def mesh(request: pytest.FixtureRequest) -> Mesh:
    return mesh_of(4, 2, kind=request.param)


def numbers(n: int = 16) -> "tfjax.Pipeline":
    rows = {"image": np.arange(n * 16, dtype=np.float32).reshape(n, 16), "label": np.arange(n)}
    return tfjax.from_arrays(rows)


def first(pipe: "tfjax.Pipeline") -> Any:
    with pipe.iterate() as batches:
        return next(batches)


def check_values(batch: Any, n: int) -> None:
    np.testing.assert_array_equal(np.asarray(batch["label"]), np.arange(n))
    np.testing.assert_array_equal(np.asarray(batch["image"]), np.arange(n * 16).reshape(n, 16))


@pytest.mark.parametrize("number", [0, 3, 7])
def test_a_device(number: int) -> None:
    device = jax.devices()[number]
    batch = first(numbers().batch(5).place(device))  # any size goes on one device
    check_values(batch, 5)
    assert {a.sharding for a in batch.values()} == {SingleDeviceSharding(device)}


def test_without_place_batches_go_to_the_default_device() -> None:
    assert first(numbers().batch(4))["label"].devices() == {jax.devices()[0]}
    with jax.default_device(jax.devices()[2]):
        assert first(numbers().batch(4))["label"].devices() == {jax.devices()[2]}


def test_a_mesh_of_one_axis_needs_no_name() -> None:
    mesh = mesh_of(8)
    batch = first(numbers().batch(16).place(mesh))
    check_values(batch, 16)
    assert {a.sharding for a in batch.values()} == {NamedSharding(mesh, P("data"))}
    assert [s.data.shape for s in batch["image"].addressable_shards] == [(2, 16)] * 8


def test_a_mesh_of_several_axes(mesh: Mesh) -> None:
    batch = first(numbers().batch(8).place(mesh, "data"))
    check_values(batch, 8)
    assert batch["image"].sharding == NamedSharding(mesh, P("data"))
    assert {s.data.shape for s in batch["image"].addressable_shards} == {(2, 16)}
    with pytest.raises(PlacementError, match=r"'data', 'model'.*say which"):
        numbers().batch(8).place(mesh)


@pytest.mark.parametrize("axis", [("data", "model"), P(("data", "model"))], ids=str)
def test_one_dimension_over_two_axes(mesh: Mesh, axis: Any) -> None:
    batch = first(numbers().batch(16).place(mesh, axis))
    check_values(batch, 16)
    assert {s.data.shape for s in batch["label"].addressable_shards} == {(2,)}
    with pytest.raises(PlacementError, match=r"12.*8 devices.*use 8 or 16"):
        numbers().batch(12).place(mesh, axis)


def test_a_partition_spec(mesh: Mesh) -> None:
    check_values(first(numbers().batch(8).place(mesh, P("model"))), 8)
    batch = first(numbers().select("image").batch(8).place(mesh, P("data", "model")))
    assert {s.data.shape for s in batch["image"].addressable_shards} == {(2, 8)}
    replicated = first(numbers().batch(7).place(mesh, P()))
    check_values(replicated, 7)
    assert replicated["label"].is_fully_replicated


def test_a_sharding(mesh: Mesh) -> None:
    batch = first(numbers().batch(8).place(NamedSharding(mesh, P("data"))))
    check_values(batch, 8)
    assert batch["label"].sharding == NamedSharding(mesh, P("data"))
    check_values(first(numbers().batch(3).place(SingleDeviceSharding(jax.devices()[1]))), 3)


def test_scalars_are_replicated(mesh: Mesh) -> None:
    one, two = target(mesh, "data").shardings([0, 1], ["a", "b"])
    assert (one.spec, two.spec) == (P(), P("data"))


def test_a_spec_longer_than_a_leaf_names_the_leaf(mesh: Mesh) -> None:
    with pytest.raises(PlacementError, match=r"2 entries.*\['label'\] has rank 1.*by leaf"):
        numbers().batch(8).place(mesh, P("data", "model"))


def test_an_axis_that_is_not_there_names_those_that_are(mesh: Mesh) -> None:
    for axis in ("batch", P("batch"), ("data", "batch"), P(("data", "batch")), P(None, "batch")):
        with pytest.raises(PlacementError, match=r"'batch' is no axis.*'data', 'model'"):
            numbers().batch(8).place(mesh, axis)


@pytest.mark.parametrize("where", ["cpu", 0, [1], {"x": "data"}], ids=str)
def test_what_is_no_place(where: object) -> None:
    with pytest.raises(TypeError, match=r"no Mesh, Sharding or device"):
        numbers().batch(8).place(where)


def test_an_axis_without_a_mesh() -> None:
    for where in (jax.devices()[0], NamedSharding(mesh_of(8), P("data"))):
        with pytest.raises(TypeError, match=r"axis 'data' needs a Mesh"):
            numbers().batch(8).place(where, "data")


@pytest.mark.parametrize("axis", [3, True, b"data"], ids=str)
def test_an_axis_of_a_wrong_kind(axis: object) -> None:
    with pytest.raises((TypeError, PlacementError), match=re.escape(repr(axis))):
        numbers().batch(8).place(mesh_of(8), axis)


def test_the_example_of_a_size_that_does_not_divide() -> None:
    text = "batch size 100 does not divide over the 8 devices of mesh axis 'data': use 96 or 104"
    with pytest.raises(PlacementError, match=text):
        numbers(200).batch(100).place(mesh_of(8), "data")


@given(st.integers(1, 10_000), st.sampled_from([1, 2, 4, 8]))
def test_the_sizes_that_are_named_are_the_nearest_that_divide(size: int, parts: int) -> None:
    cut = NamedSharding(Mesh(np.array(jax.devices()[:parts]), ("data",)), P("data"))
    if size % parts == 0:
        check_batch([cut], size, 0)
        return
    with pytest.raises(PlacementError) as caught:
        check_batch([cut], size, 0)
    named = [int(n) for n in re.findall(r"\d+", str(caught.value).split("use ")[1])]
    assert all(n > 0 and n % parts == 0 and abs(n - size) < parts for n in named)
    assert len(named) == (2 if size > parts else 1)


@pytest.mark.parametrize(("rows", "size"), [(20, 16), (5, 16), (17, 8)])
def test_a_kept_tail_that_does_not_divide(rows: int, size: int) -> None:
    with pytest.raises(PlacementError, match=rf"last batch.* has {rows % size} rows.*'pad'.*'drop'"):
        numbers(rows).batch(size, remainder="keep").place(mesh_of(8), "data")
    padded = first(numbers(rows).batch(size, remainder="pad").place(mesh_of(8), "data"))
    assert padded["mask"].sharding == padded["label"].sharding


def test_a_kept_tail_that_divides() -> None:
    pipe = numbers(24).batch(16, remainder="keep").place(mesh_of(8), "data")
    assert [b["label"].shape for b in pipe] == [(16,), (8,)]


def test_a_tail_that_is_left_out_does_not_matter() -> None:
    assert [b["label"].shape for b in numbers(20).batch(8).take(2).place(mesh_of(8))] == [(8,), (8,)]
    assert len(numbers(20).batch(8, remainder="drop").place(mesh_of(8))) == 2


def test_a_take_after_place_that_leaves_the_tail_out_or_in() -> None:
    assert len(numbers(24).batch(16).place(mesh_of(8)).skip(1)) == 1


def test_spec_has_the_shardings(mesh: Mesh) -> None:
    spec = numbers().batch(8).place(mesh, "data").spec
    assert {s.sharding for s in spec.values()} == {NamedSharding(mesh, P("data"))}
    assert {k: (s.shape, s.dtype) for k, s in spec.items()} == {
        "image": ((8, 16), np.float32),
        "label": ((8,), np.int32),
    }
    batch = first(numbers().batch(8).place(mesh, "data"))
    assert {k: a.sharding for k, a in batch.items()} == {k: s.sharding for k, s in spec.items()}


@pytest.mark.parametrize("prefetch", [0, 1, 5])
def test_prefetch_changes_no_batch(prefetch: int) -> None:
    pipe = numbers().batch(8).place(mesh_of(8), "data", prefetch=prefetch)
    assert [b["label"].tolist() for b in pipe] == [list(range(8)), list(range(8, 16))]


def test_a_streaming_pipeline_is_placed_too() -> None:
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices({"x": np.arange(32, dtype=np.float32)})
    pipe = tfjax.from_tf(dataset.batch(16, drop_remainder=True)).place(mesh_of(8), "data")
    batches = list(pipe)
    assert [b["x"].tolist() for b in batches] == [list(range(16)), list(range(16, 32))]
    assert batches[0]["x"].sharding.spec == P("data")
    with pytest.raises(PlacementError, match=r"batch size 12.*use 8 or 16"):
        tfjax.from_tf(dataset.batch(12, drop_remainder=True)).place(mesh_of(8), "data")


def test_a_stream_whose_batch_does_not_divide_at_run_time() -> None:
    import tensorflow as tf

    dataset = tf.data.Dataset.range(20).batch(16)
    pipe = tfjax.from_tf(dataset).place(mesh_of(8), "data")  # sizes are not known before
    with pipe.iterate() as batches:
        assert next(batches).shape == (16,)
        with pytest.raises(PlacementError, match=r"4.*8"):
            next(batches)
