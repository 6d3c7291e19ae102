"""What `explain` says of images that become floats on the host."""

import numpy as np
import pytest

import tfjax
from tfjax import image
from tfjax._tensorflow import tf

COSTS = "bytes a value to move instead of 1; uint8, and on_device.normalize in device_map, cost less"


def photos(dtype=np.uint8, **more):
    rows = {"image": np.zeros((6, 8, 10, 3), dtype), "label": np.arange(6), **more}
    return tfjax.from_arrays(rows)


def scale(example):
    return {**example, "image": tf.cast(example["image"], tf.float32) / 255}


def notes(pipe):
    return [line.strip() for line in pipe.explain().splitlines() if "becomes" in line]


def test_the_op_that_makes_floats_of_an_image_is_named():
    pipe = photos().apply(image.CenterCrop(6), image.Normalize(127.5, 127.5), image.RandomFlip()).batch(2)
    (note,) = notes(pipe)
    assert note.startswith("['image'] becomes float32 in Normalize(127.5, 127.5), before batch: 4 bytes a value")
    assert note.endswith(COSTS)


@pytest.mark.parametrize(("dtype", "size"), [(tf.float16, 2), (tf.bfloat16, 2), (tf.float64, 8)])
def test_other_floats_have_their_size(dtype, size):
    pipe = photos().map(lambda e: {**e, "image": tf.cast(e["image"], dtype)}).batch(2)
    assert f"becomes {dtype.name} in map(" in notes(pipe)[0] and f": {size} {COSTS}" in notes(pipe)[0]


def test_an_image_is_followed_through_other_keys_and_structures():
    pipe = photos().map(scale).filter(lambda e: e["label"] > 0).shuffle(0)
    pipe = pipe.map(lambda e: (e["image"], e["label"])).map(lambda e: {"x": e[0] * 2, "y": e[1]}).batch(2)
    (note,) = notes(pipe)
    assert note.startswith("['x'] becomes float32 in map(") and "scale" in note


def test_a_stream_says_so_too():
    dataset = tf.data.Dataset.from_tensor_slices({"image": np.zeros((6, 8, 10, 3), np.uint8), "label": np.arange(6)})
    assert notes(tfjax.from_tf(dataset).map(scale).batch(2))
    assert not notes(tfjax.from_tf(dataset).batch(2))


def test_what_stays_uint8_or_was_floats_before_is_not_pointed_out():
    assert not notes(photos().apply(image.RandomFlip()).batch(2))
    assert not notes(photos().apply(image.RandomFlip()).batch(2).device_map(tfjax.on_device.normalize("image", 0, 1)))
    assert not notes(photos(np.float32).apply(image.Normalize(0.0, 2.0)).batch(2))
    assert not notes(photos().map(lambda e: {**e, "mean": tf.reduce_mean(tf.cast(e["image"], tf.float32))}).batch(2))
    assert not notes(photos().apply(image.Normalize(127.5, 127.5)))  # nothing is batched


def test_floats_that_only_follow_an_image_are_not_pointed_out():
    depth = photos(depth=np.zeros((6, 8, 10, 1), np.float32))
    assert not notes(depth.apply(image.RandomCrop(6, masks="depth")).batch(2))
