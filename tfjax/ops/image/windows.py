"""Windows of random area and aspect ratio."""

from __future__ import annotations

import math
from typing import Any

from tfjax._tensorflow import tf
from tfjax.ops.strength import is_number

_TRIES = 10


def random_window(
    size: tf.Tensor, seed: tf.Tensor, scale: tuple[float, float], ratio: tuple[float, float], otherwise: tf.Tensor
) -> tf.Tensor:
    """Of ten windows the first that fits into the image, or `otherwise`, int32 (4,): y, x, height and width.

    Areas are uniform, aspect ratios uniform in their logarithm, and places uniform.

    Args:
        size: int32 (2,): height and width of the image.
        seed: int64 (2,).
        scale: the least and the largest area, as shares of the image.
        ratio: the least and the largest aspect ratio, width over height.
        otherwise: int32 (4,).
    """
    sides = tf.cast(size, tf.float32)[:, tf.newaxis]
    shares, skews, *places = tf.unstack(tf.random.stateless_uniform((4, _TRIES), seed))
    area = tf.reduce_prod(sides) * (scale[0] + shares * (scale[1] - scale[0]))
    low, high = math.log(ratio[0]), math.log(ratio[1])
    skew = tf.exp(low + skews * (high - low))
    wanted = tf.round(tf.sqrt(tf.stack([area / skew, area * skew])))
    room = sides - wanted
    fits = tf.reduce_all((wanted >= 1) & (room >= 0), 0)
    # A share just below 1 of a large number may round up to it.
    at = tf.minimum(tf.floor(tf.stack(places) * (room + 1)), room)
    tries = tf.cast(tf.concat([at, wanted], 0), tf.int32)
    first = tf.argmax(tf.concat([fits, [True]], 0))
    return tf.gather(tf.concat([tries, otherwise[:, tf.newaxis]], 1), first, axis=1)


def require_range(op: object, name: str, most: float = math.inf) -> None:
    """Raise ValueError where a field is no (least, largest) with 0 < least <= largest <= most."""
    value: Any = getattr(op, name)
    pair = isinstance(value, tuple) and len(value) == 2 and all(is_number(n) and math.isfinite(n) for n in value)
    if not pair or not 0 < value[0] <= value[1] <= most:
        limit = f" <= {most:g}" if math.isfinite(most) else ""
        raise ValueError(f"{type(op).__name__}: {name} is {value!r}: pass 0 < least <= largest{limit} as a tuple")
