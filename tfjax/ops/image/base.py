"""What ops on images have in common: the key, and the check of what is found there."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field, fields

from tfjax._arguments import require_bool
from tfjax._tensorflow import tf
from tfjax.ops.base import Example, Op, leaf_at, with_leaf
from tfjax.ops.strength import plain


@dataclass(frozen=True, repr=False)
class ImageOp(Op):
    """An op on the decoded image of an example, (height, width, channels)."""

    key: str = field(default="image", kw_only=True)

    def __post_init__(self) -> None:
        """Refuse what cannot be planned, and hold plain numbers and tuples; classes add their own rules."""
        self._refuse_varying()
        for given in fields(self):
            value = getattr(self, given.name)
            if given.type in ("bool", bool):
                require_bool(f"{type(self).__name__}: {given.name}", value)
            else:
                object.__setattr__(self, given.name, plain(value))
        if not isinstance(self.key, str) or not self.key:
            raise TypeError(f"{type(self).__name__}: key is {self.key!r}: pass the name of a key, such as 'image'")

    @property
    def keys(self) -> tuple[str, ...]:
        """See `Op`."""
        return (self.key,)

    def __call__(self, example: Example, seed: tf.Tensor | None = None) -> Example:
        """The example with the op applied to its image."""
        image = require_image(self, leaf_at(example, self.key))
        return with_leaf(example, self.key, self.image(image, seed))

    @abc.abstractmethod
    def image(self, image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        """The image that comes out."""


def require_image(op: ImageOp, image: tf.Tensor) -> tf.Tensor:
    """The leaf as a tensor.

    Raises:
        TypeError: it is encoded, or no image of three dimensions.
    """
    image = tf.convert_to_tensor(image)
    if image.dtype == tf.string:
        raise TypeError(f"{op!r}: {op.key!r} holds encoded bytes: put tfjax.image.Decode() before it")
    if image.shape.rank != 3:
        shape = "unknown rank" if image.shape.rank is None else f"shape {tuple(image.shape)}"
        raise TypeError(
            f"{op!r}: {op.key!r} is {image.dtype.name} of {shape}, and an image is (height, width, channels): "
            "add the dimension in map, or use tf.ensure_shape"
        )
    return image
