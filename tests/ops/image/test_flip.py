"""`RandomFlip`: half of the images, each way on its own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tensorflow")

from tests.ops.image import moved
from tfjax import image
from tfjax._tensorflow import tf

WAYS = {
    (False, False): np.s_[:, :],
    (True, False): np.s_[::-1],
    (False, True): np.s_[:, ::-1],
    (True, True): np.s_[::-1, ::-1],
}


def drawn(op, count):
    """Whether rows and whether columns run backwards, for many seeds."""
    fn = tf.function(lambda s: [tf.constant(False) if d is None else d for d in op.draw(tf.constant([4, 4]), s)])
    return np.array([[bool(d) for d in fn(tf.constant(s))] for s in moved.seeds(count)])


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99), st.booleans())
def test_pixels_are_mirrored(height, width, number, vertical):
    op, pixels = image.RandomFlip(vertical=vertical), moved.noise(height, width)
    rows, columns = op.draw(tf.constant([height, width]), moved.seed(number))
    once = op({"image": pixels}, moved.seed(number))["image"].numpy()
    np.testing.assert_array_equal(once, pixels[WAYS[bool(rows) if vertical else False, bool(columns)]])
    np.testing.assert_array_equal(op({"image": once}, moved.seed(number))["image"], pixels)  # the same seed: back again


@pytest.mark.parametrize(("horizontal", "vertical"), [(True, False), (False, True), (True, True)])
def test_half_of_the_images_each_way(horizontal, vertical):
    rows, columns = drawn(image.RandomFlip(horizontal, vertical), 600).T
    assert 240 < rows.sum() < 360 if vertical else not rows.any()
    assert 240 < columns.sum() < 360 if horizontal else not columns.any()
    if horizontal and vertical:
        assert 110 < (rows & columns).sum() < 190


def test_both_are_not_nothing():
    with pytest.raises(ValueError, match="it flips nothing: pass vertical=True, or leave it out"):
        image.RandomFlip(horizontal=False)
