"""Normalize and StandardizePerImage, next to NumPy, TensorFlow and the same on a device."""

from typing import Any

import numpy as np
import pytest

import tfjax
from tfjax import image as ops
from tfjax._tensorflow import tf

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 13, 8, 3), np.uint8)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def done(op: Any, image: Any) -> np.ndarray:
    out: np.ndarray = op({"image": tf.constant(image)})["image"].numpy()
    assert out.dtype == np.float32
    return out


@pytest.mark.parametrize(("mean", "std"), [(MEAN, STD), (127.5, 127.5), (0, 255), (MEAN, 60), (120, STD)])
def test_it_is_what_numpy_computes_and_what_a_device_does(mean: Any, std: Any) -> None:
    wanted = (PIXELS.astype(np.float32) - np.float32(mean)) / np.float32(std)
    pipe = tfjax.from_arrays({"image": PIXELS})
    batch = pipe.apply(ops.Normalize(mean, std)).batch(4).peek()["image"]
    np.testing.assert_array_equal(batch, wanted)
    there = pipe.batch(4).device_map(tfjax.on_device.normalize("image", mean, std)).peek()["image"]
    np.testing.assert_allclose(batch, there, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint16", "float16", "float64", "int32"])
def test_other_dtypes(dtype: str) -> None:
    wanted = (PIXELS[0].astype(np.float32) - np.float32(MEAN)) / np.float32(STD)
    np.testing.assert_array_equal(done(ops.Normalize(MEAN, STD), PIXELS[0].astype(dtype)), wanted)


def test_arrays_and_lists_are_values() -> None:
    op = ops.Normalize(np.array(MEAN), list(STD))
    assert op == ops.Normalize(MEAN, STD) and hash(op) == hash(ops.Normalize(MEAN, STD))
    assert repr(op) == f"Normalize({MEAN}, {STD})"
    assert ops.Normalize(np.float32(3), 2) == ops.Normalize(3.0, 2.0)


@pytest.mark.parametrize(
    ("mean", "std", "kind", "words"),
    [
        (0, 0, ValueError, "std is 0.0: it is above 0"),
        (0, (1, -1, 1), ValueError, r"std is \(1.0, -1.0, 1.0\): it is above 0"),
        (float("nan"), 1, ValueError, "Normalize: mean takes a finite number, or one a channel, given nan"),
        ((), 1, ValueError, r"mean takes a finite number, or one a channel, given \(\)"),
        ([[1, 2, 3]], 1, ValueError, r"mean takes a finite number, or one a channel, given \(\(1, 2, 3\),\)"),
        ("grey", 1, TypeError, "mean takes a number, or one a channel, given 'grey'"),
        (0, None, ValueError, "std takes a finite number, or one a channel, given None"),
    ],
)
def test_wrong_arguments(mean: Any, std: Any, kind: Any, words: str) -> None:
    with pytest.raises(kind, match=words):
        ops.Normalize(mean, std)


def test_another_number_of_channels() -> None:
    with pytest.raises(ValueError, match="'image' has 1 channels, and mean and std are for 3"):
        done(ops.Normalize(MEAN, 1), PIXELS[0, ..., :1])
    assert done(ops.Normalize(3, 2), PIXELS[0, ..., :2]).shape == (13, 8, 2)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_standardized_is_that_of_tensorflow(dtype: str) -> None:
    for image in PIXELS.astype(dtype):
        given = done(ops.StandardizePerImage(), image)
        np.testing.assert_allclose(given, tf.image.per_image_standardization(image), atol=1e-5)
        assert abs(given.mean()) < 1e-5 and abs(given.std() - 1) < 1e-5


def test_an_even_image_becomes_zeros() -> None:
    np.testing.assert_array_equal(done(ops.StandardizePerImage(), np.full((4, 4, 3), 200, np.uint8)), 0)


def test_bool_is_no_number() -> None:
    for op in (ops.Normalize(0, 1), ops.StandardizePerImage()):
        with pytest.raises(TypeError, match="'image' is bool, and it takes integers or floats"):
            done(op, PIXELS[0] > 3)
