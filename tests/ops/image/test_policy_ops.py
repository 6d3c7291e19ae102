"""The ops of the policies, next to those of Pillow, which the papers use."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from tfjax._tensorflow import tf
from tfjax.ops.image import policy_ops as ops

Image = pytest.importorskip("PIL.Image")
ImageEnhance = pytest.importorskip("PIL.ImageEnhance")
ImageOps = pytest.importorskip("PIL.ImageOps")

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (21, 30, 3), np.uint8)
SMOOTH = np.stack(np.meshgrid(np.arange(10, 190, 6), np.arange(40, 145, 5)), -1).astype(np.uint8).repeat(2, -1)[..., :3]
GREY = RNG.integers(60, 200, (17, 9, 1), np.uint8)
IMAGES = {"noise": NOISE, "smooth": SMOOTH, "grey": GREY, "a row": NOISE[:1], "two by two": NOISE[:2, :2]}


def done(op: Callable[..., tf.Tensor], image: np.ndarray, amount: float) -> np.ndarray:
    out = op(tf.constant(image), tf.constant(amount, tf.float32)).numpy()
    assert out.dtype == np.uint8 and out.shape == image.shape
    made: np.ndarray = out
    return made


def pillow(image: np.ndarray) -> "Image.Image":
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def affine(*matrix: float) -> Callable[["Image.Image"], "Image.Image"]:
    return lambda image: image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest) -> np.ndarray:
    return IMAGES[request.param]


@pytest.mark.parametrize("amount", [0.0, 0.27, -0.9, 0.99])
def test_shear(image: np.ndarray, amount: float) -> None:
    for op, matrix in ((ops.shear_x, (1, amount, 0, 0, 1, 0)), (ops.shear_y, (1, 0, 0, amount, 1, 0))):
        wanted = np.asarray(affine(*matrix)(pillow(image))).reshape(image.shape)
        np.testing.assert_array_equal(done(op, image, amount), wanted)


@pytest.mark.parametrize("amount", [0.0, 3.9, -4.2, 100.0])
def test_translate_is_by_whole_pixels(image: np.ndarray, amount: float) -> None:
    shift = int(amount)
    for op, matrix in ((ops.translate_x, (1, 0, shift, 0, 1, 0)), (ops.translate_y, (1, 0, 0, 0, 1, shift))):
        wanted = np.asarray(affine(*matrix)(pillow(image))).reshape(image.shape)
        np.testing.assert_array_equal(done(op, image, amount), wanted)


@pytest.mark.parametrize("degrees", [0.0, 13.0, -30.0, 135.0])
def test_rotate(image: np.ndarray, degrees: float) -> None:
    wanted = np.asarray(pillow(image).rotate(degrees, Image.Resampling.NEAREST)).reshape(image.shape)
    given = done(ops.rotate, image, math.radians(degrees))
    # Where a place lies between two pixels, either is the nearest.
    assert (given != wanted).any(-1).sum() <= 1


def test_rotate_is_anticlockwise() -> None:
    image = np.zeros((5, 5, 1), np.uint8)
    image[2, 4] = 9
    assert np.argwhere(done(ops.rotate, image, math.pi / 2))[0].tolist() == [0, 2, 0]


@pytest.mark.parametrize("amount", [0.0, 0.9, -0.45, -0.99])
@pytest.mark.parametrize("name", ["brightness", "contrast", "color", "sharpness"])
def test_enhanced(image: np.ndarray, name: str, amount: float) -> None:
    enhance = getattr(ImageEnhance, name.capitalize())(pillow(image))
    wanted = np.asarray(enhance.enhance(1 + amount)).reshape(image.shape)
    given = done(getattr(ops, name), image, amount)
    # Pillow rounds the mean and the smoothed pixels first, and truncates at the end.
    assert np.abs(given.astype(int) - wanted).max() <= (2 if name == "contrast" else 1)
    if amount == 0 or (name == "color" and image.shape[-1] == 1):
        np.testing.assert_array_equal(given, image)


@pytest.mark.parametrize("bits", [0, 1, 4, 6])
def test_posterize(image: np.ndarray, bits: int) -> None:
    wanted = np.asarray(ImageOps.posterize(pillow(image), 8 - bits)).reshape(image.shape)
    for amount in (bits, bits + 0.4, bits - 0.4):
        np.testing.assert_array_equal(done(ops.posterize, image, max(amount, 0)), wanted)


@pytest.mark.parametrize("amount", [0.0, 25.5, 127.5, 255.0])
def test_solarize(image: np.ndarray, amount: float) -> None:
    wanted = np.asarray(ImageOps.solarize(pillow(image), 255 - amount)).reshape(image.shape)
    np.testing.assert_array_equal(done(ops.solarize, image, amount), wanted)


def test_autocontrast(image: np.ndarray) -> None:
    wanted = np.asarray(ImageOps.autocontrast(pillow(image))).reshape(image.shape)
    assert np.abs(done(ops.autocontrast, image, 0).astype(int) - wanted).max() <= 1


def test_equalize(image: np.ndarray) -> None:
    wanted = np.asarray(ImageOps.equalize(pillow(image))).reshape(image.shape)
    np.testing.assert_array_equal(done(ops.equalize, image, 0), wanted)


@pytest.mark.parametrize("level", [0, 7, 255])
@pytest.mark.parametrize("op", [ops.autocontrast, ops.equalize, ops.contrast, ops.color, ops.sharpness, ops.identity])
def test_an_even_image_stays(op: Callable[..., tf.Tensor], level: int) -> None:
    image = np.full((6, 7, 3), level, np.uint8)
    np.testing.assert_array_equal(done(op, image, 0.9), image)
