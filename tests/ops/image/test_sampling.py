"""Other sizes: what `tf.image.resize` gives, rounded and kept within the dtype."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tensorflow")

from tests.ops.image import moved
from tfjax._tensorflow import tf
from tfjax.ops.image.resize import Resize
from tfjax.ops.image.sampling import Method, require_resizable, resampled, rounded

METHODS = get_args(Method)
SIDE = st.integers(1, 40)
SIZE = st.tuples(SIDE, SIDE)


def dynamic(image, size, method, antialias, channels=3):
    """The image resized in a graph that knows no sides."""
    specs = [tf.TensorSpec((None, None, channels), image.dtype), tf.TensorSpec((2,), tf.int32)]
    fn = tf.function(lambda i, s: resampled(i, s, method, antialias=antialias), input_signature=specs, autograph=False)
    return fn(image, size).numpy()


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=20)
@given(size=SIZE, wanted=SIZE)
def test_floats_are_those_of_tf_image(method, antialias, size, wanted):
    pixels = moved.noise(*size, dtype=np.float32)
    if size == wanted and method in ("gaussian", "mitchellcubic"):
        return  # tf.image.resize leaves the image as it is where it knows its size, and blurs it where it does not
    ours = resampled(tf.constant(pixels), wanted, method, antialias=antialias)
    assert ours.shape == (*wanted, 3) and ours.dtype == tf.float32
    np.testing.assert_allclose(ours, tf.image.resize(pixels, wanted, method, antialias=antialias), atol=2e-6)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_uint8_is_rounded_and_saturated(method, antialias):
    pixels = np.where(moved.noise(37, 50) > 127, 255, 0).astype(np.uint8)  # which lanczos overshoots
    exact = tf.image.resize(pixels, (20, 70), method, antialias=antialias).numpy()
    ours = resampled(tf.constant(pixels), (20, 70), method, antialias=antialias)
    assert ours.dtype == tf.uint8
    assert np.abs(exact.clip(0, 255) - ours.numpy()).max() <= 0.5001
    if method.startswith("lanczos"):
        assert exact.min() < -5 and exact.max() > 260


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("method", METHODS)
def test_white_stays_white_and_black_black(method, dtype):
    most = np.iinfo(dtype).max
    for antialias in (False, True):
        for size in ((7, 90), (50, 13), (1, 1)):
            for value in (0, most):
                plain = tf.fill((37, 50, 3), tf.constant(value, dtype))
                ours = resampled(plain, size, method, antialias=antialias).numpy()
                assert ours.min() == ours.max() == value


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_eager_and_graph_agree(method, antialias, channels):
    pixels = tf.constant(moved.noise(23, 40, channels))
    for size in ((11, 17), (50, 40), (23, 40)):
        eager = resampled(pixels, size, method, antialias=antialias).numpy()
        np.testing.assert_array_equal(dynamic(pixels, size, method, antialias, channels), eager)


def test_weighed_pixels_are_tf_images_to_the_bit(shared_data):
    photos = sorted((shared_data / "coco_captions" / "images").glob("*.jpg"))[:5]
    for photo in photos:
        pixels = tf.io.decode_jpeg(photo.read_bytes(), channels=3)
        for method, antialias in (("bilinear", True), ("bicubic", True), ("lanczos3", True), ("lanczos3", False)):
            wanted = tf.saturate_cast(
                tf.round(tf.image.resize(pixels, (224, 301), method, antialias=antialias)), tf.uint8
            )
            ours = resampled(pixels, (224, 301), method, antialias=antialias)
            assert np.abs(wanted.numpy().astype(int) - ours.numpy()).max() <= (1 if method == "bilinear" else 0)
            assert np.mean(wanted.numpy() != ours.numpy()) < 1e-4


@pytest.mark.parametrize(
    ("method", "name", "within"), [("bilinear", "BILINEAR", 1), ("bicubic", "BICUBIC", 1), ("lanczos3", "LANCZOS", 1)]
)
def test_antialiased_as_pillow_does(method, name, within):
    pillow = pytest.importorskip("PIL.Image")
    rows = np.linspace(0, 8, 90)[:, None, None] + np.linspace(0, 5, 120)[None, :, None] + np.arange(3)
    pixels = (np.sin(rows) * 120 + 128).astype(np.uint8)
    wanted = pillow.fromarray(pixels).resize((50, 31), getattr(pillow.Resampling, name))
    ours = resampled(tf.constant(pixels), (31, 50), method, antialias=True).numpy()
    assert np.abs(ours.astype(int) - np.asarray(wanted)).max() <= within


def test_area_is_the_mean_of_whole_pixels():
    pixels = moved.noise(30, 40)
    wanted = pixels.reshape(10, 3, 10, 4, 3).mean((1, 3))
    ours = resampled(tf.constant(pixels), (10, 10), "area", antialias=False).numpy()
    assert np.abs(wanted - ours).max() <= 0.5001


@pytest.mark.parametrize("dtype", ["bool", "uint32", "uint64"])
def test_what_tensorflow_does_not_compute_with_has_only_nearest(dtype):
    pixels = tf.cast(moved.noise(4, 4) % 2, dtype)
    nearest = resampled(pixels, (8, 8), "nearest", antialias=False)
    assert nearest.dtype == pixels.dtype
    np.testing.assert_array_equal(nearest, np.asarray(pixels).repeat(2, 0).repeat(2, 1))
    with pytest.raises(
        TypeError, match=f"'image' is {dtype}, which is resized by method='nearest' only: cast it in map before"
    ):
        require_resizable(Resize(8), pixels)


def test_unsigned_integers_keep_their_largest_value():
    mask = tf.constant(np.array([[[2**64 - 1], [0]]], np.uint64))
    assert resampled(mask, (1, 4), "nearest", antialias=False).numpy().ravel().tolist() == [2**64 - 1] * 2 + [0] * 2


def test_rounding():
    values = tf.constant([-3.0, 0.4, 0.6, 254.6, 300.0])
    assert rounded(values, tf.uint8).numpy().tolist() == [0, 0, 1, 255, 255]
    assert rounded(values, tf.int8).numpy().tolist() == [-3, 0, 1, 127, 127]
    assert rounded(values, tf.float32) is values
    assert rounded(values, tf.float64).dtype == tf.float64
