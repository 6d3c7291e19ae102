"""`RandomErasing`: one rectangle of some images."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import tfjax
from tests.ops.image import moved
from tfjax import image
from tfjax._tensorflow import tf

WHITE = np.full((40, 60, 3), 255, np.uint8)


def erased(op, pixels, number):
    return op({"image": pixels}, moved.seed(number))["image"].numpy()


@pytest.mark.parametrize("number", range(10))
def test_one_rectangle_is_zero(number):
    op = image.RandomErasing(1.0, scale=(0.1, 0.3), ratio=(0.5, 2))
    gone = erased(op, WHITE, number)[..., 0] == 0
    y0, x0, y1, x1 = moved.hull(gone)
    assert gone[y0:y1, x0:x1].all()  # and nothing else, or the hull were larger
    assert 0.09 < gone.mean() < 0.31
    assert 0.45 < (x1 - x0) / (y1 - y0) < 2.2
    assert (erased(op, WHITE, number) == np.where(gone, 0, 255)[..., None]).all()


def test_the_share_of_images_is_the_probability():
    fn = tf.function(lambda s: image.RandomErasing(0.3).image(tf.constant(WHITE), s))
    hit = sum(bool((fn(tf.constant(s)) == 0).numpy().any()) for s in moved.seeds(400))
    assert 80 < hit < 160
    assert not any((erased(image.RandomErasing(0.0), WHITE, n) == 0).any() for n in range(20))
    assert all((erased(image.RandomErasing(1.0), WHITE, n) == 0).any() for n in range(20))


def test_whether_and_where_are_independent():
    op = image.RandomErasing(0.5, scale=(0.02, 0.9), ratio=(0.9, 1.1))
    areas = [(erased(op, WHITE, n) == 0).mean() for n in range(150)]
    hit = [a for a in areas if a]
    assert min(hit) < 0.1 and max(hit) > 0.4  # large and small alike


def test_an_image_in_which_no_rectangle_fits_stays():
    op = image.RandomErasing(1.0, scale=(1.0, 1.0), ratio=(3, 3))
    np.testing.assert_array_equal(erased(op, WHITE, 0), WHITE)


@pytest.mark.parametrize(("value", "found"), [(7, (7, 7, 7)), ((1, 2, 300), (1, 2, 255)), (-4.0, (0, 0, 0))])
def test_values(value, found):
    op = image.RandomErasing(1.0, value=value)
    out = erased(op, np.full((40, 60, 3), 100, np.uint8), 3)
    colours = {tuple(c) for c in out.reshape(-1, 3).tolist()}
    assert colours == {(100, 100, 100), found}


def test_values_of_floats_are_kept():
    out = erased(image.RandomErasing(1.0, value=(-0.5, 0.25, 3.5)), np.ones((40, 60, 3), np.float32), 3)
    assert {tuple(c) for c in out.reshape(-1, 3).tolist()} == {(1, 1, 1), (-0.5, 0.25, 3.5)}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float16", "float32"])
def test_noise(dtype):
    op = image.RandomErasing(1.0, scale=(0.5, 0.5), ratio=(1, 1), value="noise")
    plain = tf.cast(tf.fill((100, 100, 3), 77), dtype)
    out = op({"image": plain}, moved.seed(1))["image"].numpy()
    assert out.dtype == plain.dtype.as_numpy_dtype
    gone = out[(out != 77).any(-1)].astype(np.float64).ravel()
    assert gone.size == pytest.approx(15000, rel=0.02)
    if np.issubdtype(out.dtype, np.integer):
        limits = np.iinfo(out.dtype)
        shares = (gone - limits.min) / (limits.max - limits.min)
        assert np.abs(np.histogram(shares, 10, (0, 1))[0] - gone.size / 10).max() < 250
    else:
        assert abs(gone.mean()) < 0.05 and abs(gone.std() - 1) < 0.05
    again = op({"image": plain}, moved.seed(2))["image"].numpy()
    assert (np.sort(again, None) != np.sort(out, None)).any()


def test_the_image_that_was_given_is_left_as_it_is():
    def both(pixels):
        made = pixels + 1
        return made, image.RandomErasing(1.0).image(made, moved.seed(0)), made * 1

    for way in (both, tf.function(both)):
        before, after, later = way(tf.fill((9, 9, 3), tf.constant(4, tf.uint8)))
        assert (before.numpy() == 5).all() and (later.numpy() == 5).all() and (after.numpy() == 0).any()


@pytest.mark.parametrize("value", [0, (1, 2, 3), "noise"])
def test_eager_and_graph_agree(value):
    op = image.RandomErasing(0.7, value=value)
    for number in range(5):
        example = {"image": moved.noise(20, 30)}
        np.testing.assert_array_equal(
            moved.in_graph(op, example, number)["image"], op(example, moved.seed(number))["image"]
        )


def test_the_shape_stays_known():
    pipe = tfjax.from_arrays({"image": WHITE[np.newaxis]}).apply(image.RandomErasing(value="noise"))
    assert pipe.spec["image"].shape == (40, 60, 3)


def test_the_probability_may_vary():
    op = image.RandomErasing(image.Value("p", default=0))
    assert (op.at(probability=tf.constant(1.0))({"image": WHITE}, moved.seed(1))["image"].numpy() == 0).any()
    assert (op.at(probability=tf.constant(0.0))({"image": WHITE}, moved.seed(1))["image"].numpy() == 255).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"probability": 1.5}, "RandomErasing: probability is 1.5: pass a number from 0 to 1"),
        ({"probability": -0.1}, "RandomErasing: probability is -0.1"),
        ({"scale": (0.0, 0.5)}, "RandomErasing: scale is .*pass 0 < least <= largest <= 1 as a tuple"),
        ({"ratio": 1.0}, "RandomErasing: ratio is 1.0: pass 0 < least <= largest as a tuple"),
        ({"value": "zero"}, "RandomErasing: value is 'zero': pass a number, one a channel, or 'noise'"),
        ({"value": float("nan")}, "RandomErasing: value is nan: pass a number, one a channel, or 'noise'"),
        ({"value": ()}, "RandomErasing: value is .*: pass a number, one a channel, or 'noise'"),
    ],
)
def test_what_is_no_rectangle_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        image.RandomErasing(**arguments)


def test_values_are_as_many_as_channels():
    with pytest.raises(ValueError, match="2 values for an image of 3 channels"):
        erased(image.RandomErasing(value=(1, 2)), WHITE, 0)
