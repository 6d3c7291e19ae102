"""Resize fused with crop: the elements are unchanged to the bit, and what cannot be fused says why."""

import numpy as np
import pytest

import tfjax
from tfjax import image
from tfjax.graph import fold

rng = np.random.default_rng(0)
ROWS = [
    {
        "image": rng.integers(0, 255, (90 + 7 * i, 120 - 5 * i, 3)).astype(np.uint8),
        "mask": rng.integers(0, 9, (90 + 7 * i, 120 - 5 * i)).astype(np.uint8),
        "bbox": np.float32([[0.1, 0.2, 0.6, 0.7], [0.0, 0.0, 0.05, 0.05]]),
    }
    for i in range(8)
]
FOLLOW = {"boxes": "bbox", "masks": "mask"}


def batches(pipe):
    return [{k: np.asarray(v) for k, v in b.items()} for b in pipe.batch(4).iterate(epochs=2)]


@pytest.mark.parametrize(
    "ops",
    [
        (image.ResizeShortSide(48, antialias=True, **FOLLOW), image.CenterCrop(40, **FOLLOW)),
        (
            image.Resize((60, 50), method="lanczos3", **FOLLOW),
            image.RandomCrop(32, **FOLLOW),
            image.RandomFlip(**FOLLOW),
        ),
        (image.ResizeShortSide(64, method="bicubic", antialias=True, **FOLLOW), image.RandomResizedCrop(24, **FOLLOW)),
    ],
    ids=repr,
)
def test_elements_are_unchanged_to_the_bit(monkeypatch, ops):
    def make():
        return tfjax.from_examples(ROWS).shuffle(0).apply(*ops)

    assert "is fused with" in make().explain()
    fused = batches(make())
    monkeypatch.setattr(fold, "fuse_resize_and_crop", lambda chain: (chain, []))
    assert "is fused with" not in make().explain()
    for one, other in zip(fused, batches(make()), strict=True):
        assert all(np.array_equal(one[k], other[k]) for k in one)


def test_what_cannot_be_fused_says_why():
    pipe = tfjax.from_examples(ROWS).drop("mask", "bbox")
    assert (
        "is not fused with CenterCrop(40): method='bilinear' is as cheap"
        in pipe.apply(image.ResizeShortSide(48), image.CenterCrop(40)).explain()
    )
    padded = pipe.apply(image.ResizeShortSide(48, antialias=True), image.RandomCrop(40, 4))
    assert "padding= may leave a window without pixels" in padded.explain()


def test_a_mask_that_only_the_resize_moves_keeps_both():
    pipe = tfjax.from_examples(ROWS).drop("bbox")
    both = pipe.apply(image.Resize(48, antialias=True, masks="mask"), image.CenterCrop(40))
    example = both[0]
    assert example["mask"].shape == (48, 48) and example["image"].shape == (40, 40, 3)
