"""Blur: next to sums in NumPy, mirrored edges, and images smaller than the blur."""

import math

import numpy as np
import pytest

import tfjax
from tfjax import image as ops
from tfjax._tensorflow import tf

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (23, 14, 3), np.uint8)
SEED = tf.constant([1, 2], tf.int64)


def done(op: ops.GaussianBlur, image: np.ndarray) -> np.ndarray:
    out: np.ndarray = op({"image": tf.constant(image)}, SEED)["image"].numpy()
    assert out.dtype == image.dtype and out.shape == image.shape
    return out


def blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    """The definition, one dimension after the other."""
    for axis in (0, 1):
        reach = min(math.ceil(3 * sigma), values.shape[axis] - 1)
        weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        around = [(reach, reach) if a == axis else (0, 0) for a in range(3)]
        padded = np.pad(values, around, mode="reflect")
        values = np.apply_along_axis(np.convolve, axis, padded, weights / weights.sum(), "valid")
    return values


@pytest.mark.parametrize("sigma", [0.2, 0.5, 1.0, 2.0, 6.0])
def test_it_is_a_gaussian_with_mirrored_edges(sigma: float) -> None:
    wanted = blurred(PIXELS.astype(np.float64), sigma)
    np.testing.assert_allclose(done(ops.GaussianBlur(sigma), PIXELS), wanted, atol=0.501)
    floats = done(ops.GaussianBlur(sigma), PIXELS.astype(np.float32))
    np.testing.assert_allclose(floats, wanted, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 1), (2, 3, 3), (7, 1, 4)])
def test_small_images(shape: tuple[int, ...]) -> None:
    image = RNG.random(shape).astype(np.float32)
    np.testing.assert_allclose(done(ops.GaussianBlur(2.0), image), blurred(image, 2.0), rtol=1e-5, atol=1e-6)


def test_no_sigma_is_no_blur() -> None:
    np.testing.assert_array_equal(done(ops.GaussianBlur(0), PIXELS), PIXELS)
    np.testing.assert_array_equal(done(ops.GaussianBlur((0, 0)), PIXELS), PIXELS)


def test_an_even_image_stays() -> None:
    even = np.full((9, 9, 3), 255, np.uint8)
    np.testing.assert_array_equal(done(ops.GaussianBlur(3), even), even)


def test_sigma_is_uniform() -> None:
    """The middle of a blurred point tells the sigma."""
    point = np.zeros((1000, 1, 21, 1), np.float32)
    point[:, 0, 10] = 1
    pipe = tfjax.from_arrays({"image": point}).apply(ops.GaussianBlur((1.0, 2.0))).batch(1000)
    middle = np.asarray(pipe.peek()["image"])[:, 0, 10, 0]
    sigmas = np.linspace(1, 2, 1001)
    known = np.array([blurred(point[0].astype(np.float64), s)[0, 10, 0] for s in sigmas])
    shares = np.interp(-middle, -known, sigmas) - 1  # the wider, the lower
    assert shares.min() < 0.01 and shares.max() > 0.99
    assert abs(shares.mean() - 1 / 2) < 4 * np.sqrt(1 / 12 / 1000)


def test_only_a_drawn_sigma_is_random() -> None:
    assert ops.GaussianBlur().random and not ops.GaussianBlur(1.0).random
    pipe = tfjax.from_arrays({"image": PIXELS[None]})
    kept = pipe.apply(ops.GaussianBlur(1.0)).cache("memory")
    np.testing.assert_array_equal(kept[0]["image"], done(ops.GaussianBlur(1.0), PIXELS))
    for op in (ops.GaussianBlur(), ops.GaussianBlur(ops.Value("sigma", 1.0))):
        with pytest.raises(ValueError, match="put cache before GaussianBlur"):
            pipe.apply(op).cache("memory")


@pytest.mark.parametrize("sigma", [-1, (2, 1), (-1, 1), (1,), "much"])
def test_a_sigma_that_is_none(sigma: object) -> None:
    with pytest.raises(ValueError, match=r"GaussianBlur: sigma is .*: pass a number"):
        ops.GaussianBlur(sigma)  # type: ignore[arg-type]


def test_sides_need_not_be_known() -> None:
    fn = tf.function(lambda x: ops.GaussianBlur().image(x, SEED), autograph=False)
    known = fn.get_concrete_function(tf.TensorSpec((None, None, 3), tf.uint8))
    assert known.output_shapes.as_list() == [None, None, 3]
    np.testing.assert_array_equal(known(tf.constant(PIXELS)), done(ops.GaussianBlur(), PIXELS))
