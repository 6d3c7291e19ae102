"""brightness and contrast: the formulas, rounding and saturation, the ranges, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tfjax import on_device

KEY = jax.random.key(7)
NOISE = np.random.default_rng(0).integers(0, 256, (64, 15, 16, 3), np.uint8)


@pytest.mark.parametrize(("delta", "least", "most"), [(3, -3, 3), ((-2.5, 4.9), -2, 4), ((200, 255), 200, 255)])
def test_brightness_adds_a_whole_number_to_uint8_and_saturates(delta, least, most):
    out = jax.jit(on_device.brightness("image", delta))({"image": NOISE}, KEY)["image"]
    assert out.dtype == np.uint8
    drawn = set()
    for before, after in zip(NOISE.astype(int), np.asarray(out), strict=True):
        added = [d for d in range(least, most + 1) if np.array_equal(np.clip(before + d, 0, 255), after)]
        assert added
        drawn.add(added[0])
    assert len(drawn) >= min(7, most - least + 1)
    if most - least < 8:
        assert drawn == set(range(least, most + 1))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_brightness_of_floats_is_not_clipped(dtype):
    image = jnp.asarray(NOISE, dtype) / 128
    out = on_device.brightness("image", (0.5, 2))({"image": image}, KEY)["image"]
    assert out.dtype == dtype
    added = np.asarray(out, np.float32) - np.asarray(image, np.float32)
    each = added.mean((1, 2, 3))
    np.testing.assert_allclose(added, np.broadcast_to(each[:, None, None, None], added.shape), atol=0.02)
    assert 0.49 < each.min() < 0.7
    assert 1.8 < each.max() < 2.01
    assert len(np.unique(each)) > 60


@pytest.mark.parametrize("delta", [0.4, (0.2, 0.9), (-0.5, 0.5), 0])
def test_brightness_that_cannot_change_uint8_is_refused(delta):
    with pytest.raises(
        ValueError, match=r"'image' is uint8, where only whole numbers .* units of the pixels, 0 to 255"
    ):
        on_device.brightness("image", delta)({"image": NOISE}, KEY)


@pytest.mark.parametrize("delta", [-1, (2, 1), (0, float("inf"))])
def test_brightness_checks_its_range(delta):
    with pytest.raises(ValueError, match=r"brightness: delta is drawn from \(.*\): least comes first, both are finite"):
        on_device.brightness("image", delta)


def contrasted(image, factor):
    mean = image.mean((1, 2), keepdims=True, dtype=np.float64)
    return mean + factor * (image.astype(np.float64) - mean)


@pytest.mark.parametrize("height", [1, 15, 16, 48])
@pytest.mark.parametrize("factor", [0, 0.5, 1, 1.7, 30])
def test_contrast_is_the_formula(height, factor):
    """Heights with and without a common divisor of 16, which the mean is computed by."""
    image = np.random.default_rng(1).integers(0, 256, (4, height, 9, 3), np.uint8)
    fn = jax.jit(on_device.contrast("image", factor, factor))
    given = round(factor * 4096) / 4096
    expected = np.clip(contrasted(image, given), 0, 255)
    out = np.asarray(fn({"image": image}, KEY)["image"])
    assert out.dtype == np.uint8
    assert np.abs(out - expected).max() < 0.501
    if factor == 1:
        assert np.array_equal(out, image)
    floats = image.astype(np.float32) / 255
    np.testing.assert_allclose(
        fn({"image": floats}, KEY)["image"], contrasted(floats, given), rtol=1e-5, atol=1e-5 * max(factor, 1)
    )


def test_each_image_has_a_factor_of_its_own():
    out = np.asarray(on_device.contrast("image", 0.25, 0.75)({"image": NOISE}, KEY)["image"], np.float64)
    factors = out.std((1, 2)).mean(-1) / NOISE.std((1, 2)).mean(-1)
    assert 0.24 < factors.min() < 0.32
    assert 0.68 < factors.max() < 0.76
    assert len(np.unique(factors.round(4))) > 55


@pytest.mark.parametrize("range_", [(1.5, 0.5), (0.5, float("nan"))])
def test_contrast_checks_its_range(range_):
    with pytest.raises(ValueError, match=r"contrast: the factor is drawn from \(.*\): least comes first"):
        on_device.contrast("image", *range_)
    with pytest.raises(ValueError, match=r"lower is -0.5: a factor is 0 or more"):
        on_device.contrast("image", -0.5, 0.5)
