"""Recipes: what they are made of, what they yield, and that evaluation is never random."""

import ast
import dataclasses
import inspect
import io

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("PIL")

import jax
import tensorflow as tf
from PIL import Image

import tfjax
from tfjax import image, on_device, recipes
from tfjax.sources.folder import FolderInfo

SIZES = [(40, 60), (60, 40), (50, 50), (33, 90), (64, 64), (45, 47), (80, 41)]
MOVED = repr(image.RandomCrop((32, 32), padding=4))


def jpeg(height, width, seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((width, height)).save(buffer, "JPEG")
    return buffer.getvalue()


def photos():
    """Encoded photos of varying size."""
    return tfjax.from_examples([{"image": jpeg(*size, k), "label": k % 3} for k, size in enumerate(SIZES)])


def small(channels=3, side=32, count=20, info=None):
    """Decoded images of one size, as they would come with the `info` of a folder."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, channels), np.uint8)
    pipe = tfjax.from_arrays({"image": pixels, "label": np.arange(count) % 3})
    return type(pipe)(dataclasses.replace(pipe._stage, info=info))


def named(*classes):
    return FolderInfo(classes=classes, counts={}, unusable=0, ignored=0)


def batches(pipe, epoch=0):
    return [jax.tree.map(np.asarray, batch) for batch in pipe.iterate(start_epoch=epoch, epochs=1)]


def same(first, second):
    return len(first) == len(second) and all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    )


def stages(pipe):
    """What the chain is made of, without its source."""
    return [stage.describe() for stage in pipe._chain[1:]]


@pytest.mark.parametrize("name", recipes.__all__)
def test_a_recipe_has_under_40_lines(name):
    function = ast.parse(inspect.getsource(getattr(recipes, name))).body[0]
    body = function.body[1:]  # less the docstring
    assert body[-1].end_lineno - body[0].lineno < 40


@pytest.mark.parametrize("given", ["flowers", {"image": 1}, None], ids=str)
def test_a_recipe_takes_a_pipeline(given):
    for recipe, more in ((recipes.images, {}), (recipes.small_images, {"mean": 0, "std": 1, "flip": False})):
        with pytest.raises(TypeError, match=r"takes a pipeline, given .*: pass tfjax\.load"):
            recipe(given, train=True, batch_size=4, **more)
    with pytest.raises(TypeError, match=r"recipes.default takes a pipeline"):
        recipes.default(given, train=True, batch_size=4)


class TestImages:
    def test_training_is_the_usual_chain(self):
        pipe = recipes.images(photos(), train=True, batch_size=3, size=32)
        by_hand = (
            photos()
            .shuffle(seed=0)
            .apply(image.Decode(), image.RandomResizedCrop(32), image.RandomFlip())
            .batch(3, remainder="drop")
            .device_map(on_device.normalize("image", recipes.IMAGENET_MEAN, recipes.IMAGENET_STD))
        )
        assert stages(pipe) == stages(by_hand)
        assert pipe.spec["image"] == jax.ShapeDtypeStruct((3, 32, 32, 3), np.float32)
        assert same(batches(pipe), batches(by_hand))
        assert len(pipe) == 2  # 7 examples

    def test_training_is_random_by_epoch_and_seed_and_not_otherwise(self):
        pipe = recipes.images(photos(), train=True, batch_size=7, size=32)
        assert same(batches(pipe), batches(pipe))
        assert not same(batches(pipe), batches(pipe, epoch=1))
        other = recipes.images(photos(), train=True, batch_size=7, size=32, seed=1)
        assert not same(batches(pipe), batches(other))

    def test_evaluation_is_every_photo_in_order_and_never_random(self):
        pipe = recipes.images(photos(), train=False, batch_size=3, size=28, mean=0, std=1)
        assert "andom" not in repr(pipe)
        assert "shuffle" not in repr(pipe)
        found = batches(pipe)
        assert same(found, batches(pipe, epoch=3))
        assert same(found, batches(recipes.images(photos(), train=False, batch_size=3, size=28, mean=0, std=1, seed=9)))
        assert [batch["mask"].tolist() for batch in found] == [[True] * 3, [True] * 3, [True, False, False]]
        shown = np.concatenate([batch["image"][batch["mask"]] for batch in found])
        ops = image.Decode(min_short_side=32), image.ResizeShortSide(32, antialias=True), image.CenterCrop(28)
        np.testing.assert_array_equal(shown, [example["image"] for example in photos().apply(*ops)])

    def test_pixels_are_normalised_channel_by_channel(self):
        plain = recipes.images(photos(), train=False, batch_size=7, size=28, mean=0, std=1).peek()["image"]
        pixels = recipes.images(photos(), train=False, batch_size=7, size=28).peek()["image"]
        expected = (plain - np.array(recipes.IMAGENET_MEAN)) / np.array(recipes.IMAGENET_STD)
        np.testing.assert_allclose(pixels, expected, atol=1e-5)

    @pytest.mark.parametrize("train", [True, False])
    def test_what_is_decoded_already_is_left_so(self, train):
        decoded = small(side=40)
        pipe = recipes.images(decoded, train=train, batch_size=4, size=32)
        assert not [name for name in stages(pipe) if name.startswith("Decode")]
        assert pipe.spec["image"].shape == (4, 32, 32, 3)

    @pytest.mark.parametrize("train", [True, False])
    def test_over_tfds_its_own_decoding_is_replaced(self, tfds_dir, train):
        flowers = tfjax.load("tf_flowers", data_dir=tfds_dir)
        pipe = recipes.images(flowers, train=train, batch_size=8, size=64)
        assert any(name.startswith("Decode(") for name in stages(pipe))
        batch = pipe.peek()
        assert batch["image"].shape == (8, 64, 64, 3)
        assert batch["label"].shape == (8,)

    @pytest.mark.parametrize("train", [True, False])
    def test_over_tfds_what_a_map_decoded_otherwise_is_left_so(self, tfds_dir, train):
        inverted = tfjax.load("mnist", data_dir=tfds_dir).map(lambda e: {**e, "image": 255 - e["image"]})
        pipe = recipes.images(inverted, train=train, batch_size=8, size=14)
        assert not any(name.startswith("Decode(") for name in stages(pipe))
        assert pipe.spec["image"].shape == (8, 14, 14, 1)

    def test_text_that_is_no_image_is_refused_by_decode(self):
        pipe = tfjax.from_arrays({"image": np.array([["a", "b"]] * 3)})
        with pytest.raises(TypeError, match=r"Decode.*'image' is string of shape \(2,\), which is no encoded image"):
            recipes.images(pipe, train=False, batch_size=1)

    def test_floats_need_a_mean_and_a_std(self):
        floats = small(side=40).map(lambda e: {**e, "image": tf.cast(e["image"], tf.float32) / 255})
        for numbers in ({}, {"mean": 0.5}):
            with pytest.raises(tfjax.SpecError, match=r"'image' is float32, and the default .*: give mean= and std="):
                recipes.images(floats, train=True, batch_size=4, size=32, **numbers)
        pipe = recipes.images(floats, train=True, batch_size=4, size=32, mean=0.5, std=0.2)
        assert -2.6 < pipe.peek()["image"].min() < 0

    def test_a_size_is_an_int(self):
        with pytest.raises(TypeError, match=r"recipes\.images: size takes an int, given '32'"):
            recipes.images(photos(), train=False, batch_size=4, size="32")

    @pytest.mark.parametrize("channels", [1, 4])
    def test_other_channels_have_the_average_of_imagenet(self, channels):
        pipe = recipes.images(small(channels, side=64), train=False, batch_size=4, size=32)
        plain = recipes.images(small(channels, side=64), train=False, batch_size=4, size=32, mean=0, std=1)
        expected = (plain.peek()["image"] - np.mean(recipes.IMAGENET_MEAN)) / np.mean(recipes.IMAGENET_STD)
        np.testing.assert_allclose(pipe.peek()["image"], expected, atol=1e-5)

    def test_other_leaves_are_what_they_were(self):
        pipe = recipes.images(photos(), train=False, batch_size=7, size=28)
        assert pipe.peek()["label"].tolist() == [k % 3 for k in range(7)]

    def test_no_image(self):
        with pytest.raises(KeyError, match="image"):
            recipes.images(tfjax.from_arrays({"x": np.zeros((4, 2))}), train=False, batch_size=2)

    def test_a_leaf_that_cannot_be_batched_is_named(self):
        pipe = photos().map(lambda e: {**e, "name": "a"})
        with pytest.raises(tfjax.SpecError, match="'name'"):
            recipes.images(pipe, train=False, batch_size=2).peek()


class TestSmallImages:
    def test_training_moves_and_flips_them(self):
        pipe = recipes.small_images(small(), train=True, batch_size=8, mean=100, std=50, flip=True)
        assert stages(pipe)[:3] == ["shuffle(seed=0)", MOVED, "RandomFlip()"]
        assert pipe.spec["image"] == jax.ShapeDtypeStruct((8, 32, 32, 3), np.float32)
        assert same(batches(pipe), batches(pipe))
        assert not same(batches(pipe), batches(pipe, epoch=1))

    def test_they_are_not_flipped_where_that_is_not_asked_for(self):
        pipe = recipes.small_images(small(), train=True, batch_size=8, mean=100, std=50, flip=False)
        assert not any("Flip" in name for name in stages(pipe))

    def test_tiny_ones_are_not_moved(self):
        pipe = recipes.small_images(small(side=8), train=True, batch_size=8, mean=100, std=50, flip=False)
        assert stages(pipe)[:2] == ["shuffle(seed=0)", "batch(size=8, remainder='drop')"]

    def test_evaluation_is_the_images_themselves(self):
        pipe = recipes.small_images(small(), train=False, batch_size=8, mean=100, std=50, flip=True)
        found = batches(pipe)
        assert same(found, batches(pipe, epoch=1))
        shown = np.concatenate([batch["image"][batch["mask"]] for batch in found])
        expected = (np.stack([example["image"] for example in small()]) - 100.0) / 50
        np.testing.assert_allclose(shown, expected, rtol=1e-6)


class TestDefault:
    def test_small_images_are_normalised_as_the_training_split_is(self):
        train = small(count=20)
        test = small(count=20).map(lambda e: {**e, "image": e["image"] // 2})
        rest = np.concatenate([batch["image"] for batch in batches(recipes.default(train, train=True, batch_size=4))])
        pixels = np.stack([example["image"] for example in train]).astype(float)
        mean, std = pixels.mean((0, 1, 2)), pixels.std((0, 1, 2))
        assert abs(rest.mean()) < 0.5  # zeros come in at the edges
        found = recipes.default(test, train=False, batch_size=20, trained_on=train).peek()["image"]
        np.testing.assert_allclose(found, (pixels // 2 - mean) / std, atol=1e-5)

    def test_a_channel_without_deviation_is_only_shifted(self):
        pipe = tfjax.from_arrays({"image": np.full((4, 16, 16, 1), 7, np.uint8)})
        found = recipes.default(pipe, train=False, batch_size=4, trained_on=pipe).peek()["image"]
        np.testing.assert_array_equal(found, np.zeros((4, 16, 16, 1)))

    @pytest.mark.parametrize(
        ("channels", "info", "flips"),
        [
            (3, named("cat", "dog", "frog"), True),
            (1, named("cat", "dog", "frog"), False),
            (3, named("0", "1", "10"), False),
            (3, named("a", "b", "c"), False),
            (3, None, False),
        ],
    )
    def test_flips_only_what_stays_what_it_is(self, channels, info, flips):
        pipe = recipes.default(small(channels, info=info), train=True, batch_size=4)
        assert ("RandomFlip()" in stages(pipe)) == flips
        assert MOVED in stages(pipe)

    def test_digits_are_neither_moved_nor_flipped(self, digits_dir):
        train, test = (tfjax.load("digits", split=s, data_dir=digits_dir) for s in ("train", "test"))
        pipe = recipes.default(train, train=True, batch_size=64)
        assert stages(pipe)[1:3] == ["shuffle(seed=0)", "batch(size=64, remainder='drop')"]
        assert pipe.spec["image"].shape == (64, 8, 8, 1)
        evaluated = recipes.default(test, train=False, batch_size=64, trained_on=train)
        assert sum(batch["mask"].sum() for batch in evaluated) == len(test)

    def test_mnist(self, tfds_dir):
        mnist = tfjax.load("mnist", data_dir=tfds_dir)
        pipe = recipes.default(mnist, train=True, batch_size=32)
        assert stages(pipe)[1:4] == [
            "shuffle(seed=0)",
            repr(image.RandomCrop((28, 28), padding=3)),
            "batch(size=32, remainder='drop')",
        ]

    @pytest.mark.parametrize("train", [True, False])
    def test_photos_go_to_images(self, tfds_dir, train):
        flowers = tfjax.load("tf_flowers", data_dir=tfds_dir)
        pipe = recipes.default(flowers, train=train, batch_size=2)
        assert stages(pipe) == stages(recipes.images(flowers, train=train, batch_size=2))
        assert pipe.spec["image"].shape == (2, 224, 224, 3)

    def test_encoded_photos_go_to_images(self):
        assert recipes.default(photos(), train=True, batch_size=2).spec["image"].shape == (2, 224, 224, 3)

    def test_large_images_of_one_size_keep_it(self):
        large = tfjax.from_arrays({"image": np.zeros((4, 120, 150, 3), np.uint8)})
        assert recipes.default(large, train=True, batch_size=2).spec["image"].shape == (2, 120, 120, 3)

    @pytest.mark.parametrize("train", [True, False])
    def test_large_grey_images(self, train):
        grey = tfjax.from_arrays({"image": np.zeros((8, 120, 120, 1), np.uint8)})
        pipe = recipes.default(grey, train=train, batch_size=2, trained_on=grey)
        assert pipe.peek()["image"].shape == (2, 120, 120, 1)

    def test_small_images_are_not_evaluated_without_those_of_the_training(self):
        with pytest.raises(ValueError, match="pass trained_on=, the pipeline that default was given for training"):
            recipes.default(small(), train=False, batch_size=4)

    def test_no_image(self):
        with pytest.raises(KeyError, match=r"select: no key 'image'; the keys are 'x'"):
            recipes.default(tfjax.from_arrays({"x": np.zeros((4, 2))}), train=True, batch_size=2)
        with pytest.raises(tfjax.SpecError, match=r"'image' has shape \(2,\), and an image is \(height, width, chan"):
            recipes.default(tfjax.from_arrays({"image": np.zeros((4, 2))}), train=True, batch_size=2)
