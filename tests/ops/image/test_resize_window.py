"""A resize fused with the crop that follows it: the same bits, boxes and masks."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tensorflow")

from tests.ops.image import moved
from tfjax import image
from tfjax._tensorflow import tf
from tfjax.ops.image.resize_window import ResizeWindow, resizes_windows

RESIZES = [
    image.ResizeShortSide(40, antialias=True),
    image.ResizeShortSide(33, method="bicubic", antialias=True),
    image.Resize((37, 90), method="lanczos3", antialias=True),
    image.Resize((91, 36), method="lanczos5"),
    image.ResizeShortSide(40, method="gaussian", antialias=True),
    image.ResizeShortSide(40, method="mitchellcubic"),
]
CROPS = [image.CenterCrop(32), image.RandomCrop((30, 25)), image.RandomResizedCrop(20), image.CenterCrop((100, 10))]
FOLLOW = {"boxes": "objects/bbox", "masks": "mask"}


@pytest.mark.parametrize("crop", CROPS, ids=repr)
@pytest.mark.parametrize("resize", RESIZES, ids=repr)
def test_the_same_bits(resize, crop):
    resize, crop = (dataclasses.replace(op, **FOLLOW) for op in (resize, crop))
    fused = ResizeWindow(resize, crop)
    assert resizes_windows(resize, crop) is None
    for number, size in enumerate(((300, 200), (20, 31))):
        example = {**moved.scene(*size, (4, 3, 16, 20)), "image": moved.noise(*size)}
        both = moved.in_graph(lambda e, s: crop(resize(e), s), example, number)
        tf.nest.map_structure(np.testing.assert_array_equal, moved.in_graph(fused, example, number), both)


@settings(max_examples=60)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 80), st.integers(1, 80), st.sampled_from(RESIZES))
def test_the_same_bits_of_any_size(height, width, tall, wide, resize):
    crop, example = image.CenterCrop((tall, wide)), {"image": moved.noise(height, width)}
    fused = ResizeWindow(resize, crop)(example)["image"]
    np.testing.assert_array_equal(fused, crop(resize(example))["image"])


def test_floats_are_the_same_to_the_bit():
    example = {"image": moved.noise(200, 310, dtype=np.float32)}
    for resize in RESIZES:
        fused = ResizeWindow(resize, CROPS[0])(example)["image"]
        np.testing.assert_array_equal(fused, CROPS[0](resize(example))["image"])


@pytest.mark.parametrize(
    ("resize", "crop", "said"),
    [
        (image.Resize(40), image.CenterCrop(20), "method='bilinear' is as cheap for the whole image"),
        (image.Resize(40, method="area", antialias=True), image.CenterCrop(20), "method='area' is as cheap"),
        (
            image.Resize(40, antialias=True),
            image.RandomCrop(20, padding=4),
            "padding= may leave a window without pixels",
        ),
    ],
)
def test_what_is_not_fused(resize, crop, said):
    assert said in resizes_windows(resize, crop)
