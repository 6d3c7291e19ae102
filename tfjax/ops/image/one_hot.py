"""Labels as the shares of classes."""

from __future__ import annotations

from dataclasses import dataclass, field

from tfjax._arguments import require_count
from tfjax._tensorflow import tf
from tfjax.ops.base import Example, Op, leaf_at, with_leaf


@dataclass(frozen=True, repr=False)
class OneHot(Op):
    """A label as float32 (num_classes,), 1 at the class and 0 elsewhere; on a device, `tfjax.on_device.one_hot`.

    A label outside of 0 to `num_classes` - 1, such as the -1 of an example without one, becomes zeros.

    Args:
        num_classes: the number of classes.
        smoothing: what is shared out evenly over all classes, from 0 to 1.
        key: the label, an integer of any shape; the classes are a last dimension more.

    Raises:
        TypeError: the label is no integer.
        ValueError: smoothing is not from 0 to 1.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"label": np.array([2, 0])})
        >>> pipe.apply(tfjax.image.OneHot(4, smoothing=0.5))[0]["label"].tolist()
        [0.125, 0.125, 0.625, 0.125]
    """

    num_classes: int
    smoothing: float = 0.0
    key: str = field(default="label", kw_only=True)

    def __post_init__(self) -> None:
        """Check the arguments."""
        self._refuse_varying()
        object.__setattr__(self, "num_classes", require_count("OneHot: num_classes", self.num_classes, least=1))
        if not 0 <= self.smoothing <= 1:
            raise ValueError(f"OneHot: smoothing is {self.smoothing}: it is from 0 to 1")
        if not isinstance(self.key, str) or not self.key:
            raise TypeError(f"OneHot: key is {self.key!r}: pass the name of a key, such as 'label'")

    @property
    def keys(self) -> tuple[str, ...]:
        """See `Op`."""
        return (self.key,)

    def __call__(self, example: Example, seed: tf.Tensor | None = None) -> Example:  # noqa: ARG002
        """The example with its label as shares."""
        label = tf.convert_to_tensor(leaf_at(example, self.key))
        if not label.dtype.is_integer:
            raise TypeError(f"{self!r}: {self.key!r} is {label.dtype.name}, and labels are integers: leave OneHot out")
        label = tf.cast(label, tf.int64)[..., tf.newaxis]
        hot = tf.cast(label == tf.range(self.num_classes, dtype=tf.int64), tf.float32)
        known = tf.cast((label >= 0) & (label < self.num_classes), tf.float32)
        return with_leaf(example, self.key, hot * (1 - self.smoothing) + known * (self.smoothing / self.num_classes))
