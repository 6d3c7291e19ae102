"""Functions for `device_map`, which draw nothing: they change what numbers mean or how they are held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from tfjax._arguments import require_count, require_numbers
from tfjax.on_device.base import LeafFunction, leaf_at, require_path, with_leaf


@dataclass(frozen=True)
class normalize(LeafFunction):
    """(image - mean) / std, computed in float32.

    Mean and std are in the units of the stored pixels, 0 to 255 for uint8 images: those given for 0 to 1 are multiplied
    by 255, as the example does with ImageNet's.

    Args:
        key: integers or floats, (..., channels).
        mean: a number, or one a channel.
        std: likewise, above 0.
        dtype: what comes out; less than float32 is rounded at the end.

    Raises:
        TypeError: the leaf is neither integers nor floats, or `dtype` is no float.
        ValueError: std is not above 0, or the image has another number of channels.

    Example:
        >>> import numpy as np, tfjax
        >>> mean, std = 255 * np.array([0.485, 0.456, 0.406]), 255 * np.array([0.229, 0.224, 0.225])
        >>> pipe = tfjax.from_arrays({"image": np.full((2, 8, 8, 3), 124, np.uint8)}).batch(2)
        >>> pipe = pipe.device_map(tfjax.on_device.normalize("image", mean, std))
        >>> [round(float(v), 3) for v in pipe.peek()["image"][0, 0, 0]]
        [0.006, 0.135, 0.357]
    """

    mean: ArrayLike
    std: ArrayLike
    dtype: Any = field(default="float32", kw_only=True)

    def __post_init__(self) -> None:
        """Check, and hold numbers as what can be hashed."""
        super().__post_init__()
        for given in ("mean", "std"):
            object.__setattr__(self, given, require_numbers(f"normalize: {given}", getattr(self, given)))
        if not np.all(np.asarray(self.std) > 0):
            raise ValueError(f"normalize: std is {self.std!r}: it is above 0")
        object.__setattr__(self, "dtype", _float_name("normalize", self.dtype))

    def __call__(self, batch: Any) -> Any:
        """The batch with one leaf normalised."""
        leaf = leaf_at(self, batch, self.key)
        if leaf.dtype == bool or not jnp.issubdtype(leaf.dtype, jnp.number):
            raise TypeError(f"normalize: {self.key!r} is {leaf.dtype}, and it takes integers or floats")
        wide = jnp.promote_types(self.dtype, jnp.float32)
        mean, std = np.asarray(self.mean, wide), np.asarray(self.std, wide)
        channels = max(mean.size, std.size)
        if channels > 1 and leaf.shape[-1:] != (channels,):
            raise ValueError(
                f"normalize: {self.key!r} has shape {leaf.shape}, and mean and std are for {channels} channels: "
                "pass one number for each of the last dimension, or one for all"
            )
        return with_leaf(batch, self.key, ((leaf.astype(wide) - mean) / std).astype(self.dtype))


@dataclass(frozen=True)
class cast:
    """The precision that leaves are held in: a policy of mixed precision.

    Args:
        policy: a dtype, which every leaf of floats is given, so that uint8 images, integer labels and masks stay what
            they are; or a dict of key to dtype, for the leaves that it names alone, whatever they hold.

    Raises:
        TypeError: a dtype is no float.

    Example:
        >>> import numpy as np, tfjax
        >>> rows = {"image": np.ones((2, 8, 8, 3), np.float32), "label": np.arange(2, dtype=np.int32)}
        >>> pipe = tfjax.from_arrays(rows).batch(2).device_map(tfjax.on_device.cast("bfloat16"))
        >>> {key: leaf.dtype.name for key, leaf in pipe.spec.items()}
        {'image': 'bfloat16', 'label': 'int32'}
    """

    policy: Any

    def __post_init__(self) -> None:
        """Check, and hold the policy as what can be hashed: the name of a dtype, or pairs of key and name."""
        if isinstance(self.policy, Mapping | tuple):
            pairs = tuple((key, _float_name("cast", dtype)) for key, dtype in dict(self.policy).items())
            for key, _ in pairs:
                require_path(self, key)
            object.__setattr__(self, "policy", pairs)
        else:
            object.__setattr__(self, "policy", _float_name("cast", self.policy))

    def __call__(self, batch: Any) -> Any:
        """The batch in the precision of the policy."""
        if isinstance(self.policy, str):
            return jax.tree.map(self._floats, batch)
        for key, dtype in self.policy:
            batch = with_leaf(batch, key, leaf_at(self, batch, key).astype(dtype))
        return batch

    def _floats(self, leaf: Any) -> Any:
        return leaf.astype(self.policy) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


@dataclass(frozen=True)
class one_hot(LeafFunction):
    """Labels as float32 rows with a 1 where the label is, which `mixup` and `cutmix` take.

    Args:
        key: integers, (batch,); out come floats, (batch, classes). A label outside of 0 to `num_classes` - 1, such as
            the -1 of a row without one, becomes zeros.
        num_classes: the number of classes.
        smoothing: what is shared out evenly over all classes, from 0 to 1.

    Raises:
        TypeError: the labels are no integers.
        ValueError: an argument is out of range.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"label": np.array([2, 0])}).batch(2)
        >>> pipe.device_map(tfjax.on_device.one_hot("label", 4, smoothing=0.5)).peek()["label"].tolist()
        [[0.125, 0.125, 0.625, 0.125], [0.625, 0.125, 0.125, 0.125]]
    """

    num_classes: int
    smoothing: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        require_count("one_hot: num_classes", self.num_classes, least=1)
        if not 0 <= self.smoothing <= 1:
            raise ValueError(f"one_hot: smoothing is {self.smoothing}: it is from 0 to 1")

    def __call__(self, batch: Any) -> Any:
        """The batch with its labels as rows."""
        label = leaf_at(self, batch, self.key)
        if not jnp.issubdtype(label.dtype, jnp.integer):
            raise TypeError(f"one_hot: {self.key!r} is {label.dtype}, and labels are integers: leave one_hot out")
        label = label[..., jnp.newaxis]
        hot = (label == jnp.arange(self.num_classes)).astype(jnp.float32)
        known = ((label >= 0) & (label < self.num_classes)).astype(jnp.float32)
        share = self.smoothing / self.num_classes
        return with_leaf(batch, self.key, hot * (1 - self.smoothing) + known * share)


def _float_name(what: str, dtype: Any) -> str:
    try:
        found = jnp.dtype(bool if dtype is None else dtype)
    except TypeError:
        found = jnp.dtype(bool)
    if not jnp.issubdtype(found, jnp.floating):
        raise TypeError(f"{what} takes a dtype of floats, such as 'bfloat16', given {dtype!r}")
    return str(found.name)
