"""Pytrees of specs: one sharding a leaf by key path, the rest along the batch axis; and the leading axis of pmap."""

from typing import Any, NamedTuple

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

ROWS = {
    "image": np.arange(16 * 4 * 8, dtype=np.float32).reshape(16, 4, 8),
    "label": np.arange(16, dtype=np.int32),
    "box": {"corner": np.arange(32, dtype=np.int32).reshape(16, 2), "area": np.arange(16, dtype=np.float32)},
    "id": np.array([f"n{i}" for i in range(16)]),
}


class Pair(NamedTuple):
    x: Any
    y: Any


def mesh_of(shape: tuple[int, ...], axes: tuple[str, ...], kind: AxisType = AxisType.Auto) -> Mesh:
    return jax.make_mesh(shape, axes, axis_types=(kind,) * len(shape))


MESHES = {
    "data": ((8,), ("data",)),
    "data, model": ((4, 2), ("data", "model")),
    "replica, fsdp, model": ((2, 2, 2), ("replica", "fsdp", "model")),
}


@pytest.fixture(params=[AxisType.Auto, AxisType.Explicit], ids=["Auto", "Explicit"])
def mesh(request: pytest.FixtureRequest) -> Mesh:
    return mesh_of((4, 2), ("data", "model"), request.param)


def rows() -> "tfjax.Pipeline":
    return tfjax.from_arrays(ROWS).keep_on_host("id").batch(16)


def check(pipe: "tfjax.Pipeline", expected: dict[str, P]) -> Any:
    """The first batch has the values of ROWS, the shardings expected and those that `spec` foretold."""
    batch, spec = pipe.peek(), pipe.spec
    leaves = {jax.tree_util.keystr(k): v for k, v in jax.tree_util.tree_leaves_with_path(batch)}
    foretold = {jax.tree_util.keystr(k): v for k, v in jax.tree_util.tree_leaves_with_path(spec)}
    for path, want in jax.tree_util.tree_leaves_with_path(ROWS):
        key = jax.tree_util.keystr(path)
        if key == "['id']":
            assert leaves[key].tolist() == [s.encode() for s in want]
            continue
        np.testing.assert_array_equal(np.asarray(leaves[key]), want)
        assert leaves[key].sharding.spec == foretold[key].sharding.spec == expected[key]
        for shard in leaves[key].addressable_shards:
            np.testing.assert_array_equal(np.asarray(shard.data), want[shard.index])
    return batch


def all_leaves(spec: P, **other: P) -> dict[str, P]:
    named = {"['image']": spec, "['label']": spec, "['box']['corner']": spec, "['box']['area']": spec}
    return {**named, **{f"['{k}']": v for k, v in other.items()}}


@pytest.mark.parametrize("prefetch", [0, 2])
def test_leaves_that_are_not_named_follow_the_batch_axis(mesh: Mesh, prefetch: int) -> None:
    pipe = rows().place(mesh, {"image": P("data", None, "model")}, prefetch=prefetch)
    check(pipe, all_leaves(P("data"), image=P("data", None, "model")))
    for batch in pipe.iterate(epochs=2):
        assert batch["image"].sharding.spec == P("data", None, "model")


@pytest.mark.parametrize("shape,axes", MESHES.values(), ids=list(MESHES))
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["Auto", "Explicit"])
def test_every_mesh_and_every_cut(shape: tuple[int, ...], axes: tuple[str, ...], kind: AxisType) -> None:
    mesh = mesh_of(shape, axes, kind)
    batch_axes = axes[:-1] if len(axes) > 1 else axes
    entry = batch_axes if len(batch_axes) > 1 else batch_axes[0]
    check(rows().place(mesh, entry), all_leaves(P(entry)))
    check(rows().place(mesh, {"image": P(entry, None, axes[-1]) if len(axes) > 1 else P(entry), "label": P()}),
          all_leaves(P(entry), image=P(entry, None, axes[-1]) if len(axes) > 1 else P(entry), label=P()))  # fmt: skip


def test_a_prefix_reaches_every_leaf_below_it(mesh: Mesh) -> None:
    spec = {"box": P("model"), "image": P("data"), "label": P("data")}
    pipe = rows().place(mesh, spec)
    found = check(pipe, {**all_leaves(P("data")), "['box']['corner']": P("model"), "['box']['area']": P("model")})
    assert found["box"]["area"].sharding.mesh == mesh


def test_the_longest_prefix_wins(mesh: Mesh) -> None:
    where = target(mesh, {"a": {"b": P("model"), "c": P()}, "d": "data"})
    found = where.shardings([2, 1, 1], ["['a']['b']['x']", "['a']['c']", "['d']"])
    assert [s.spec for s in found] == [P("model"), P(), P("data")]


def test_a_key_is_no_prefix_of_another_key(mesh: Mesh) -> None:
    where = target(mesh, {"a": P("model"), "ab": P("data")})
    assert [s.spec for s in where.shardings([1, 1], ["['a']", "['ab']"])] == [P("model"), P("data")]
    named = target(mesh, Pair(x=P("data"), y=P("model")))
    assert [s.spec for s in named.shardings([1, 1], [".x", ".y"])] == [P("data"), P("model")]


def test_tuples_and_named_tuples(mesh: Mesh) -> None:
    pair = tfjax.from_arrays((ROWS["image"], ROWS["label"])).batch(8)
    image, label = pair.place(mesh, (P("data", "model"), P("data"))).peek()
    assert (image.sharding.spec, label.sharding.spec) == (P("data", "model"), P("data"))
    both = tfjax.from_arrays(Pair(ROWS["image"], ROWS["label"])).batch(8)
    found = both.place(mesh, Pair(P("data", "model"), "data")).peek()
    assert (found.x.sharding.spec, found.y.sharding.spec) == (P("data", "model"), P("data"))


def test_a_tuple_of_names_is_one_entry_of_several_axes(mesh: Mesh) -> None:
    assert rows().place(mesh, ("data", "model")).peek()["label"].sharding.spec == P(("data", "model"))


def test_the_mask_of_padding_follows_the_batch_axis(mesh: Mesh) -> None:
    pipe = tfjax.from_arrays({"x": ROWS["image"][:13]}).batch(8, remainder="pad").place(mesh, {"x": P("data", "model")})
    batches = list(pipe)
    assert {b["mask"].sharding.spec for b in batches} == {P("data")}
    assert int(sum(b["mask"].sum() for b in batches)) == 13


def test_specs_over_the_mesh_that_is_set(mesh: Mesh) -> None:
    with pytest.raises(PlacementError, match=r"needs a mesh.*jax.set_mesh"):
        rows().place({"image": P("data")})
    with jax.set_mesh(mesh):
        check(rows().place({"image": P("data", "model")}), all_leaves(P("data"), image=P("data", "model")))
        check(rows().place(P("data")), all_leaves(P("data")))


def test_shardings_and_devices_by_leaf(mesh: Mesh) -> None:
    where = {"image": NamedSharding(mesh, P("data")), "box": jax.devices()[3], "label": jax.devices()[3]}
    batch = rows().place(where).peek()
    assert batch["image"].sharding == NamedSharding(mesh, P("data"))
    assert batch["box"]["area"].sharding == batch["label"].sharding == SingleDeviceSharding(jax.devices()[3])


def test_a_leaf_left_out_where_the_others_do_not_agree(mesh: Mesh) -> None:
    with pytest.raises(PlacementError, match=r"does not name \['box'\]\['area'\].*do not agree"):
        rows().place(mesh, {"image": P("data"), "label": P("model")})


def test_only_replicated_leaves_are_named(mesh: Mesh) -> None:
    check(rows().place(mesh, {"image": P()}), all_leaves(P()))


def test_a_spec_that_names_no_leaf_lists_the_leaves(mesh: Mesh) -> None:
    with pytest.raises(PlacementError, match=r"\['imgae'\].*no such leaf.*\['image'\]"):
        rows().place(mesh, {"imgae": P("data")})


def test_a_spec_longer_than_the_leaf_that_it_names(mesh: Mesh) -> None:
    with pytest.raises(PlacementError, match=r"2 entries, but \['label'\] has rank 1"):
        rows().place(mesh, {"label": P("data", "model")})


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (P("data", "data"), "uses 'data' twice"),
        (P(P.UNCONSTRAINED), "leaves a dimension open"),
        (P("rows"), "'rows' is no axis of the mesh"),
    ],
    ids=str,
)
def test_specs_that_no_mesh_has(mesh: Mesh, spec: P, text: str) -> None:
    with pytest.raises(PlacementError, match=text):
        rows().place(mesh, {"image": spec})


@pytest.mark.parametrize("axis", [{}, {"image": 3}, [1.5], {"image": None}], ids=str)
def test_a_tree_without_a_spec(mesh: Mesh, axis: Any) -> None:
    with pytest.raises(TypeError, match=r"names no leaf|axis is|is None"):
        rows().place(mesh, axis)


def test_what_is_close_to_a_place_is_told_the_way(mesh: Mesh) -> None:
    for where, axis, text in [
        (jax.devices(), None, "for several devices give a Mesh"),
        (mesh, ["data", "model"], "a tuple of names"),
        (mesh.abstract_mesh, "data", "pass the Mesh itself"),
        (mesh, {"image": NamedSharding(mesh, P())}, "leave the Mesh out"),
    ]:
        with pytest.raises((TypeError, PlacementError), match=text):
            rows().place(where, axis)


def test_what_jax_leaves_open_is_refused(mesh: Mesh) -> None:
    with pytest.raises(TypeError, match=r"\['label'\] is None: give PartitionSpec\(\) to replicate it"):
        rows().place(mesh, {"image": P("data"), "label": None})
    with pytest.raises(TypeError, match="has no devices: make it of the Mesh itself"):
        rows().place(NamedSharding(mesh.abstract_mesh, P("data")))
    auto = mesh_of((4, 2), ("data", "model"))
    with pytest.raises(PlacementError, match="leaves a dimension open"):
        rows().place(NamedSharding(auto, P(P.UNCONSTRAINED)))


def test_unequal_parts_name_leaf_dimension_and_count(mesh: Mesh) -> None:
    text = r"\['image'\] of shape \(16, 4, 8\) cannot be cut.*dimension 1 has 4 rows.* 8 devices"
    with pytest.raises(PlacementError, match=text):
        rows().place(mesh, {"image": P(None, ("data", "model")), "label": P("data"), "box": P("data")})


def test_batches_divide_over_the_parts_of_every_leaf(mesh: Mesh) -> None:
    pipe = tfjax.from_arrays({"x": np.zeros(12), "y": np.zeros(12)}).batch(6)
    with pytest.raises(PlacementError, match=r"batch size 6 does not divide over the 4 devices.*use 4 or 8"):
        pipe.place(mesh, {"x": "model", "y": "data"})
    pipe.place(mesh, {"x": "model", "y": P()})


@given(st.permutations(["data", "model", None]), st.booleans())
def test_shards_hold_what_numpy_slices(entries: list[str | None], explicit: bool) -> None:
    kind = AxisType.Explicit if explicit else AxisType.Auto
    mesh = mesh_of((4, 2), ("data", "model"), kind)
    where = target(mesh, {"image": P(*entries)})
    leaf = ROWS["image"].reshape(8, 8, 8)
    (sharding,) = where.shardings([3], ["['image']"])
    from tfjax.placement.put import Putter

    (array,) = Putter([sharding])([leaf])
    assert array.sharding.spec == P(*entries)
    for shard in array.addressable_shards:
        np.testing.assert_array_equal(np.asarray(shard.data), leaf[shard.index])


@pytest.mark.parametrize("kind", ["device", "pinned_host", "unpinned_host"])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_memory_kinds(mesh: Mesh, kind: str, prefetch: int) -> None:
    where = NamedSharding(mesh, P("data"), memory_kind=kind)
    pipe = tfjax.from_arrays({"x": ROWS["image"]}).batch(16).place(where, prefetch=prefetch)
    batch = next(iter(pipe))["x"]
    assert batch.sharding.memory_kind == pipe.spec["x"].sharding.memory_kind == kind
    np.testing.assert_array_equal(np.asarray(batch), ROWS["image"])
    one = SingleDeviceSharding(jax.devices()[0], memory_kind=kind)
    assert tfjax.from_arrays({"x": ROWS["image"]}).batch(16).place(one).peek()["x"].sharding.memory_kind == kind


class TestPerDevice:
    @pytest.mark.parametrize("count", [1, 2, 8])
    def test_the_leading_axis_is_the_device(self, count: int) -> None:
        devices = jax.local_devices()[:count]
        pipe = rows().place_per_device(devices)
        batch, spec = pipe.peek(), pipe.spec
        assert batch["image"].shape == spec["image"].shape == (count, 16 // count, 4, 8)
        np.testing.assert_array_equal(np.asarray(batch["image"]).reshape(16, 4, 8), ROWS["image"])
        assert batch["id"].shape == (16,)
        for shard in batch["label"].addressable_shards:
            assert shard.device == devices[shard.index[0].start or 0]

    def test_pmap_takes_it_as_it_lies(self) -> None:
        batch = rows().place_per_device().peek()
        total = jax.pmap(lambda x: jax.lax.psum(x.sum(), "i"), axis_name="i")(batch["image"])
        assert total.tolist() == [ROWS["image"].sum()] * 8

    def test_device_functions_see_the_leading_axis(self) -> None:
        pipe = tfjax.from_arrays({"x": ROWS["label"]}).batch(16).device_map(lambda b: {"n": b["x"].sum(axis=1)})
        assert pipe.place_per_device().peek()["n"].tolist() == ROWS["label"].reshape(8, 2).sum(1).tolist()

    def test_padding_and_its_mask(self) -> None:
        pipe = tfjax.from_arrays({"x": ROWS["label"][:13]}).batch(8, remainder="pad").place_per_device()
        assert [b["mask"].shape for b in pipe] == [(8, 1), (8, 1)]
        assert pipe.spec["mask"].shape == (8, 1)

    def test_what_does_not_divide(self) -> None:
        with pytest.raises(PlacementError, match="batch size 12 does not divide over the 8 devices"):
            tfjax.from_arrays({"x": np.zeros(24)}).batch(12).place_per_device()
        with pytest.raises(PlacementError, match="last batch of an epoch has 1 rows"):
            tfjax.from_arrays({"x": np.zeros(17)}).batch(16).place_per_device()

    @pytest.mark.parametrize("devices", [[], [0], "cpu", [None], 4, {"data": 1}], ids=str)
    def test_what_is_no_list_of_devices(self, devices: Any) -> None:
        with pytest.raises(TypeError, match="no list of devices"):
            rows().place_per_device(devices)

    def test_a_device_twice(self) -> None:
        with pytest.raises(ValueError, match="names a device twice"):
            rows().place_per_device(jax.devices()[:1] * 2)

    def test_no_mesh_is_named_where_none_was_given(self) -> None:
        with pytest.raises(PlacementError, match="batch size 16 does not divide over the 3 devices: use 15 or 18"):
            rows().place_per_device(jax.devices()[:3])

    def test_place_appears_once(self) -> None:
        with pytest.raises(ValueError, match="place appears once"):
            rows().place(jax.devices()[0]).place_per_device()
