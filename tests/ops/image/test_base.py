"""What every op on an image does with its arguments."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from tfjax import image


@pytest.mark.parametrize(
    ("listed", "tupled"),
    [
        (lambda: image.Resize([3, 4]), image.Resize((3, 4))),
        (lambda: image.CenterCrop([3, 4]), image.CenterCrop((3, 4))),
        (
            lambda: image.RandomResizedCrop(8, scale=[0.1, 1], ratio=[1, 2]),
            image.RandomResizedCrop(8, scale=(0.1, 1), ratio=(1, 2)),
        ),
        (lambda: image.RandomErasing(value=[1, 2, 3]), image.RandomErasing(value=(1, 2, 3))),
        (lambda: image.RandomFlip(masks=["a", "b"]), image.RandomFlip(masks=("a", "b"))),
    ],
    ids=repr,
)
def test_a_list_is_the_tuple(listed, tupled):
    assert listed() == tupled
    assert hash(listed()) == hash(tupled)
    assert repr(listed()) == repr(tupled)


@pytest.mark.parametrize(
    ("op", "options", "said"),
    [
        (image.RandomFlip, {"horizontal": "no"}, "RandomFlip: horizontal takes True or False, given 'no'"),
        (image.RandomFlip, {"vertical": None}, "RandomFlip: vertical takes True or False, given None"),
        (image.RandomResizedCrop, {"size": 8, "antialias": "x"}, "RandomResizedCrop: antialias takes True or False"),
        (image.Resize, {"size": 8, "antialias": 1}, "Resize: antialias takes True or False, given 1"),
        (image.RandomRotate, {"right_angles": "yes"}, "RandomRotate: right_angles takes True or False, given 'yes'"),
    ],
)
def test_a_switch_is_true_or_false(op, options, said):
    with pytest.raises(TypeError, match=said):
        op(**options)


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (lambda: image.CenterCrop(np.int64(8)), image.CenterCrop(8)),
        (lambda: image.Resize((np.int32(8), np.int32(9))), image.Resize((8, 9))),
        (lambda: image.ResizeShortSide(np.uint8(8)), image.ResizeShortSide(8)),
        (lambda: image.RandomCrop(8, padding=np.int64(4)), image.RandomCrop(8, padding=4)),
        (lambda: image.RandomBrightness(np.float32(0.5)), image.RandomBrightness(0.5)),
        (lambda: image.RandomContrast((np.float32(0.5), np.int64(2))), image.RandomContrast((0.5, 2))),
        (lambda: image.RandAugment(np.int64(3), np.int64(4)), image.RandAugment(3, 4)),
        (lambda: image.OneHot(np.int64(3)), image.OneHot(3)),
        (lambda: image.Value("v", default=np.int64(3)), image.Value("v", default=3)),
    ],
    ids=repr,
)
def test_numpys_numbers_are_pythons(given, plain):
    assert given() == plain
    assert repr(given()) == repr(plain)
