"""random_flip and random_crop: which pixels come out, how places are drawn, and what is refused."""

import collections

import jax
import numpy as np
import pytest

from tfjax import on_device

KEY = jax.random.key(7)
NOISE = np.random.default_rng(0).integers(0, 256, (400, 6, 5, 3), np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, bool])
@pytest.mark.parametrize("ways", [(True, False), (False, True), (True, True)])
def test_each_image_is_flipped_by_itself(dtype, ways):
    image = NOISE > 127 if dtype is bool else NOISE.astype(dtype)
    horizontal, vertical = ways
    out = jax.jit(on_device.random_flip("image", *ways))({"image": image}, KEY)["image"]
    assert out.dtype == dtype
    counts = collections.Counter()
    for before, after in zip(image, np.asarray(out), strict=True):
        flips = [(h, v) for h in {False, horizontal} for v in {False, vertical}]
        same = [f for f in flips if np.array_equal(after, before[:: -1 if f[1] else 1, :: -1 if f[0] else 1])]
        assert same
        counts[same[0]] += 1
    assert all(abs(n - 400 / len(counts)) < 60 for n in counts.values())  # three deviations of a fair coin: 30
    assert len(counts) == 2 ** sum(ways)


def test_another_key_flips_others():
    flip = on_device.random_flip("image")
    one, same, other = (np.asarray(flip({"image": NOISE}, jax.random.key(k))["image"]) for k in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_flip_that_flips_nothing_is_refused():
    with pytest.raises(ValueError, match=r"random_flip\(horizontal=False\) flips nothing: pass vertical=True"):
        on_device.random_flip("image", horizontal=False)
    with pytest.raises(TypeError, match="random_flip: vertical takes True or False, given 'no'"):
        on_device.random_flip("image", vertical="no")


def places(count, height, width, dtype=np.int32):
    """Images whose pixels hold their row and their column, both counted from 1."""
    grid = np.stack(np.meshgrid(np.arange(1, height + 1), np.arange(1, width + 1), indexing="ij"), -1)
    return np.broadcast_to(grid, (count, height, width, 2)).astype(dtype)


@pytest.mark.parametrize(("size", "padding"), [((4, 3), 0), (6, 2), ((9, 7), 2), ((6, 5), 0), (1, 0)])
def test_each_window_is_drawn_by_itself(size, padding):
    image = places(600, 6, 5)
    out = jax.jit(on_device.random_crop("image", size, padding))({"image": image}, KEY)["image"]
    height, width = size if isinstance(size, tuple) else (size, size)
    assert out.shape == (600, height, width, 2)
    around = np.pad(image[0], [(padding, padding)] * 2 + [(0, 0)])
    all_windows = {
        around[y : y + height, x : x + width].tobytes(): (y, x)
        for y in range(around.shape[0] - height + 1)
        for x in range(around.shape[1] - width + 1)
    }
    found = collections.Counter(all_windows[window.tobytes()] for window in np.asarray(out))
    assert len(found) == len(all_windows)
    assert max(found.values()) < 600 / len(all_windows) * 2 + 20


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, bool])
def test_a_crop_takes_any_dtype(dtype):
    image = places(3, 8, 8).astype(dtype)
    out = on_device.random_crop("image", 8)({"image": image}, KEY)["image"]
    assert out.dtype == dtype
    assert np.array_equal(out, image)


def test_a_window_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match=r"has shape \(400, 6, 5, 3\), 8 x 7 pixels with the padding, .* has 8 x 8"):
        on_device.random_crop("image", 8, padding=1)({"image": NOISE}, KEY)


@pytest.mark.parametrize(
    ("size", "padding", "error", "said"),
    [
        (0, 0, ValueError, r"size takes an int from 1"),
        (2.5, 0, TypeError, r"size takes an int, given 2.5"),
        ((1, 2, 3), 0, ValueError, r"size is \(1, 2, 3\): pass pixels, or \(height, width\)"),
        (4, -1, ValueError, r"padding takes an int from 0"),
    ],
)
def test_sizes_are_checked(size, padding, error, said):
    with pytest.raises(error, match=said):
        on_device.random_crop("image", size, padding)
