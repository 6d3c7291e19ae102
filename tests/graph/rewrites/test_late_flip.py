"""A flip left to the devices: the batches are the same to the bit, as if batches went to an accelerator."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

import tfjax
from tfjax import image
from tfjax.placement.target import Target

ROWS = {
    "image": np.random.default_rng(0).integers(0, 255, (24, 6, 5, 3)).astype(np.uint8),
    "view": {"image": np.random.default_rng(1).random((24, 4, 4, 1)).astype(np.float32)},
    "label": np.arange(24, dtype=np.int32),
}


@pytest.fixture
def accelerated(monkeypatch):
    """CPU devices that are taken for accelerators, from when it is called."""
    return lambda: monkeypatch.setattr(Target, "is_accelerator", property(lambda _: True))


def everything(make):
    return [jax.tree.map(np.asarray, b) for b in make().iterate(epochs=2)]


def equal(one, other):
    return len(one) == len(other) and jax.tree.all(jax.tree.map(np.array_equal, one, other))


@pytest.mark.parametrize(
    "op", [image.RandomFlip(), image.RandomFlip(vertical=True), image.RandomFlip(False, True)], ids=repr
)
@pytest.mark.parametrize("placed", [False, True])
def test_batches_are_unchanged_to_the_bit(accelerated, op, placed):
    def make():
        pipe = tfjax.from_arrays(ROWS).shuffle(1).apply(image.RandomCrop(4), op, image.RandomFlip(key="view/image"))
        pipe = pipe.batch(8)
        pipe = pipe.random_device_map(lambda b, k: {**b, "noise": jax.random.normal(k, b["label"].shape)})
        pipe = pipe.device_map(lambda b: {**b, "sum": jnp.sum(b["image"].astype(jnp.int32), (1, 2, 3))})
        mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Explicit,), devices=jax.devices()[:2])
        return pipe.place(mesh, "data") if placed else pipe

    expected, spec = everything(make), make().spec
    assert "on the devices" not in make().explain()
    accelerated()
    assert make().explain().count("applied on the devices") == 2
    assert equal(everything(make), expected) and make().spec == spec


def test_random_ops_after_it_keep_their_seeds(accelerated):
    def make():
        pipe = tfjax.from_arrays(ROWS).apply(image.RandomFlip())
        other = image.RandomFlip(vertical=True, key="view/image", boxes=None)
        return pipe.apply(image.RandomCrop(3, key="view/image"), other).batch(6)

    expected = everything(make)
    accelerated()
    assert equal(everything(make), expected)


def test_the_host_graph_is_whole(accelerated):
    pipe = tfjax.from_arrays(ROWS).apply(image.RandomFlip()).batch(8)
    expected = [b["image"].numpy() for b in pipe.to_tf()]
    accelerated()
    again = tfjax.from_arrays(ROWS).apply(image.RandomFlip()).batch(8)
    assert np.array_equal([b["image"].numpy() for b in again.to_tf()], expected)
    assert [leaf.outcome for leaf in again.copy_report().leaves] == ["shared"] * 3
    with again.iterate(epochs=1) as batches:
        next(batches)
        state = batches.state
    assert np.array_equal(next(pipe.iterate(epochs=1, state=state))["image"], expected[1])


@pytest.mark.parametrize(
    "after",
    [
        lambda pipe: pipe.apply(image.RandomCrop(4)),
        lambda pipe: pipe.map(lambda e: e),
        lambda pipe: pipe.random_map(lambda e, _: e),
    ],
)
def test_what_comes_after_it_keeps_it_in_the_graph(accelerated, after):
    accelerated()
    assert "on the devices" not in after(tfjax.from_arrays(ROWS).apply(image.RandomFlip())).batch(4).explain()


def test_boxes_keep_it_in_the_graph(accelerated):
    accelerated()
    rows = {"image": ROWS["image"], "bbox": np.zeros((24, 2, 4), np.float32)}
    assert "on the devices" not in tfjax.from_arrays(rows).apply(image.RandomFlip(boxes="bbox")).batch(4).explain()


def test_a_seed_after_batch_counts(accelerated):
    def make():
        return tfjax.from_arrays(ROWS).apply(image.RandomFlip()).batch(8).seed(7)

    expected = everything(make)
    accelerated()
    assert "on the devices" in make().explain() and equal(everything(make), expected)


def test_images_on_the_host_are_flipped_in_the_graph(accelerated):
    def make():
        return tfjax.from_arrays(ROWS).keep_on_host("image").apply(image.RandomFlip()).batch(8)

    expected = everything(make)
    accelerated()
    assert "on the devices" not in make().explain() and equal(everything(make), expected)
    label = tfjax.from_arrays(ROWS).apply(image.RandomFlip()).keep_on_host("label").batch(8)
    assert "on the devices" in label.explain()


def test_the_structure_of_the_user_comes_back(accelerated):
    accelerated()
    ordered = collections.OrderedDict(image=ROWS["image"], label=ROWS["label"])
    batch = tfjax.from_arrays(ordered).apply(image.RandomFlip()).batch(8).peek()
    assert isinstance(batch, collections.OrderedDict)
