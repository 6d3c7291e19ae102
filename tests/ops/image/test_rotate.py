"""`RandomRotate`: any angle, against Pillow; and right angles, to the pixel."""

import math

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import tfjax
from tests.ops.image import moved
from tfjax import image
from tfjax._tensorflow import tf

WAVES = np.sin(np.linspace(0, 6, 50)[:, None, None] + np.linspace(0, 4, 70)[None, :, None] + np.arange(3))
SMOOTH = (WAVES * 100 + 128).astype(np.uint8)


def angle_of(op, number):
    """The angle that is drawn, in degrees."""
    sine, cosine = op.draw(tf.constant([50, 70]), moved.seed(number))
    return math.degrees(math.atan2(sine, cosine))


@pytest.mark.parametrize("number", range(6))
def test_turned_as_pillow_does(number):
    pillow = pytest.importorskip("PIL.Image")
    op = image.RandomRotate(90, fill_value=9)
    ours = op({"image": SMOOTH}, moved.seed(number))["image"].numpy().astype(int)
    wanted = pillow.fromarray(SMOOTH).rotate(angle_of(op, number), pillow.Resampling.BILINEAR, fillcolor=(9, 9, 9))
    difference = np.abs(ours - np.asarray(wanted))
    assert np.mean(difference > 1) < 0.05  # the edge, which Pillow does not blend with what fills
    assert difference[15:35, 25:45].max() <= 1


def test_angles_are_uniform():
    op = image.RandomRotate(30)
    angles = np.array([angle_of(op, n) for n in range(400)])
    assert angles.min() > -30 and angles.max() < 30
    assert np.abs(np.histogram(angles, 8, (-30, 30))[0] - 50).max() < 5 * 50**0.5


def test_no_angle_changes_nothing():
    for op in (image.RandomRotate(0), image.RandomRotate(0, fill_mode="reflect")):
        np.testing.assert_array_equal(op({"image": SMOOTH}, moved.seed(0))["image"], SMOOTH)


@pytest.mark.parametrize(("mode", "corner"), [("constant", 7), ("nearest", 50), ("reflect", 50), ("wrap", 50)])
def test_what_is_seen_beyond_the_image(mode, corner):
    op = image.RandomRotate(45, fill_mode=mode, fill_value=7)
    number = next(n for n in range(50) if abs(angle_of(op, n)) > 30)
    out = op({"image": np.full((40, 40, 3), 50, np.uint8)}, moved.seed(number))["image"].numpy()
    assert (out[0, 0] == corner).all() and (out[20, 20] == 50).all()


def test_masks_are_filled_with_0():
    op = image.RandomRotate(45, fill_value=7, masks="m")
    number = next(n for n in range(50) if abs(angle_of(op, n)) > 30)
    out = op({"image": np.zeros((40, 40, 3), np.uint8), "m": np.full((40, 40), 5, np.uint8)}, moved.seed(number))
    assert set(np.unique(out["m"])) == {0, 5} and out["m"][0, 0] == 0


def test_a_fill_beyond_the_dtype_is_saturated():
    out = image.RandomRotate(45, fill_value=900)({"image": np.zeros((40, 40, 3), np.uint8)}, moved.seed(0))["image"]
    assert out.numpy().max() == 255


@pytest.mark.parametrize("shape", [(4, 4, 3), (3, 5, 1), (1, 6, 2)])
def test_quarters_are_those_of_numpy(shape):
    op, pixels = image.RandomRotate(right_angles=True), moved.noise(*shape)
    seen = set()
    for number in range(16):
        turns = int(op.draw(tf.constant(shape[:2]), moved.seed(number)))
        out = op({"image": pixels}, moved.seed(number))["image"]
        np.testing.assert_array_equal(out, np.rot90(pixels, turns))
        seen.add(turns)
    assert seen == {0, 1, 2, 3}


def test_quarters_are_as_likely():
    turns = moved.draws(image.RandomRotate(right_angles=True), (4, 4), 1200)
    assert np.abs(np.bincount(turns, minlength=4) - 300).max() < 5 * 300**0.5


@pytest.mark.parametrize(("size", "known"), [((6, 6), (6, 6, 3)), ((6, 8), (None, None, 3))])
def test_the_size_of_a_quarter_is_known_of_squares(size, known):
    pipe = tfjax.from_arrays({"image": np.zeros((2, *size, 3), np.uint8)}).apply(image.RandomRotate(right_angles=True))
    assert pipe.spec["image"].shape == known


def test_degrees_may_vary():
    op = image.RandomRotate(image.Value("degrees", default=0))
    assert list(op.varying) == ["degrees"]
    still = op.at(degrees=tf.constant(0.0))({"image": SMOOTH}, moved.seed(1))["image"]
    np.testing.assert_array_equal(still, SMOOTH)
    turned = op.at(degrees=tf.constant(30.0))({"image": SMOOTH}, moved.seed(1))["image"]
    np.testing.assert_array_equal(turned, image.RandomRotate(30)({"image": SMOOTH}, moved.seed(1))["image"])
    with pytest.raises(tf.errors.InvalidArgumentError, match="RandomRotate: degrees is -1"):
        op.at(degrees=tf.constant(-1.0))({"image": SMOOTH}, moved.seed(1))


def test_degrees_follow_a_value_of_the_run():
    pipe = tfjax.from_arrays({"image": SMOOTH[np.newaxis]}).apply(image.RandomRotate(image.Value("degrees", default=0)))
    np.testing.assert_array_equal(pipe.batch(1).peek()["image"][0], SMOOTH)
    with pipe.batch(1).iterate(values={"degrees": 30}) as batches:
        assert (np.asarray(next(batches)["image"][0]) != SMOOTH).any()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "pass either degrees, as in RandomRotate.15., or right_angles=True"),
        ({"degrees": 5, "right_angles": True}, "pass either degrees"),
        ({"degrees": -5}, "RandomRotate: degrees is -5: pass a number"),
        ({"degrees": "5"}, "RandomRotate: degrees is '5': pass a number"),
        ({"degrees": 5, "fill_mode": "mirror"}, "fill_mode='mirror': choose one of constant, nearest, reflect, wrap"),
        ({"degrees": 5, "fill_value": "black"}, "fill_value='black': pass a number"),
    ],
)
def test_what_is_no_rotation_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        image.RandomRotate(**arguments)
