"""`Resize` and `ResizeShortSide`: sizes, static shapes and refusals; the pixels are tested with `sampling`."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tensorflow")

import tfjax
from tests.ops.image import moved
from tfjax import image
from tfjax._tensorflow import tf
from tfjax.ops.image.sampling import Method, resampled

METHODS = get_args(Method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("antialias", [False, True])
def test_every_method(method, antialias):
    pixels = moved.noise(40, 52)
    out = image.Resize((20, 30), method=method, antialias=antialias)({"image": pixels})["image"]
    np.testing.assert_array_equal(out, resampled(tf.constant(pixels), (20, 30), method, antialias=antialias))
    short = image.ResizeShortSide(20, method=method, antialias=antialias)({"image": pixels})["image"]
    np.testing.assert_array_equal(short, resampled(tf.constant(pixels), (20, 26), method, antialias=antialias))


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 600))
def test_the_long_side_is_rounded_down(height, width, wanted):
    short, long = sorted((height, width))
    longer = int(wanted * long / short)  # as torchvision has it
    new = image.ResizeShortSide(wanted).draw(tf.constant([height, width]), None)
    assert new.numpy().tolist() == ([wanted, longer] if height == short else [longer, wanted])


@pytest.mark.parametrize(("size", "new"), [((60, 80), (32, 42)), ((80, 60), (42, 32)), ((50, 50), (32, 32))])
def test_a_known_size_gives_a_known_size(size, new):
    pipe = tfjax.from_arrays({"image": np.zeros((2, *size, 3), np.uint8)}).apply(image.ResizeShortSide(32))
    assert pipe.spec["image"].shape == pipe[0]["image"].shape == (*new, 3)


def test_an_unknown_size_gives_one_that_is_unknown():
    png = tf.io.encode_png(np.zeros((40, 60, 3), np.uint8)).numpy()
    pipe = tfjax.from_examples([{"image": png}]).apply(image.Decode(), image.ResizeShortSide(32))
    assert pipe.spec["image"].shape == (None, None, 3)
    assert pipe[0]["image"].shape == (32, 48, 3)


def test_boxes_stay_and_masks_are_not_mixed():
    example = {
        "image": moved.noise(40, 60),
        "b": np.float32([[0.1, 0.2, 0.3, 0.4]]),
        "m": moved.noise(40, 60, 1)[..., 0],
    }
    for op in (image.Resize(17, boxes="b", masks="m"), image.ResizeShortSide(90, boxes="b", masks="m")):
        out = op(example)
        np.testing.assert_array_equal(out["b"], example["b"])
        assert out["m"].shape == out["image"].shape[:2]
        assert set(np.unique(out["m"])) <= set(np.unique(example["m"]))


@pytest.mark.parametrize("size", [0, -3, 2.5, True, (3,), (0, 4), (3, 4, 3), "9"])
def test_a_size_is_one_or_two_positive_ints(size):
    with pytest.raises(ValueError, match=r"Resize: size is .*pass the pixels of both sides, or \(height, width\)"):
        image.Resize(size)


@pytest.mark.parametrize("size", [0, -3, 2.5, True, (3, 4), "9"])
def test_a_short_side_is_a_positive_int(size):
    with pytest.raises(ValueError, match=r"ResizeShortSide: size is .*pass the pixels of the shorter side"):
        image.ResizeShortSide(size)


@pytest.mark.parametrize("op", [image.Resize, image.ResizeShortSide])
def test_an_unknown_method_is_refused(op):
    with pytest.raises(ValueError, match=f"{op.__name__}.*method='cubic': choose one of {', '.join(METHODS)}"):
        op(8, method="cubic")
