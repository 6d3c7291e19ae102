"""Photos to crops of 224 by Python's libraries, an example at a time.

Worker processes import it: it holds nothing of TensorFlow or JAX. Its libraries are optional.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SIDE = 224
Decoder = Callable[[str, np.ndarray], np.ndarray]


def why_missing(*modules: str) -> str:
    """Which of these optional libraries are not there; empty where all are."""
    missing = [name for name in modules if importlib.util.find_spec(name.partition(".")[0]) is None]
    return f"not installed: {', '.join(missing)}; no dependency, install it to compare" if missing else ""


def decode_whole(jpeg: bytes) -> np.ndarray:
    """libjpeg-turbo alone, by the faster of its ways, which are TensorFlow's as well."""
    import simplejpeg

    image: np.ndarray = simplejpeg.decode_jpeg(jpeg, fastdct=True, fastupsample=True)
    return image


def by_simplejpeg(path: str, window: np.ndarray) -> np.ndarray:
    """The whole photo by libjpeg-turbo, a window of it resized by OpenCV."""
    import cv2

    y, x, height, width = window
    image = decode_whole(Path(path).read_bytes())
    return cv2.resize(image[y : y + height, x : x + width], (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)


def by_pil(path: str, window: np.ndarray) -> np.ndarray:
    """The same by PIL, as torchvision's RandomResizedCrop does it; it blurs before shrinking."""
    from PIL import Image

    y, x, height, width = window.tolist()
    with Image.open(path) as image:
        crop = image.convert("RGB").crop((x, y, x + width, y + height))
    return np.array(crop.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


@dataclass(frozen=True)
class Crops:
    """Crops by their number: what Grain calls a source, and torch a dataset."""

    paths: list[str]
    windows: np.ndarray
    decode: Decoder

    def __len__(self) -> int:
        """How many."""
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """One of them."""
        return {"image": self.decode(self.paths[index], self.windows[index]), "label": np.int32(index)}
