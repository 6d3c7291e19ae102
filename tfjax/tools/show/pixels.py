"""Pixels of any dtype and range as they can be looked at.

>>> import numpy as np
>>> [image.tolist() for image in displayed([np.array([[[0], [16]]]), np.array([[[4], [8]]])])]
[[[0.0, 1.0]], [[0.25, 0.5]]]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def displayed(images: Sequence[Array]) -> list[Array]:
    """Images (height, width[, channels]) as matplotlib takes them.

    Colours of 8 or 16 bits, and floats from 0 to 1 or to 255, are left as they are. All else, as what was normalised,
    and grey images, are stretched to the range of the images together, channel by channel.
    """
    images = [image[..., np.newaxis] if image.ndim == 2 else image for image in images]
    flat = np.concatenate([np.asarray(image, np.float64).reshape(-1, image.shape[-1]) for image in images])
    flat = np.where(np.isfinite(flat), flat, 0)
    low, high = _range(images[0].dtype, flat)
    return [_squeezed(_scaled(image, low, high)) for image in images]


def _range(dtype: np.dtype[Any], flat: Array) -> tuple[Any, Any]:
    """What is shown as black and as full."""
    if flat.shape[-1] > 1:
        if dtype.kind == "u":
            return 0, np.iinfo(dtype).max
        for most in (1, 255):
            if flat.min() >= 0 and flat.max() <= most:
                return 0, most
    return flat.min(0), flat.max(0)


def _scaled(image: Array, low: Any, high: Any) -> Array:
    span = np.where(np.equal(high, low), 1, np.subtract(high, low))
    floats = (np.nan_to_num(np.asarray(image, np.float64), posinf=0, neginf=0) - low) / span
    return np.asarray(np.clip(floats, 0, 1))


def _squeezed(image: Array) -> Array:
    return image[..., 0] if image.shape[-1] == 1 else image
