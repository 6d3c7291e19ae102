"""Light and colours: the formulas on given numbers, and what is drawn."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tfjax
from tfjax import image as ops
from tfjax._tensorflow import tf
from tfjax.ops.image.base import ImageOp

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (13, 8, 3), np.uint8)
LUMA = np.float64([0.299, 0.587, 0.114])
MANY = 2000
SEED = tf.constant([3, 4], tf.int64)


def done(op: ImageOp, image: Any, seed: Any = SEED) -> np.ndarray:
    out: np.ndarray = op({"image": tf.constant(image)}, seed)["image"].numpy()
    assert out.dtype == np.asarray(image).dtype and out.shape == np.shape(image)
    return out


def integers(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def contrasted(values: np.ndarray, factor: float) -> np.ndarray:
    made: np.ndarray = (values @ LUMA).mean() * (1 - factor) + factor * values
    return made


def saturated(values: np.ndarray, factor: float) -> np.ndarray:
    made: np.ndarray = (values @ LUMA)[..., None] * (1 - factor) + factor * values
    return made


def drawn(op: ImageOp, level: float = 128.0) -> np.ndarray:
    """What many examples of one pixel become, as floats, which are neither rounded nor clipped."""
    image = np.full((MANY, 1, 1, 3), level, np.float32)
    image[..., 1:] = 0
    pipe = tfjax.from_arrays({"image": image}).apply(op).batch(MANY)
    return np.asarray(pipe.peek()["image"])[:, 0, 0, 0]


def assert_uniform(values: np.ndarray, low: float, high: float) -> None:
    shares = (values - low) / (high - low)
    assert -1e-5 <= shares.min() < 0.01 and 0.99 < shares.max() <= 1 + 1e-5
    assert abs(shares.mean() - 1 / 2) < 4 * np.sqrt(1 / 12 / MANY)
    assert abs(shares.var() - 1 / 12) < 0.01


# What is drawn.


@pytest.mark.parametrize(
    ("op", "low", "high"),
    [
        (ops.RandomBrightness(32), 96, 160),
        (ops.RandomBrightness((-50, 10)), 78, 138),
        (ops.RandomBrightness(factor=0.25), 96, 160),
        (ops.RandomBrightness(factor=2), 0, 384),
        (ops.RandomBrightness(factor=(0.5, 0.75)), 64, 96),
        (ops.RandomContrast(0.5), 128 * (0.5 + 0.5 * 0.299), 128 * (1.5 - 0.5 * 0.299)),
        (ops.RandomSaturation((0, 1)), 128 * 0.299, 128),
        (ops.ColorJitter(brightness=0.25), 96, 160),
        (ops.ColorJitter(saturation=(0.0, 1.0)), 128 * 0.299, 128),
    ],
    ids=repr,
)
def test_amounts_are_uniform(op: ImageOp, low: float, high: float) -> None:
    assert_uniform(drawn(op), low, high)


def test_hues_are_uniform() -> None:
    image = np.zeros((MANY, 1, 1, 3), np.float32)
    image[..., 0] = 1
    turned = tfjax.from_arrays({"image": image}).apply(ops.RandomHue(0.1)).batch(MANY).peek()["image"]
    hue = np.asarray(tf.image.rgb_to_hsv(np.asarray(turned)))[:, 0, 0, 0]
    assert_uniform(np.where(hue > 0.5, hue - 1, hue), -0.1, 0.1)


# Formulas.


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.75])
def test_factors(factor: float) -> None:
    pair, values = (factor, factor), PIXELS.astype(np.float64)
    both = [
        (ops.RandomBrightness(factor=pair), factor * values),
        (ops.RandomContrast(pair), contrasted(values, factor)),
        (ops.RandomSaturation(pair), saturated(values, factor)),
    ]
    for op, wanted in both:
        given = done(op, PIXELS)
        # Rounding goes either way where a float32 lies at a half.
        assert np.abs(given.astype(int) - integers(wanted)).max() <= 1 and (given != integers(wanted)).mean() < 0.02
        np.testing.assert_allclose(done(op, PIXELS.astype(np.float32) / 255), wanted / 255, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["Brightness", "Contrast", "Color"])
def test_factors_are_those_of_pillow(name: str) -> None:
    pillow, enhance = pytest.importorskip("PIL.Image"), pytest.importorskip("PIL.ImageEnhance")
    for factor in (0.3, 1.6):
        pair = (factor, factor)
        op = {
            "Brightness": ops.RandomBrightness(factor=pair),
            "Contrast": ops.RandomContrast(pair),
            "Color": ops.RandomSaturation(pair),
        }[name]
        wanted = np.asarray(getattr(enhance, name)(pillow.fromarray(PIXELS)).enhance(factor))
        assert np.abs(done(op, PIXELS).astype(int) - wanted).max() <= 1  # Pillow truncates


@pytest.mark.parametrize("delta", [-0.5, -0.2, 0.0, 1 / 3])
def test_hue_is_that_of_tensorflow(delta: float) -> None:
    op, floats = ops.RandomHue((delta, delta)), PIXELS.astype(np.float32) / 255
    wanted = tf.image.adjust_hue(floats, delta).numpy()
    np.testing.assert_allclose(done(op, floats), wanted, atol=1e-5)
    np.testing.assert_allclose(done(op, PIXELS), wanted * 255, atol=0.51)
    np.testing.assert_allclose(done(op, floats * 7), wanted * 7, atol=1e-4)  # whatever the unit


def test_what_changes_nothing_changes_no_bit() -> None:
    for op in (
        ops.RandomBrightness(0),
        ops.RandomBrightness(factor=0),
        ops.RandomContrast(0),
        ops.RandomSaturation(0),
        ops.ColorJitter((1, 1), (1, 1), (1, 1)),
        ops.GaussianNoise(0),
    ):
        for image in (PIXELS, PIXELS.astype(np.float32), PIXELS.astype(np.uint16) * 257):
            np.testing.assert_array_equal(done(op, image), image)


def test_grey_pixels_have_neither_saturation_nor_hue() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, -1)
    for op in (ops.RandomSaturation((0, 2)), ops.RandomHue(0.5), ops.ColorJitter(saturation=0.9, hue=0.5)):
        np.testing.assert_array_equal(done(op, grey), grey)


# Ranges.


def test_integers_are_saturated_and_floats_not() -> None:
    levels = np.array([0, 5, 250, 255], np.uint8).reshape(1, 4, 1)
    assert done(ops.RandomBrightness((10, 10)), levels).ravel().tolist() == [10, 15, 255, 255]
    assert done(ops.RandomBrightness((-10, -10)), levels).ravel().tolist() == [0, 0, 240, 245]
    assert done(ops.RandomBrightness(factor=(2, 2)), levels).ravel().tolist() == [0, 10, 255, 255]
    assert done(ops.RandomContrast((2, 2)), levels).ravel().tolist() == [0, 0, 255, 255]
    assert done(ops.RandomBrightness((0.4, 0.4)), levels).ravel().tolist() == [0, 5, 250, 255]
    floats = levels.astype(np.float32) / 255
    np.testing.assert_allclose(done(ops.RandomBrightness((10, 10)), floats), floats + 10)
    assert done(ops.RandomContrast((2, 2)), floats).min() < 0


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float16", "bfloat16", "float64"])
def test_other_dtypes_are_kept(dtype: str) -> None:
    image = tf.cast(PIXELS, dtype)
    for op in (ops.RandomBrightness((1, 1)), ops.ColorJitter(0.2, 0.2, 0.2, 0.1), ops.RandomHue(0.1)):
        out = op({"image": image}, SEED)["image"]
        assert out.dtype == image.dtype
    np.testing.assert_array_equal(
        ops.RandomBrightness((1, 1))({"image": image}, SEED)["image"], tf.cast(image + 1, dtype)
    )


def test_uint16_has_its_own_range() -> None:
    image = np.array([0, 65_530], np.uint16).reshape(1, 2, 1)
    assert done(ops.RandomBrightness((100, 100)), image).ravel().tolist() == [100, 65_535]


# ColorJitter.


def test_the_four_come_in_a_random_order() -> None:
    """Two of them do not commute, and each order is that of half of the images."""
    jitter = ops.ColorJitter(brightness=(1.5, 1.5), contrast=(0.5, 0.5))
    values = PIXELS.astype(np.float64)
    lighter_first = contrasted(np.clip(values * 1.5, 0, 255), 0.5)
    lighter_last = contrasted(values, 0.5) * 1.5
    outs = [done(jitter, PIXELS, tf.constant([9, i], tf.int64)).astype(int) for i in range(200)]
    first, last = (sum(np.abs(out - integers(w)).max() <= 1 for out in outs) for w in (lighter_first, lighter_last))
    assert first + last == len(outs) and 60 < first < 140


def test_all_orders_occur() -> None:
    jitter = ops.ColorJitter((1.3, 1.3), (0.4, 0.4), (0.2, 0.2), (0.2, 0.2))
    fn = tf.function(lambda seed: jitter({"image": tf.constant(PIXELS, tf.float32)}, seed)["image"], autograph=False)
    outs = np.stack([fn(tf.constant([1, i], tf.int64)).numpy() for i in range(300)])
    steps: list[Callable[[np.ndarray], np.ndarray]] = [
        lambda v: v * 1.3,
        lambda v: contrasted(v, 0.4),
        lambda v: saturated(v, 0.2),
        lambda v: tf.image.adjust_hue(tf.constant(v, tf.float32), 0.2).numpy(),
    ]
    for order in itertools.permutations(steps):
        wanted = PIXELS.astype(np.float64)
        for step in order:
            wanted = step(wanted)
        assert np.abs(outs - wanted).max((1, 2, 3)).min() < 0.01


def test_an_amount_more_leaves_the_others_as_they_are() -> None:
    pixel = np.float32([[[100, 0, 0]]])
    plain = done(ops.ColorJitter(brightness=0.5), pixel)
    with_none = done(ops.ColorJitter(brightness=0.5, hue=(0.0, 0.0)), pixel)
    np.testing.assert_allclose(plain, with_none, rtol=1e-6)
    assert plain[0, 0, 0] != 100


# Channels.


def test_grey_images() -> None:
    grey = PIXELS[..., :1]
    half = integers((grey - grey.mean()) * 0.5 + grey.mean())
    assert np.abs(done(ops.RandomContrast((0.5, 0.5)), grey).astype(int) - half).max() <= 1
    assert done(ops.ColorJitter(0.2, 0.2), grey).shape == grey.shape
    for op in (ops.RandomSaturation(0.5), ops.RandomHue(0.1), ops.ColorJitter(0.2, hue=0.1)):
        name = type(op).__name__
        with pytest.raises(TypeError, match=rf"{name}.*'image' has 1 channels, and it takes 3: leave it out where"):
            done(op, grey)


def test_brightness_takes_any_channels() -> None:
    image = RNG.integers(0, 200, (3, 4, 5), np.uint8)
    np.testing.assert_array_equal(done(ops.RandomBrightness((7, 7)), image), image + 7)
    with pytest.raises(TypeError, match=r"has 5 channels, and it takes 1 or 3: use Decode\(channels=3\), or a slice"):
        done(ops.RandomContrast(0.5), image)


def test_channels_must_be_known() -> None:
    loose = tf.TensorSpec((None, None, None), tf.uint8)
    fn = tf.function(lambda image: ops.RandomHue(0.1).image(image, SEED), autograph=False)
    with pytest.raises(TypeError, match=r"has None channels, and it takes 3: use tf\.ensure_shape in map"):
        fn.get_concrete_function(loose)


def test_sides_need_not_be_known() -> None:
    loose = tf.TensorSpec((None, None, 3), tf.uint8)
    for op in (ops.ColorJitter(0.4, 0.4, 0.4, 0.1), ops.RandomSaturation(0.4), ops.RandomContrast(0.4)):
        fn = tf.function(lambda image, op=op: op.image(image, SEED), autograph=False).get_concrete_function(loose)
        assert fn.output_shapes.as_list() == [None, None, 3]
        np.testing.assert_array_equal(fn(tf.constant(PIXELS)), done(op, PIXELS))


def test_what_holds_no_numbers() -> None:
    with pytest.raises(TypeError, match="'image' is bool, and it takes integers or floats"):
        done(ops.RandomBrightness(3), PIXELS > 3)


# Amounts that are none.


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: ops.RandomBrightness(), "RandomBrightness.*pass delta, which is added, or factor"),
        (lambda: ops.RandomBrightness(3, 0.5), "RandomBrightness.*pass delta, which is added, or factor"),
        (
            lambda: ops.RandomBrightness((3, 2)),
            r"RandomBrightness: delta is \(3, 2\): pass a number, or \(least, most\)$",
        ),
        (lambda: ops.RandomBrightness((1, 2, 3)), r"pass a number, or \(least, most\)$"),
        (lambda: ops.RandomBrightness((0, float("inf"))), r"pass a number, or \(least, most\)$"),
        (lambda: ops.RandomContrast((-0.5, 1)), r"factor is \(-0.5, 1\): .*\(least, most\), from 0 on"),
        (lambda: ops.RandomSaturation((0, ops.Value("v", 1))), r"factor is \(0, Value.*pass a number"),
        (lambda: ops.RandomHue(0.6), "delta is 0.6: pass a number from 0 to 0.5, a schedule or a Value"),
        (lambda: ops.RandomHue((0, 0.6)), r"delta is \(0, 0.6\): .*\(least, most\), from -0.5 to 0.5"),
        (lambda: ops.ColorJitter(), "all amounts are 0"),
        (lambda: ops.ColorJitter(0.3, hue=1), "ColorJitter: hue is 1: pass a number from 0 to 0.5"),
    ],
)
def test_wrong_amounts(made: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        made()


def test_a_list_is_a_pair() -> None:
    assert ops.RandomContrast([0.5, 1]) == ops.RandomContrast((0.5, 1))
    assert hash(ops.RandomContrast([0.5, 1])) == hash(ops.RandomContrast((0.5, 1)))


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.zeros((2, 2, 1), np.uint8), "'image' has 1 channels, and it takes 3: leave it out where images are grey"),
        (
            np.zeros((2, 2, 4), np.uint8),
            r"'image' has 4 channels, and it takes 3: use Decode\(channels=3\), or a slice",
        ),
        (np.zeros((2, 2, 3), bool), "'image' is bool, and it takes integers or floats"),
    ],
)
def test_grayscale_names_what_is_no_colour_image(pixels: np.ndarray, said: str) -> None:
    with pytest.raises(TypeError, match=r"Grayscale\(\): " + said):
        ops.Grayscale()({"image": pixels})
