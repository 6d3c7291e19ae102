"""Boxes: cut, mirrored and turned, against the same with pixels by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tensorflow")

from tfjax._tensorflow import tf
from tfjax.ops.image import boxes as geometry

SHARE = st.floats(0, 1, width=32)


@st.composite
def some_boxes(draw):
    corners = draw(st.lists(st.tuples(SHARE, SHARE, SHARE, SHARE), max_size=4))
    found = np.array(corners, np.float32).reshape(-1, 4)
    return np.concatenate([np.minimum(found[:, :2], found[:, 2:]), np.maximum(found[:, :2], found[:, 2:])], 1)


def has_area(boxes):
    return (boxes[:, 2:] > boxes[:, :2]).all(1)


def test_a_box_is_cut_at_the_window():
    boxes = tf.constant([[0.0, 0.0, 1.0, 1.0], [0.5, 0.5, 0.75, 0.75], [0.0, 0.0, 0.25, 0.25], [0.0, 0.0, 0.0, 0.0]])
    cut = geometry.cropped(boxes, tf.constant([25, 50, 50, 100]), tf.constant([100, 200]))
    np.testing.assert_allclose(geometry.clipped(cut), [[0, 0, 1, 1], [0.5, 0.5, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_a_window_beyond_the_image_leaves_boxes_in_it():
    boxes = tf.constant([[0.0, 0.0, 1.0, 1.0]])
    around = geometry.cropped(boxes, tf.constant([-10, -20, 40, 60]), tf.constant([20, 20])).numpy()
    np.testing.assert_allclose(around, [[0.25, 1 / 3, 0.75, 2 / 3]])


@given(some_boxes())
def test_mirrored_twice_is_what_it_was(boxes):
    once = geometry.flipped(tf.constant(boxes), rows=True, columns=True)
    np.testing.assert_allclose(geometry.flipped(once, rows=True, columns=True), boxes, atol=1e-6)


@given(some_boxes())
def test_four_quarters_are_a_whole_turn(boxes):
    turned = tf.constant(boxes)
    for _ in range(4):
        turned = geometry.quarters(turned, tf.constant(1))
    np.testing.assert_allclose(turned, boxes, atol=1e-6)


@pytest.mark.parametrize("turns", range(4))
@given(boxes=some_boxes())
def test_a_quarter_is_a_turn_by_90_degrees_of_a_square(turns, boxes):
    angle = turns * math.pi / 2
    by_angle = geometry.turned(
        tf.constant(boxes), tf.constant([50, 50]), *np.float32([math.sin(angle), math.cos(angle)])
    )
    by_quarters = geometry.quarters(tf.constant(boxes), tf.constant(turns)).numpy()
    wide = (boxes[:, 2:] - boxes[:, :2] > 1e-5).all(1)
    np.testing.assert_allclose(by_quarters[wide], by_angle.numpy()[wide], atol=1e-5)


@given(some_boxes(), st.floats(-180, 180), st.integers(1, 500), st.integers(1, 500))
def test_what_has_no_area_gets_none_by_a_turn(boxes, degrees, height, width):
    angle = math.radians(degrees)
    around = geometry.turned(
        tf.constant(boxes), tf.constant([height, width]), *np.float32([math.sin(angle), math.cos(angle)])
    )
    out = geometry.clipped(around).numpy()
    assert not out[~has_area(boxes)].any()
    assert (out >= 0).all() and (out <= 1).all()
    assert (has_area(out) | ~out.any(1)).all()
