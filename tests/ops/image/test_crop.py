"""Crops: windows lie where they should, as often as they should, and hold the pixels of the image or zeros."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tensorflow")

from tests.ops.image import moved
from tfjax import image
from tfjax._tensorflow import tf
from tfjax.ops.image.sampling import resampled

SIDE = st.integers(1, 40)
SIZE = st.tuples(SIDE, SIDE)


def windows(op, size, count=2000):
    return moved.draws(op, size, count)


def cut(pixels, window):
    """The pixels of a window, zeros where it reaches beyond the image."""
    y, x, height, width = window
    far = 100
    return np.pad(pixels, [(far, far), (far, far), (0, 0)])[y + far : y + far + height, x + far : x + far + width]


def assert_uniform(numbers, count):
    """All of 0 to count - 1 come, each about as often: within five standard deviations."""
    found = np.bincount(numbers, minlength=count)
    assert len(found) == count
    expected = numbers.size / count
    assert np.abs(found - expected).max() < 5 * expected**0.5, found


@pytest.mark.parametrize(
    ("size", "wanted", "window"),
    [
        ((10, 20), (4, 6), (3, 7, 4, 6)),
        ((11, 20), (4, 5), (3, 7, 4, 5)),  # what is odd is left out at the end
        ((4, 6), (4, 6), (0, 0, 4, 6)),
        ((3, 20), (6, 6), (-1, 7, 6, 6)),  # and filled up there too
        ((1, 1), (4, 4), (-1, -1, 4, 4)),
    ],
)
def test_the_middle(size, wanted, window):
    op = image.CenterCrop(wanted)
    np.testing.assert_array_equal(op.draw(tf.constant(size), None), window)
    pixels = moved.noise(*size)
    np.testing.assert_array_equal(op({"image": pixels})["image"], cut(pixels, window))


def test_the_middle_is_that_of_tf_image():
    pixels = moved.noise(37, 64)
    wanted = tf.image.resize_with_crop_or_pad(pixels, 20, 33)
    np.testing.assert_array_equal(image.CenterCrop((20, 33))({"image": pixels})["image"], wanted)
    wanted = tf.image.resize_with_crop_or_pad(pixels, 70, 33)
    np.testing.assert_array_equal(image.CenterCrop((70, 33))({"image": pixels})["image"], wanted)


@settings(max_examples=60)
@given(SIZE, SIZE, st.integers(0, 5), st.integers(0, 99))
def test_a_random_window_holds_its_pixels(size, wanted, padding, number):
    op, pixels = image.RandomCrop(wanted, padding), moved.noise(*size)
    window = op.draw(tf.constant(size), moved.seed(number)).numpy()
    for at, side, has in zip(window[:2], wanted, size, strict=True):
        if has + 2 * padding >= side:
            assert -padding <= at <= has + padding - side
        else:
            assert at == -((side - has) // 2)
    np.testing.assert_array_equal(op({"image": pixels}, moved.seed(number))["image"], cut(pixels, window))


@pytest.mark.parametrize("padding", [0, 3])
def test_every_place_is_as_likely(padding):
    y, x, height, width = windows(image.RandomCrop((24, 20), padding), (30, 23)).T
    assert_uniform(y + padding, 7 + 2 * padding)
    assert_uniform(x + padding, 4 + 2 * padding)
    assert set(height) == {24} and set(width) == {20}
    assert abs(np.corrcoef(y, x)[0, 1]) < 0.08


def test_a_window_may_lie_in_the_padding_altogether():
    op = image.RandomCrop(2, padding=9)
    empty = [
        n for n in range(60) if not op({"image": np.ones((3, 3, 1), np.uint8)}, moved.seed(n))["image"].numpy().any()
    ]
    drawn = windows(op, (3, 3), 60)
    assert empty == [n for n, (y, x, *_) in enumerate(drawn) if not (-2 < y < 3 and -2 < x < 3)]
    assert len(empty) > 10


def reference_windows(size, scale, ratio, count):
    """The windows that torchvision draws."""
    rng, found = np.random.default_rng(0), []
    height, width = size
    for _ in range(count):
        for _ in range(10):
            area = height * width * rng.uniform(*scale)
            skew = np.exp(rng.uniform(*np.log(ratio)))
            w, h = round(np.sqrt(area * skew)), round(np.sqrt(area / skew))
            if 0 < w <= width and 0 < h <= height:
                found.append((rng.integers(0, height - h + 1), rng.integers(0, width - w + 1), h, w))
                break
        else:
            if width / height < min(ratio):
                w, h = width, round(width / min(ratio))
            elif width / height > max(ratio):
                w, h = round(height * max(ratio)), height
            else:
                w, h = width, height
            found.append(((height - h) // 2, (width - w) // 2, h, w))
    return np.array(found)


def distance(a, b):
    """The largest difference between two distributions (Kolmogorov and Smirnov), less its 99.9 % quantile."""
    places = np.sort(np.concatenate([a, b]))
    shares = [np.searchsorted(np.sort(s), places, side="right") / s.size for s in (a, b)]
    return np.abs(shares[0] - shares[1]).max() - 1.95 * np.sqrt(1 / a.size + 1 / b.size)


@pytest.mark.parametrize(
    ("size", "scale", "ratio"),
    [
        ((375, 500), (0.08, 1.0), (3 / 4, 4 / 3)),
        ((500, 375), (0.5, 0.9), (0.5, 2.0)),
        ((40, 300), (0.08, 1.0), (3 / 4, 4 / 3)),  # often none of the ten fits
        ((400, 30), (0.9, 1.0), (3 / 4, 4 / 3)),  # none ever fits
    ],
)
def test_windows_are_drawn_as_torchvision_draws_them(size, scale, ratio):
    found = windows(image.RandomResizedCrop(8, scale, ratio), size, 3000).astype(float)
    wanted = reference_windows(size, scale, ratio, 3000).astype(float)
    (y, x, h, w), (ry, rx, rh, rw) = found.T, wanted.T
    assert (found >= 0).all() and (h >= 1).all() and (w >= 1).all()
    assert (y + h <= size[0]).all() and (x + w <= size[1]).all()
    for ours, theirs in ((h * w, rh * rw), (w / h, rw / rh), (y, ry), (x, rx), (y + h, ry + rh), (x + w, rx + rw)):
        assert distance(ours, theirs) < 0


def test_places_of_resized_windows_are_uniform():
    # Of 10 x 10, a square of half the area is 7 x 7: four places each way.
    y, x, height, width = windows(image.RandomResizedCrop(8, (0.49, 0.49), (1, 1)), (10, 10)).T
    assert set(height) == set(width) == {7}
    assert_uniform(y, 4)
    assert_uniform(x, 4)


@pytest.mark.parametrize(
    ("size", "ratio", "window"),
    [
        ((100, 10), (3 / 4, 4 / 3), (43, 0, 13, 10)),
        ((10, 100), (3 / 4, 4 / 3), (0, 43, 10, 13)),
        ((60, 60), (2.0, 3.0), (15, 0, 30, 60)),
        ((1, 1), (0.1, 0.2), (0, 0, 1, 1)),
        ((1, 50), (0.1, 0.2), (0, 24, 1, 1)),
    ],
)
def test_where_none_fits_the_largest_in_the_middle_is_taken(size, ratio, window):
    op = image.RandomResizedCrop(8, scale=(1.0, 1.0), ratio=ratio)
    for number in range(4):
        np.testing.assert_array_equal(op.draw(tf.constant(size), moved.seed(number)), window)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("method", ["bilinear", "nearest", "lanczos3", "area"])
def test_a_resized_window_is_cut_and_resized(method, antialias):
    op, pixels = image.RandomResizedCrop((16, 20), method=method, antialias=antialias), moved.noise(50, 60)
    for number in range(5):
        y, x, h, w = op.draw(tf.constant((50, 60)), moved.seed(number)).numpy()
        wanted = resampled(tf.constant(pixels[y : y + h, x : x + w]), (16, 20), method, antialias=antialias)
        np.testing.assert_array_equal(op({"image": pixels}, moved.seed(number))["image"], wanted)


@pytest.mark.parametrize("op", [image.CenterCrop, image.RandomCrop, image.RandomResizedCrop])
@pytest.mark.parametrize("size", [0, -1, 2.5, True, (3,), (3, 0), (3, 4, 3), "3", None])
def test_a_size_is_one_or_two_positive_ints(op, size):
    with pytest.raises(
        ValueError, match=rf"{op.__name__}: size is .*pass the pixels of both sides, or \(height, width\)"
    ):
        op(size)


@pytest.mark.parametrize("padding", [-1, 1.5, True, (1, 1)])
def test_padding_is_an_int(padding):
    with pytest.raises(ValueError, match=r"RandomCrop: padding is .*: pass pixels, 0 or more"):
        image.RandomCrop(3, padding)


@pytest.mark.parametrize("value", [0.5, (0.5,), (0.0, 1.0), (0.9, 0.1), (0.1, 1.1), (0.1, float("nan")), ("a", "b")])
def test_a_scale_is_a_range_of_shares(value):
    with pytest.raises(ValueError, match=r"RandomResizedCrop: scale is .*pass 0 < least <= largest <= 1 as a tuple"):
        image.RandomResizedCrop(8, scale=value)


@pytest.mark.parametrize("value", [1, (2, 1), (-1, 1), (0.5, float("inf"))])
def test_a_ratio_is_a_range(value):
    with pytest.raises(ValueError, match=r"RandomResizedCrop: ratio is .*pass 0 < least <= largest as a tuple"):
        image.RandomResizedCrop(8, ratio=value)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="method='cubic': choose one of bilinear, nearest"):
        image.RandomResizedCrop(8, method="cubic")
