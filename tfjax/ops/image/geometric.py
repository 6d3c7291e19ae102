"""Ops that move pixels: what they do to the image they do to its boxes and masks."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import Any

from tfjax._tensorflow import tf
from tfjax.ops.base import Example, leaf_at, with_leaf
from tfjax.ops.failing import zero_unless
from tfjax.ops.image.base import ImageOp, require_image
from tfjax.ops.image.boxes import clipped

Paths = str | tuple[str, ...] | None
Drawn = Any  # what an op draws once for an example: tensors, and what is computed of them


@dataclass(frozen=True, repr=False)
class GeometricOp(ImageOp):
    """An op with one geometry for the image, its boxes and its masks.

    `boxes` and `masks` name leaves by key, as "objects/bbox" where dictionaries lie in each other. Boxes are floats
    (boxes, 4) of ymin, xmin, ymax, xmax as shares of the image, and come out as float32; one of which nothing is left
    becomes four zeros. Masks are (height, width) or (height, width, channels) as the image; their values are kept,
    never mixed.
    """

    boxes: Paths = field(default=None, kw_only=True)
    masks: Paths = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check the keys."""
        super().__post_init__()
        for name in ("boxes", "masks"):
            paths = getattr(self, name)
            if not isinstance(paths, str | tuple | None) or not all(isinstance(p, str) and p for p in _paths(paths)):
                raise TypeError(f"{type(self).__name__}: {name} is {paths!r}: pass a key, or a tuple of keys")
        for path in self.keys:
            if self.keys.count(path) > 1:
                raise ValueError(
                    f"{type(self).__name__}: {path!r} is named twice among key, boxes and masks: name it once"
                )

    @property
    def keys(self) -> tuple[str, ...]:
        """See `Op`."""
        return (self.key, *_paths(self.boxes), *_paths(self.masks))

    def __call__(self, example: Example, seed: tf.Tensor | None = None) -> Example:
        """The example with image, boxes and masks moved."""
        image = require_image(self, leaf_at(example, self.key))
        size = size_of(image)
        drawn = self.draw(size, seed)
        return self.move_others(with_leaf(example, self.key, self.move(image, drawn)), size, drawn)

    def image(self, image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        """See `ImageOp`."""
        return self.move(image, self.draw(size_of(image), seed))

    def move_others(self, example: Example, size: tf.Tensor, drawn: Drawn) -> Example:
        """The example with boxes and masks moved, whose image was `size`, int32 (2,), before."""
        for path in _paths(self.boxes):
            boxes = self._require_boxes(path, leaf_at(example, path))
            example = with_leaf(example, path, clipped(self.move_boxes(boxes, size, drawn)))
        for path in _paths(self.masks):
            mask = self._require_mask(path, leaf_at(example, path), size)
            flat = mask.shape.rank == 2
            moved = self.move_mask(mask[..., tf.newaxis] if flat else mask, drawn)
            example = with_leaf(example, path, moved[..., 0] if flat else moved)
        return example

    def draw(self, size: tf.Tensor, seed: tf.Tensor | None) -> Drawn:  # noqa: ARG002
        """What is random, and what follows from the size of the image, int32 (2,)."""
        return None

    @abc.abstractmethod
    def move(self, image: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        """The image, in its own dtype."""

    def move_mask(self, mask: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        """A mask, (height, width, channels)."""
        return self.move(mask, drawn)

    @abc.abstractmethod
    def move_boxes(self, boxes: tf.Tensor, size: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        """Boxes, float32 (boxes, 4); where they reach beyond the image they are cut afterwards."""

    def _require_boxes(self, path: str, boxes: tf.Tensor) -> tf.Tensor:
        """The boxes, float32, which fail in the graph where they are far from shares of it."""
        boxes = tf.convert_to_tensor(boxes)
        if not boxes.dtype.is_floating or boxes.shape.rank in (0, None) or boxes.shape[-1] not in (4, None):
            raise TypeError(
                f"{self!r}: {path!r} is {boxes.dtype.name} of shape {boxes.shape}, and boxes are floats (boxes, 4) of "
                "ymin, xmin, ymax, xmax as shares of the image: convert them in map"
            )
        boxes = tf.cast(tf.ensure_shape(boxes, (*boxes.shape[:-1], 4)), tf.float32)
        shares = (boxes >= -1) & (boxes <= 2)  # which NaN is not
        ends = [tf.strings.as_string(reduce(boxes), shortest=True) for reduce in (tf.reduce_min, tf.reduce_max)]
        why = (
            f"{self!r}: {path!r} has values from ",
            " to ",
            ", and boxes are shares of the image, 0 to 1, as ymin, xmin, ymax, xmax: divide by height and width in map",
        )
        why = tf.strings.join([why[0], ends[0], why[1], ends[1], why[2]])
        return boxes + tf.cast(zero_unless(~tf.reduce_all(shares), why), tf.float32)

    def _require_mask(self, path: str, mask: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """The mask, which fails in the graph where it is of another size than the image."""
        mask = tf.convert_to_tensor(mask)
        if mask.shape.rank not in (2, 3):
            raise TypeError(
                f"{self!r}: {path!r} is {mask.dtype.name} of shape {mask.shape}, and a mask is (height, width) or "
                "(height, width, channels): reshape it in map"
            )
        sizes = [size_of(mask), size]
        why = (
            f"{self!r}: the mask {path!r} is ",
            " and the image ",
            f": let masks={path!r} follow what changed the size",
        )
        known = [tf.get_static_value(s) for s in sizes]
        if all(s is not None for s in known):
            own, whole = (f"{h} x {w}" for h, w in known)
            if own != whole:
                raise ValueError(f"{why[0]}{own}{why[1]}{whole}{why[2]}")
            return mask
        own, whole = (tf.strings.reduce_join(tf.strings.as_string(s), separator=" x ") for s in sizes)
        zero = zero_unless(tf.reduce_any(sizes[0] != size), tf.strings.join([why[0], own, why[1], whole, why[2]]))
        return tf.reshape(mask, tf.shape(mask) + zero)


def size_of(image: tf.Tensor) -> tf.Tensor:
    """Height and width, int32 (2,); a constant where they are known."""
    known = image.shape[:2]
    return tf.constant(known.as_list()) if known.is_fully_defined() else tf.shape(image)[:2]


def _paths(paths: Paths) -> tuple[str, ...]:
    return () if paths is None else (paths,) if isinstance(paths, str) else paths
