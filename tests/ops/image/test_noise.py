"""Noise: its distribution, and that no two numbers are the same."""

import numpy as np
import pytest

import tfjax
from tfjax import image as ops
from tfjax._tensorflow import tf

SIDE = 200


def noise(op: ops.GaussianNoise, index: int = 0, level: float = 0.0) -> np.ndarray:
    image = np.full((2, SIDE, SIDE, 3), level, np.float32)
    return np.asarray(tfjax.from_arrays({"image": image}).apply(op)[index]["image"]) - np.float32(level)


def test_it_is_normal_around_zero() -> None:
    values = noise(ops.GaussianNoise(10)) / 10
    count = values.size
    assert abs(values.mean()) < 5 / np.sqrt(count)
    assert abs(values.std() - 1) < 5 / np.sqrt(2 * count)
    shares = [(np.abs(values) < s).mean() for s in (1, 2, 3)]
    np.testing.assert_allclose(shares, [0.6827, 0.9545, 0.9973], atol=0.005)


def test_each_pixel_channel_and_image_has_its_own() -> None:
    one, other = noise(ops.GaussianNoise(1)), noise(ops.GaussianNoise(1), index=1)
    along = [one[1:, :, 0] * one[:-1, :, 0], one[:, 1:, 0] * one[:, :-1, 0], one[..., 0] * one[..., 1], one * other]
    for products in along:
        assert abs(products.mean()) < 5 / np.sqrt(products.size)


def test_integers_are_rounded_and_saturated() -> None:
    image = np.array([0, 128, 255], np.uint8).repeat(4000).reshape(1, 3, 4000, 1)
    low, middle, high = np.asarray(tfjax.from_arrays({"image": image}).apply(ops.GaussianNoise(20))[0]["image"])[..., 0]
    assert 0.45 < (low == 0).mean() < 0.56 and low.max() < 128
    assert 0.45 < (high == 255).mean() < 0.56 and high.min() > 128
    assert abs(middle.mean() - 128) < 5 * 20 / np.sqrt(4000)


def test_the_unit_is_that_of_the_pixels() -> None:
    assert abs(noise(ops.GaussianNoise(0.1), level=0.5).std() - 0.1) < 0.002


def test_stddev_below_zero() -> None:
    with pytest.raises(
        ValueError, match=r"GaussianNoise: stddev is -1: pass a number, 0 or more, a schedule or a Value"
    ):
        ops.GaussianNoise(-1)
    with pytest.raises(ValueError, match=r"stddev is \(1, 2\)"):
        ops.GaussianNoise((1, 2))  # type: ignore[arg-type]


def test_sides_need_not_be_known() -> None:
    fn = tf.function(lambda x: ops.GaussianNoise(3).image(x, tf.constant([1, 2], tf.int64)), autograph=False)
    assert fn.get_concrete_function(tf.TensorSpec((None, 5, 3), tf.uint8)).output_shapes.as_list() == [None, 5, 3]
