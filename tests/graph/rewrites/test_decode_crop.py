"""Decode fused with crop: the elements are unchanged to the bit, and what cannot be fused says why."""

import io

import numpy as np
import pytest
from PIL import Image

import tfjax
from tfjax import image
from tfjax.graph import fold
from tfjax.graph.rewrites.decode_crop import fuse_decode_and_crop

OPS = [
    image.RandomResizedCrop(48),
    image.RandomResizedCrop((40, 56), method="nearest"),
    image.CenterCrop(60),
    image.CenterCrop(400),
    image.RandomCrop(64, padding=9),
    image.RandomCrop(32, padding=300),
]


def encoded(number, kind="JPEG", **how):
    """A photo-like picture of its own size."""
    rng = np.random.default_rng(number)
    small = Image.fromarray(rng.integers(0, 255, (7, 9, 3)).astype(np.uint8))
    out = io.BytesIO()
    small.resize((70 + 3 * number, 90 - 2 * number), Image.Resampling.BICUBIC).save(out, kind, **how)
    return out.getvalue()


FILES = [
    *(encoded(i, quality=90, subsampling=2) for i in range(6)),
    *(encoded(i, quality=85, subsampling=0) for i in range(6, 10)),
    encoded(10, progressive=True),
    encoded(11, "PNG"),
    encoded(12, "GIF"),
    encoded(13, "WEBP"),
]


@pytest.fixture
def photos():
    return tfjax.from_examples([{"image": data, "label": np.int32(i)} for i, data in enumerate(FILES)])


def batches(pipe):
    return [{k: np.asarray(v) for k, v in b.items()} for b in pipe.batch(5).iterate(epochs=2)]


def unfused(monkeypatch, make):
    with monkeypatch.context() as patch:
        patch.setattr(fold, "fuse_decode_and_crop", lambda chain: (chain, []))
        return batches(make())


@pytest.mark.parametrize("op", OPS, ids=repr)
@pytest.mark.parametrize("decode", [image.Decode(), image.Decode(channels=1), image.Decode(channels=4)], ids=repr)
def test_elements_are_unchanged_to_the_bit(photos, monkeypatch, op, decode):
    def make():
        return photos.shuffle(0).apply(decode, op)

    assert "is fused with" in make().explain()
    for one, other in zip(batches(make()), unfused(monkeypatch, make), strict=True):
        assert one["image"].dtype == np.uint8 and np.array_equal(one["image"], other["image"])
        assert np.array_equal(one["label"], other["label"])


def test_real_photos(shared_data, monkeypatch):
    files = sorted((shared_data / "flowers").glob("*/*.jpg"))[::12]

    def make():
        pipe = tfjax.from_examples([{"image": f.read_bytes()} for f in files])
        return pipe.apply(image.Decode(), image.RandomResizedCrop(64), image.RandomFlip())

    for one, other in zip(batches(make()), unfused(monkeypatch, make), strict=True):
        assert np.array_equal(one["image"], other["image"])


def test_boxes_and_masks_follow_as_they_do_without(monkeypatch):
    rng = np.random.default_rng(0)
    rows = []
    for number in range(6):
        low = rng.random((3, 2)) * 0.5
        boxes = np.concatenate([low, low + 0.1 + rng.random((3, 2)) * 0.4], 1).astype(np.float32)
        width, height = Image.open(io.BytesIO(FILES[number])).size
        rows.append(
            {"image": FILES[number], "bbox": boxes, "mask": rng.integers(0, 9, (height, width)).astype(np.uint8)}
        )

    def make():
        crop = image.RandomResizedCrop(32, boxes="bbox", masks="mask")
        return tfjax.from_examples(rows).apply(image.Decode(), crop)

    assert "is fused with" in make().explain()
    for one, other in zip(batches(make()), unfused(monkeypatch, make), strict=True):
        assert all(np.array_equal(one[k], other[k]) for k in one)
        assert one["mask"].shape[1:] == (32, 32) and one["bbox"].max() > 0


def test_other_leaves_and_the_order_may_come_between(photos):
    pipe = photos.apply(image.Decode()).shuffle(1).take(9).seed(3).apply(image.CenterCrop(32))
    assert "is fused with CenterCrop(32)" in pipe.explain()
    assert pipe.batch(9).peek()["image"].shape == (9, 32, 32, 3)


@pytest.mark.parametrize(
    ("decode", "reason"),
    [
        (image.Decode(fancy_upscaling=True), "smooths colours across the edge"),
        (image.Decode(orient=True), "may turn the image"),
        (image.Decode(min_short_side=32), "another size"),
        (image.Decode(dtype="uint16"), "uint16"),
    ],
    ids=repr,
)
def test_what_cannot_be_fused_says_why(photos, decode, reason):
    pipe = photos.apply(decode, image.CenterCrop(32))
    assert f"is not fused with CenterCrop(32): {reason}" in pipe.explain().replace("'", "") or reason in pipe.explain()
    assert pipe.batch(2).peek()["image"].shape == (2, 32, 32, 3)


@pytest.mark.parametrize("op", [image.CenterCrop(32), image.RandomCrop(16)], ids=repr)
def test_a_file_that_is_cut_off_fails_wherever_the_window_lies(op):
    cut = [data[: len(data) * 3 // 4] for data in FILES[:4]]
    pipe = tfjax.from_examples([{"image": data} for data in cut]).apply(image.Decode(), op)
    for number in range(4):
        with pytest.raises(tfjax.CorruptDataError, match=rf"example {number}"):
            pipe[number]
    with_more = tfjax.from_examples([{"image": FILES[0] + b"more"}]).apply(image.Decode(), image.CenterCrop(32))
    whole = tfjax.from_examples([{"image": FILES[0]}]).apply(image.Decode(), image.CenterCrop(32))
    assert np.array_equal(with_more[0]["image"], whole[0]["image"])


def test_the_automatic_cache_comes_before_a_crop(tfds_dir):
    small = tfjax.load("mnist", data_dir=tfds_dir).apply(image.Decode(channels=1), image.RandomCrop(28, padding=2))
    plan = small.explain()
    assert "automatic cache after Decode(1)" in plan and "is fused" not in plan


def test_what_stands_between_keeps_them_apart(photos):
    mapped = photos.apply(image.Decode()).map(lambda e: e).apply(image.CenterCrop(32))
    cached = photos.apply(image.Decode(), image.CenterCrop(64)).cache("memory").apply(image.RandomCrop(32))
    other = photos.apply(image.Decode(), image.RandomFlip(), image.CenterCrop(32))
    assert "is fused" not in mapped.explain() and "is fused" not in other.explain()
    assert "Decode() is not fused with CenterCrop(32): RandomFlip() comes between" in other.explain()
    assert "CenterCrop(32): map(" in mapped.explain()
    assert cached.explain().count("is fused with") == 1
    chain = mapped._chain
    assert fuse_decode_and_crop(chain)[0] == chain


def test_a_damaged_file_names_both_ops_and_the_example():
    broken = tfjax.from_examples([{"image": FILES[0]}, {"image": FILES[1][:200]}])
    pipe = broken.apply(image.Decode(), image.CenterCrop(32)).batch(2)
    with pytest.raises(tfjax.CorruptDataError, match=r"Decode\(\) with CenterCrop\(32\) failed on example 1"):
        pipe.peek()
