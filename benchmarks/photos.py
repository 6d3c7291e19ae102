"""JPEG files for the image benchmarks, made of the photos in ../shared/data and kept in runs/bench/photos.

There are fewer photos than files, so each file is numbered in a comment: no two have the same bytes.
"""

from __future__ import annotations

import collections
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin

from benchmarks.harness import OUT
from tfjax._tensorflow import tf
from tfjax.image import RandomResizedCrop

SHARED = Path("../shared/data")
SIDE = 224
# What the files are of: the pattern of the photos, and how their bytes are changed.
AS_THEY_ARE, REENCODED, LARGE = "4:4:4", "4:2:0", "1280"
_SUBSAMPLING = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}


@dataclass(frozen=True)
class Photos:
    """JPEG files.

    Attributes:
        paths: where they lie.
        sizes: int32 (files, 2): heights and widths.
        about: figures for the JSON.
    """

    paths: list[str]
    sizes: np.ndarray
    about: dict[str, Any]

    @property
    def labels(self) -> np.ndarray:
        """The number of each file, int32 (files,)."""
        return np.arange(len(self.paths), dtype=np.int32)

    def subset(self, chosen: np.ndarray) -> Photos:
        """Those for which a bool (files,) is True."""
        return Photos(list(itertools.compress(self.paths, chosen)), self.sizes[chosen], {})

    def windows(self) -> np.ndarray:
        """A window of each as `RandomResizedCrop` draws it, int32 (files, 4): y, x, height and width."""
        crop, seeds = RandomResizedCrop(SIDE), np.stack([np.zeros_like(self.labels), self.labels], 1)

        @tf.function
        def drawn() -> tf.Tensor:
            return tf.map_fn(lambda row: crop.draw(*row), (self.sizes, seeds), fn_output_signature=tf.int32)

        return drawn().numpy()

    def centers(self) -> np.ndarray:
        """The window of SIDE pixels in the middle of each, int32 (files, 4)."""
        return np.concatenate([(self.sizes - SIDE) // 2, np.full_like(self.sizes, SIDE)], 1)

    def wholes(self) -> np.ndarray:
        """All of each, int32 (files, 4)."""
        return np.concatenate([np.zeros_like(self.sizes), self.sizes], 1)


def why_no_photos() -> str:
    """Why there is nothing to make files of; empty where there is."""
    return "" if _originals(AS_THEY_ARE) else f"{SHARED} holds no photos in flowers/ and coco_captions/images/"


def photos(kind: str, count: int) -> Photos:
    """Files of the photos "4:4:4" as they are, "4:2:0" re-encoded, or "1280" large and 4:2:0; missing ones are made."""
    folder = OUT / "photos" / kind.replace(":", "")
    folder.mkdir(parents=True, exist_ok=True)
    originals = _originals(kind)
    paths = [folder / f"{number:05d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.is_file():
            made = path.with_suffix(f".{os.getpid()}")
            made.write_bytes(_numbered(_encoded(kind, originals[number % len(originals)]), number))
            made.replace(path)
    return Photos([str(p) for p in paths], *_measured(paths))


def _originals(kind: str) -> list[Path]:
    """All photos, or those whose long side has 640 pixels."""
    flowers = [] if kind == LARGE else sorted(SHARED.glob("flowers/*/*.jpg"))
    return flowers + sorted(SHARED.glob("coco_captions/images/*.jpg"))


def _encoded(kind: str, original: Path) -> bytes:
    jpeg = original.read_bytes()
    if kind == AS_THEY_ARE:
        return jpeg
    image = tf.io.decode_jpeg(jpeg, channels=3).numpy()
    if kind == LARGE:
        # Mirrored to the right and below: as many details a pixel as before, where enlarging would leave fewer.
        image = np.pad(image, [(0, image.shape[0]), (0, image.shape[1]), (0, 0)], "symmetric")
    encoded: bytes = tf.io.encode_jpeg(image, quality=90, chroma_downsampling=True).numpy()
    return encoded


def _numbered(jpeg: bytes, number: int) -> bytes:
    """The file with a comment after its first marker."""
    return jpeg[:2] + b"\xff\xfe" + (6).to_bytes(2, "big") + number.to_bytes(4, "big") + jpeg[2:]


def _measured(paths: Sequence[Path]) -> tuple[np.ndarray, dict[str, Any]]:
    sizes, subsampling = [], collections.Counter[str]()
    for path in paths:
        with Image.open(path) as image:
            sizes.append(image.size[::-1])
            subsampling[_SUBSAMPLING[JpegImagePlugin.get_sampling(image)]] += 1
    pixels, bytes_ = np.prod(sizes, 1).sum(), sum(p.stat().st_size for p in paths)
    height, width = np.mean(sizes, 0)
    about = {
        "files": len(paths),
        "subsampling": dict(subsampling),
        "mean size": f"{width:.0f}x{height:.0f}",
        "mean KB": round(bytes_ / len(paths) / 1000, 1),
        "bytes a pixel": round(bytes_ / int(pixels), 3),
    }
    return np.array(sizes, np.int32), about
