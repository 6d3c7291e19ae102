"""The pixels of one window of a resized image, without the others."""

from __future__ import annotations

from dataclasses import dataclass

from tfjax._tensorflow import tf
from tfjax.ops.base import Example, leaf_at, with_leaf
from tfjax.ops.image.base import require_image
from tfjax.ops.image.crop import CropOp, RandomCrop
from tfjax.ops.image.geometric import size_of
from tfjax.ops.image.resize import ResizeOp
from tfjax.ops.image.sampling import resampled, weighs


@dataclass(frozen=True)
class ResizeWindow:
    """A resize and the crop that follows it, as one function with the same results to the bit."""

    resize: ResizeOp
    crop: CropOp

    def __call__(self, example: Example, seed: tf.Tensor | None = None) -> Example:
        """The example with its image resized and cropped, and what follows both."""
        resize, crop = self.resize, self.crop
        image = require_image(resize, leaf_at(example, resize.key))
        size = size_of(image)
        new = resize.draw(size, None)
        drawn = crop.draw(new, seed)
        pixels = resampled(image, new, resize.method, antialias=resize.antialias, window=crop.inside(new, drawn))
        example = with_leaf(example, crop.key, crop.finish(pixels, drawn))
        return crop.move_others(resize.move_others(example, size, new), new, drawn)


def resizes_windows(resize: ResizeOp, crop: CropOp) -> str | None:
    """Why a resize has to be of the whole image; None where a window is cheaper and has the same bits."""
    if not weighs(resize.method, antialias=resize.antialias):
        return f"method={resize.method!r} is as cheap for the whole image"
    if isinstance(crop, RandomCrop) and crop.padding:
        return "padding= may leave a window without pixels"
    return None
