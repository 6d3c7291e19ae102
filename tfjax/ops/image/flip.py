"""Mirror images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tfjax._tensorflow import tf
from tfjax.ops.base import random_numbers
from tfjax.ops.image import boxes as geometry
from tfjax.ops.image.geometric import Drawn, GeometricOp


@dataclass(frozen=True, repr=False)
class RandomFlip(GeometricOp):
    """Mirror half of the images.

    Args:
        horizontal: swap left and right with a probability of 1/2.
        vertical: swap top and bottom with a probability of 1/2, whatever becomes of left and right.
        boxes: keys of boxes that follow.
        masks: keys of masks that follow.
        key: the image, (height, width, channels).

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"image": np.arange(8, dtype=np.uint8).reshape(4, 1, 2, 1)})
        >>> [e["image"].ravel().tolist() for e in pipe.apply(tfjax.image.RandomFlip())]
        [[0, 1], [3, 2], [5, 4], [6, 7]]
    """

    random: ClassVar[bool] = True

    horizontal: bool = True
    vertical: bool = False

    def __post_init__(self) -> None:
        """Refuse to do nothing."""
        super().__post_init__()
        if not (self.horizontal or self.vertical):
            raise ValueError("RandomFlip(horizontal=False): it flips nothing: pass vertical=True, or leave it out")

    def draw(self, size: tf.Tensor, seed: tf.Tensor | None) -> Drawn:  # noqa: ARG002
        """Whether rows, and whether columns, run backwards."""
        rows, columns = random_numbers(seed, 2)
        return rows < 0.5 if self.vertical else None, columns < 0.5 if self.horizontal else None

    def move(self, image: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        """See `GeometricOp`."""
        for axis, backwards in enumerate(drawn):
            if backwards is not None:
                image = _flipped(image, backwards, axis)
        return image

    def move_boxes(self, boxes: tf.Tensor, size: tf.Tensor, drawn: Drawn) -> tf.Tensor:  # noqa: ARG002
        """See `GeometricOp`."""
        rows, columns = drawn
        if rows is not None:
            boxes = tf.where(rows, geometry.flipped(boxes, rows=True, columns=False), boxes)
        if columns is not None:
            boxes = tf.where(columns, geometry.flipped(boxes, rows=False, columns=True), boxes)
        return boxes


def _flipped(image: tf.Tensor, backwards: tf.Tensor, axis: int) -> tf.Tensor:
    out = tf.cond(backwards, lambda: tf.reverse(image, [axis]), lambda: image)
    out.set_shape(image.shape)
    return out
