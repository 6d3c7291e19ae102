"""On meshes with Auto and Explicit axes: shardings stay, bits are those of one device, rows stay where they are."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import tfjax
from tfjax import on_device

COUNT = 16
RNG = np.random.default_rng(0)
BATCH = {
    "image": RNG.integers(0, 256, (COUNT, 32, 12, 3), np.uint8),
    "label": np.eye(COUNT, dtype=np.float32),
    "class": np.arange(COUNT, dtype=np.int32),
    "mask": np.arange(COUNT) < COUNT - 3,
}
KEY = jax.random.key(3)
BY_ROW = {
    "normalize": on_device.normalize("image", (1, 2, 3), 60),
    "cast": on_device.cast({"image": "bfloat16"}),
    "one_hot": on_device.one_hot("class", 20, smoothing=0.1),
    "random_flip": on_device.random_flip("image", vertical=True),
    "random_crop": on_device.random_crop("image", (24, 12), padding=2),
    "brightness": on_device.brightness("image", 60),
    "contrast": on_device.contrast("image", 0.5, 1.5),
}
MIXING = {"mixup": on_device.mixup("image", "label", 1), "cutmix": on_device.cutmix("image", "label", 1)}
ALL = {**BY_ROW, **MIXING}
COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
KINDS = pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)


def called(name):
    fn = ALL[name]
    return fn if name in ("normalize", "cast", "one_hot") else lambda batch: fn(batch, KEY)


@functools.cache
def alone(name, dtype):
    """What one device makes of the batch."""
    return jax.tree.map(np.asarray, jax.jit(called(name))(batch_of(dtype)))


def batch_of(dtype):
    return {**BATCH, "image": BATCH["image"].astype(dtype)}


def placed(kind, spec, dtype):
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind, kind))
    rows = NamedSharding(mesh, PartitionSpec(spec[0]))
    batch = {key: jax.device_put(leaf, rows) for key, leaf in batch_of(dtype).items()}
    return {**batch, "image": jax.device_put(batch["image"], NamedSharding(mesh, spec))}


def require_same(out, expected):
    for key, leaf in expected.items():
        assert out[key].dtype == leaf.dtype
        if jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating):
            np.testing.assert_allclose(out[key], leaf, rtol=1e-6, atol=1e-6 * float(np.abs(leaf).max()))
        else:
            assert np.array_equal(out[key], leaf)


@KINDS
@pytest.mark.parametrize("name", ALL)
def test_the_sharding_stays(name, kind):
    batch = placed(kind, PartitionSpec(("data", "model")), np.uint8)
    compiled = jax.jit(called(name)).lower(batch).compile()
    out = compiled(batch)
    for key, leaf in out.items():
        assert leaf.sharding.is_equivalent_to(batch[key].sharding, leaf.ndim), key
    require_same(out, alone(name, np.uint8))
    if name in BY_ROW:
        assert not [kind for kind in COLLECTIVES if kind in compiled.as_text()]


@KINDS
@pytest.mark.parametrize("name", ALL)
def test_images_that_are_cut_inside(name, kind):
    """Width over a mesh: a crop moves pixels between the devices, and what comes out is cut by rows."""
    batch = placed(kind, PartitionSpec("data", None, "model"), np.float32)
    out = jax.jit(called(name))(batch)
    require_same(out, alone(name, np.float32))
    expected = batch["label"].sharding if name == "random_crop" else batch["image"].sharding
    assert out["image"].sharding.is_equivalent_to(expected, 4)


@KINDS
@pytest.mark.parametrize("name", ["random_flip", "random_crop", "brightness", "contrast"])
def test_by_example_the_same_as_one_by_one(name, kind):
    fn = ALL[name]
    keys = jax.random.split(KEY, COUNT)
    expected = np.stack([fn({"image": image}, key)["image"] for image, key in zip(BATCH["image"], keys, strict=True)])
    image = placed(kind, PartitionSpec(("data", "model")), np.uint8)["image"]
    keys = jax.device_put(keys, NamedSharding(image.sharding.mesh, PartitionSpec(("data", "model"))))
    out = jax.jit(jax.vmap(fn))({"image": image}, keys)["image"]
    assert np.array_equal(out, expected)
    assert out.sharding.is_equivalent_to(image.sharding, 4)


def recipe():
    pipe = tfjax.from_arrays({"image": BATCH["image"], "label": BATCH["class"]}).shuffle(seed=0)
    return (
        pipe.batch(8)
        .random_device_map(on_device.random_flip("image"))
        .random_device_map(on_device.random_crop("image", 12, padding=2), per_example=True)
        .random_device_map(on_device.contrast("image", 0.5, 1.5))
        .device_map(on_device.one_hot("label", COUNT))
        .random_device_map(on_device.cutmix("image", "label", 1))
        .device_map(on_device.normalize("image", 127.5, 60))
        .device_map(on_device.cast({"image": "bfloat16"}))
    )


@functools.cache
def recipe_alone():
    return [jax.tree.map(np.asarray, batch) for batch in recipe().iterate(epochs=2)]


@KINDS
def test_a_whole_recipe_gives_the_bits_of_one_device_and_resumes(kind):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    pipe = recipe().place(mesh, "data")
    expected = recipe_alone()
    with pipe.iterate(epochs=2) as batches:
        found = [next(batches)]
        state = batches.state
    found.extend(pipe.iterate(epochs=2, state=state))
    assert len(found) == len(expected) == 4
    assert found[0]["image"].sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec("data")), 4)
    assert not np.array_equal(expected[0]["image"], expected[2]["image"])
    for one, other in zip(found, expected, strict=True):
        require_same(one, other)
