"""Every op of tfjax.image over the same examples, for the suite of `test_image_ops.py`."""

import dataclasses
from typing import Any

import numpy as np

from tfjax import image as ops
from tfjax._tensorflow import tf
from tfjax.ops.base import Op

N, HEIGHT, WIDTH = 10, 12, 17
Rows = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """One op.

    Attributes:
        op: the op, as it is called.
        dtypes: of the images that it takes; "png" where they are encoded.
        gives: the dtype of what it gives; None where it keeps that of the image.
        shape: what it makes of an image of HEIGHT x WIDTH x 3.
    """

    op: Op
    dtypes: tuple[str, ...] = ("uint8", "float32")
    gives: str | None = None
    shape: tuple[int | None, ...] = (HEIGHT, WIDTH, 3)

    @property
    def key(self) -> str:
        """Where it looks."""
        return self.op.keys[0]

    def rows(self, dtype: str | None = None) -> Rows:
        """Examples that it takes, all different."""
        return rows(dtype or self.dtypes[0])

    def strong(self) -> dict[str, float]:
        """Its strengths that are numbers."""
        given = {name: getattr(self.op, name) for name in self.op.strengths}
        return {name: float(value) for name, value in given.items() if isinstance(value, int | float)}


def rows(dtype: str) -> Rows:
    """Images of a dtype, and other leaves."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (N, HEIGHT, WIDTH, 3), np.uint8)
    if dtype == "png":
        image: Any = np.array([tf.io.encode_png(p).numpy() for p in pixels])
    elif dtype == "float32":
        image = (pixels / 255).astype(np.float32)
    else:
        image = pixels.astype(dtype)
    return {"image": image, "label": np.arange(N) % 4, "id": np.arange(N), "other": {"x": np.arange(N) / 3}}


SIZED = {
    "CenterCrop": Case(ops.CenterCrop((8, 20)), shape=(8, 20, 3)),
    "RandomCrop": Case(ops.RandomCrop(11, padding=2), shape=(11, 11, 3)),
    "RandomResizedCrop": Case(ops.RandomResizedCrop((9, 7), ratio=(0.5, 2)), shape=(9, 7, 3)),
    "Resize": Case(ops.Resize((7, 9), method="lanczos3", antialias=True), shape=(7, 9, 3)),
    "Resize, nearest": Case(ops.Resize(16, method="nearest"), shape=(16, 16, 3)),
    "ResizeShortSide": Case(ops.ResizeShortSide(6, method="bicubic"), shape=(6, 8, 3)),
}
MOVED = {
    "RandomFlip": Case(ops.RandomFlip(vertical=True)),
    "RandomRotate": Case(ops.RandomRotate(30, fill_mode="reflect")),
    "RandomRotate, right angles": Case(ops.RandomRotate(right_angles=True), shape=(None, None, 3)),
    "RandomErasing": Case(ops.RandomErasing(0.8, value="noise")),
    "RandomErasing, one colour": Case(ops.RandomErasing(1, value=(1, 2, 3))),
}
COLOURED = {
    "Grayscale": Case(ops.Grayscale(), shape=(HEIGHT, WIDTH, 1)),
    "RandomBrightness": Case(ops.RandomBrightness(32)),
    "RandomBrightness, factor": Case(ops.RandomBrightness(factor=0.5)),
    "RandomContrast": Case(ops.RandomContrast(0.5)),
    "RandomSaturation": Case(ops.RandomSaturation(0.5)),
    "RandomHue": Case(ops.RandomHue(0.25)),
    "ColorJitter": Case(ops.ColorJitter(0.5, 0.25, saturation=1.5, hue=0.25)),
    "GaussianNoise": Case(ops.GaussianNoise(8)),
    "GaussianBlur": Case(ops.GaussianBlur()),
    "GaussianBlur, one sigma": Case(ops.GaussianBlur(1.5)),
    "RandAugment": Case(ops.RandAugment(3, magnitude=20), ("uint8",)),
    "TrivialAugment": Case(ops.TrivialAugment(), ("uint8",)),
}
NUMBERS = {
    "Decode": Case(ops.Decode(), ("png",), "uint8", shape=(None, None, 3)),
    "Normalize": Case(ops.Normalize((120, 110, 100), 60), gives="float32"),
    "StandardizePerImage": Case(ops.StandardizePerImage(), gives="float32"),
    "OneHot": Case(ops.OneHot(4, smoothing=0.1), gives="float32", shape=(4,)),
}
CASES = {**SIZED, **MOVED, **COLOURED, **NUMBERS}
