"""What holds wherever batches are put: the same values in one structure, where `spec` said that they would go."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

import tfjax
from tfjax.placement import put

ROWS = {
    "image": np.arange(48 * 8 * 16, dtype=np.float32).reshape(48, 8, 16),
    "label": np.arange(48, dtype=np.int64),
    "flag": np.arange(48) % 3 == 0,
}
BATCH = 16


def mesh(count: int, *shape: int, axes: tuple[str, ...] = ("data",), kind: AxisType = AxisType.Auto) -> Mesh:
    shape = shape or (count,)
    return jax.make_mesh(shape, axes, axis_types=(kind,) * len(axes), devices=jax.devices()[:count])


def half(count: int) -> tuple[int, int]:
    return (count // 2, 2) if count > 1 else (1, 1)


def model(count: int, kind: AxisType = AxisType.Auto) -> Mesh:
    return mesh(count, *half(count), axes=("data", "model"), kind=kind)


def cube(count: int) -> Mesh:
    shape = {1: (1, 1, 1), 2: (1, 2, 1), 8: (2, 2, 2)}[count]
    return mesh(count, *shape, axes=("replica", "fsdp", "model"))


Place = Callable[["tfjax.Pipeline", int, int], "tfjax.Pipeline"]
PLACEMENTS: dict[str, Place] = {
    "a device": lambda p, n, ahead: p.place(jax.devices()[n - 1], prefetch=ahead),
    "a mesh": lambda p, n, ahead: p.place(mesh(n), prefetch=ahead),
    "an axis": lambda p, n, ahead: p.place(model(n), "data", prefetch=ahead),
    "an axis, Explicit": lambda p, n, ahead: p.place(model(n, AxisType.Explicit), "data", prefetch=ahead),
    "two axes": lambda p, n, ahead: p.place(cube(n), ("replica", "fsdp"), prefetch=ahead),
    "a spec": lambda p, n, ahead: p.place(cube(n), P(("replica", "fsdp")), prefetch=ahead),
    "specs by leaf": lambda p, n, ahead: p.place(model(n), {"image": P("data", None, "model")}, prefetch=ahead),
    "replicated": lambda p, n, ahead: p.place(mesh(n), P(), prefetch=ahead),
    "a sharding": lambda p, n, ahead: p.place(NamedSharding(mesh(n), P("data")), prefetch=ahead),
    "pinned memory": lambda p, n, ahead: p.place(
        NamedSharding(mesh(n), P("data"), memory_kind="pinned_host"), prefetch=ahead
    ),
    "shardings by leaf": lambda p, n, ahead: p.place(
        {"image": NamedSharding(mesh(n), P("data")), "label": NamedSharding(mesh(n), P()), "flag": jax.devices()[0]},
        prefetch=ahead,
    ),
    "per device": lambda p, n, ahead: p.place_per_device(jax.devices()[:n], prefetch=ahead),
}


@pytest.fixture(params=["jaxlib's own put", "device_put"])
def each_put(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to the devices: the private one is used with the jaxlib versions that it was tested with."""
    if request.param == "device_put":
        monkeypatch.setattr("tfjax.placement.put._fast_put", lambda: None)
    else:
        assert put._fast_put() is not None


def rows() -> "tfjax.Pipeline":
    return tfjax.from_arrays(ROWS).shuffle(3).batch(BATCH)


def order() -> list[np.ndarray]:
    return [np.asarray(b["label"]) for b in rows().place(jax.devices()[0])]


@pytest.fixture(params=[1, 2, 8], ids=lambda n: f"{n} devices")
def count(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(params=PLACEMENTS.values(), ids=PLACEMENTS)
def place(request: pytest.FixtureRequest) -> Place:
    return request.param  # type: ignore[no-any-return]


def flat(leaf: Any, pipe: "tfjax.Pipeline") -> np.ndarray:
    """A leaf with one batch dimension, also where `place_per_device` made two of it."""
    array = np.asarray(leaf)
    return array.reshape(BATCH, *array.shape[2:]) if "per_device" in repr(pipe) else array


@pytest.mark.usefixtures("each_put")
@pytest.mark.parametrize("ahead", [0, 2])
def test_the_same_batches_everywhere(place: Place, count: int, ahead: int) -> None:
    pipe = place(rows(), count, ahead)
    batches = list(pipe)
    assert len(batches) == 3
    for batch, index in zip(batches, order(), strict=True):
        for key, values in ROWS.items():
            np.testing.assert_array_equal(flat(batch[key], pipe), values[index])


@pytest.mark.usefixtures("each_put")
def test_spec_foretells_shape_dtype_and_sharding(place: Place, count: int) -> None:
    pipe = place(rows(), count, 0)
    batch = pipe.peek()
    assert jax.tree.structure(pipe.spec) == jax.tree.structure(batch)
    for said, leaf in zip(jax.tree.leaves(pipe.spec), jax.tree.leaves(batch), strict=True):
        assert (said.shape, said.dtype, said.sharding) == (leaf.shape, leaf.dtype, leaf.sharding)
        assert leaf.committed
        assert leaf.aval == jax.device_put(np.zeros(leaf.shape, leaf.dtype), leaf.sharding).aval


def test_each_shard_holds_its_slice(place: Place, count: int) -> None:
    for leaf in jax.tree.leaves(place(rows(), count, 2).peek()):
        whole = np.asarray(leaf)
        assert len(leaf.addressable_shards) == len(leaf.sharding.device_set)
        for shard in leaf.addressable_shards:
            np.testing.assert_array_equal(np.asarray(shard.data), whole[shard.index])


def test_a_state_of_one_placement_resumes_on_another(place: Place, count: int) -> None:
    with rows().place(jax.devices()[0]).iterate(epochs=2) as batches:
        next(batches), next(batches)
        state = batches.state.to_json()
        rest = [np.asarray(b["label"]) for b in batches]
    pipe = place(rows(), count, 2)
    resumed = [flat(b["label"], pipe) for b in pipe.iterate(epochs=2, state=state)]
    np.testing.assert_array_equal(resumed, rest)


def test_a_jitted_function_takes_the_batch_as_it_lies(place: Place, count: int) -> None:
    pipe = place(rows(), count, 2)
    if len({frozenset(leaf.sharding.device_set) for leaf in jax.tree.leaves(pipe.spec)}) > 1:
        pytest.skip("leaves on different devices are not taken by one jitted function")
    batch = pipe.peek()
    total = jax.jit(lambda b: b["image"].sum() + b["label"].sum())(batch)
    want = ROWS["image"][order()[0]].astype(np.float64).sum() + order()[0].sum()
    np.testing.assert_allclose(float(total), want, rtol=1e-5)


def test_the_report_counts_every_shard(place: Place, count: int) -> None:
    report = place(rows(), count, 0).copy_report()
    assert [leaf.path for leaf in report.leaves] == ["['flag']", "['image']", "['label']"]
    assert {leaf.outcome for leaf in report.leaves} <= {"shared", "copied"}
    assert report.leaves[2].why.endswith("narrowed from int64 in the graph")


def test_of_a_stack_each_batch_lies_as_it_does_alone(place: Place, count: int) -> None:
    if "per_device" in repr(place(rows(), count, 0)):
        pytest.skip("place_per_device takes single batches")
    pipe = place(rows(), count, 2)
    stacked, singles = pipe.stack(2), list(pipe)
    (one, rest), spec = list(stacked), stacked.spec
    for key, wanted in (("image", 2), ("label", 2)):
        assert (one[key].shape[0], rest[key].shape[0], spec[key].shape[:2]) == (wanted, 1, (None, BATCH))
        assert spec[key].sharding == one[key].sharding == rest[key].sharding
        alone = singles[0][key]
        shards = {s.device: s.index for s in alone.addressable_shards}
        for shard in one[key].addressable_shards:
            assert shard.index == (slice(None), *shards[shard.device])
            np.testing.assert_array_equal(shard.data[0], np.asarray(alone)[shards[shard.device]])
    for got, want in zip([*one["image"], *rest["image"]], singles, strict=True):
        np.testing.assert_array_equal(got, want["image"])


def test_foreign_trees_go_the_same_way(count: int) -> None:
    where = {"image": NamedSharding(mesh(count), P("data")), "label": NamedSharding(mesh(count), P())}
    trees = [{k: ROWS[k][i : i + BATCH] for k in where} for i in range(0, 48, BATCH)]
    ours = tfjax.from_arrays({k: ROWS[k] for k in where}).batch(BATCH).place(where)
    for size in (0, 2):
        for got, want in zip(tfjax.prefetch_to_device(trees, where, size=size), ours, strict=True):
            for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
                assert (a.sharding, a.dtype) == (b.sharding, b.dtype)
                np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_one_device_of_a_mesh_is_the_mesh() -> None:
    assert rows().place(mesh(1)).peek()["label"].sharding == NamedSharding(mesh(1), P("data"))
    assert rows().place(jax.devices()[0]).peek()["label"].sharding == SingleDeviceSharding(jax.devices()[0])
