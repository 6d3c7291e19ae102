"""RandAugment and TrivialAugment: which op is drawn, how much of it, next to torchvision's table in Pillow."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tfjax
from tfjax import image as ops
from tfjax._tensorflow import tf
from tfjax.ops.base import random_numbers
from tfjax.ops.failing import zero_unless
from tfjax.ops.image import policy

Image = pytest.importorskip("PIL.Image")
ImageEnhance = pytest.importorskip("PIL.ImageEnhance")
ImageOps = pytest.importorskip("PIL.ImageOps")

SIDE = (27, 33)  # both odd, or a quarter turn falls between pixels
PIXELS = np.random.default_rng(0).integers(0, 256, (*SIDE, 3), np.uint8)
Made = Callable[["Image.Image"], "Image.Image"]


def seed_of(i: int) -> tf.Tensor:
    return tf.constant([77, i], tf.int64)


def affine(*matrix: float) -> Made:
    return lambda image: image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)


def table(m: float, most: dict[str, float], bits: int, shift: tuple[float, float]) -> list[Made]:
    """torchvision's list of ops, with its signs already in `m` where it has them, at a share of all of it."""
    down, right = (math.trunc(s * m) for s in shift)

    def enhanced(name: str) -> Made:
        return lambda image: getattr(ImageEnhance, name)(image).enhance(1 + m * most["blend"])

    return [
        lambda image: image,
        affine(1, m * most["shear"], 0, 0, 1, 0),
        affine(1, 0, 0, m * most["shear"], 1, 0),
        affine(1, 0, right, 0, 1, 0),
        affine(1, 0, 0, 0, 1, down),
        lambda image: image.rotate(m * most["angle"], Image.Resampling.NEAREST),
        *map(enhanced, ("Brightness", "Color", "Contrast", "Sharpness")),
        lambda image: ImageOps.posterize(image, 8 - round(abs(m) * bits)),
        lambda image: ImageOps.solarize(image, 255 - 255 * abs(m)),
        ImageOps.autocontrast,
        ImageOps.equalize,
    ]


def rand_table(m: float) -> list[Made]:
    most = {"shear": 0.3, "angle": 30, "blend": 0.9}
    return table(m, most, 4, (150 / 331 * SIDE[0], 150 / 331 * SIDE[1]))


def trivial_table(m: float) -> list[Made]:
    return table(m, {"shear": 0.99, "angle": 135, "blend": 0.99}, 6, (32, 32))


def close(given: np.ndarray, wanted: "Image.Image") -> bool:
    """The same but for rounding, and for a place or two between two pixels."""
    far = (np.abs(given.astype(int) - np.asarray(wanted)) > 2).any(-1)
    return bool(far.sum() <= 2)


@pytest.mark.parametrize("magnitude", [0, 9, 30])
def test_randaugment_is_the_table(magnitude: int) -> None:
    op = ops.RandAugment(1, magnitude)
    fn = tf.function(lambda seed: op.image(tf.constant(PIXELS), seed), autograph=False)
    seen = Counter()
    for i in range(150):
        which, sign = (float(n) for n in random_numbers(seed_of(i), 2))
        m = magnitude / 30 * (-1 if sign < 0.5 else 1)
        seen[int(which * 14)] += 1
        assert close(fn(seed_of(i)).numpy(), rand_table(m)[int(which * 14)](Image.fromarray(PIXELS))), (which, sign)
    assert len(seen) == 14


def test_trivialaugment_is_the_table() -> None:
    fn = tf.function(lambda seed: ops.TrivialAugment().image(tf.constant(PIXELS), seed), autograph=False)
    seen, magnitudes = Counter(), set()
    for i in range(300):
        which, bin_, sign = (float(n) for n in random_numbers(seed_of(i), 3))
        m = int(bin_ * 31) / 30 * (-1 if sign < 0.5 else 1)
        seen[int(which * 14)] += 1
        magnitudes.add(int(bin_ * 31))
        assert close(fn(seed_of(i)).numpy(), trivial_table(m)[int(which * 14)](Image.fromarray(PIXELS))), (which, m)
    assert len(seen) == 14 and magnitudes == set(range(31))


def test_layers_follow_each_other() -> None:
    """Each layer is one op more, drawn by itself."""
    for i in range(20):
        numbers = tf.random.stateless_uniform((3, 2), seed_of(i))
        image = tf.constant(PIXELS)
        for which, sign in numbers.numpy():
            image = policy._chosen(policy._RAND, image, tf.constant(which), tf.constant(12.0), policy._sign(sign))
        np.testing.assert_array_equal(ops.RandAugment(3, 12).image(tf.constant(PIXELS), seed_of(i)), image)


def test_only_the_drawn_op_is_computed() -> None:
    def fails(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
        return image + tf.cast(zero_unless(amount >= 0, tf.constant("it ran")), tf.uint8)

    entries = [policy._Entry(policy.ops.identity), policy._Entry(fails)]
    fn = tf.function(
        lambda which: policy._chosen(entries, tf.constant(PIXELS), which, tf.constant(1.0), tf.constant(1.0)),
        autograph=False,
    )
    np.testing.assert_array_equal(fn(tf.constant(0.49)), PIXELS)
    with pytest.raises(tf.errors.InvalidArgumentError, match="it ran"):
        fn(tf.constant(0.51))


def test_images_stay_uint8_from_op_to_op() -> None:
    fn = tf.function(lambda image: ops.RandAugment(2).image(image, seed_of(0)), autograph=False)
    graph = fn.get_concrete_function(tf.TensorSpec((None, None, 3), tf.uint8)).graph
    loop = next(op for op in graph.get_operations() if op.type in ("While", "StatelessWhile"))
    images = [t for t in loop.outputs if t.shape.rank == 3]
    assert {t.dtype for t in images} == {tf.uint8}
    assert all(t.shape.as_list() == [None, None, 3] for t in images)


def test_grey_images() -> None:
    grey = PIXELS[..., :1]
    for op in (ops.RandAugment(2, 30), ops.TrivialAugment()):
        fn = tf.function(lambda seed, op=op: op.image(tf.constant(grey), seed), autograph=False)
        outs = {fn(seed_of(i)).numpy().tobytes() for i in range(40)}
        assert len(outs) > 10


@pytest.mark.parametrize("op", [ops.RandAugment(), ops.TrivialAugment()], ids=repr)
def test_images_that_it_does_not_take(op: Any) -> None:
    name = type(op).__name__
    fixes = {"float32": "put it before", "uint16": "scale it and cast it to uint8 in map", "bool": "scale it and cast"}
    for dtype, fix in fixes.items():
        with pytest.raises(TypeError, match=rf"{name}.*'image' is {dtype}.*uint8 images, 0 to 255: {fix}"):
            op.image(tf.zeros((4, 4, 3), dtype), seed_of(0))
    with pytest.raises(TypeError, match="has 4 channels, and it takes 1 or 3"):
        op.image(tf.zeros((4, 4, 4), tf.uint8), seed_of(0))
    with pytest.raises(TypeError, match="unexpected keyword argument 'boxes'"):
        type(op)(boxes="objects/bbox")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"magnitude": 31}, "magnitude is 31: pass a number from 0 to 30, a schedule or a Value"),
        ({"magnitude": -1}, "magnitude is -1: pass a number from 0 to 30"),
        ({"magnitude": (0, 9)}, "magnitude is .*pass a number from 0 to 30"),
        ({"num_layers": 0}, "num_layers takes an int from 1"),
    ],
)
def test_wrong_arguments(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"RandAugment: {words}"):
        ops.RandAugment(**given)


def test_a_magnitude_of_the_run_that_is_too_large() -> None:
    pipe = tfjax.from_arrays({"image": PIXELS[None]}).apply(ops.RandAugment(magnitude=ops.Value("m", 9))).batch(1)
    with (
        pytest.raises(tfjax.TfjaxError, match="RandAugment: magnitude is 31: pass a number from 0 to 30"),
        pipe.iterate(values={"m": 31}) as run,
    ):
        next(run)
