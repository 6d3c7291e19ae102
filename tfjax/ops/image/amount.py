"""How much a random op changes: a number, for as much to both sides of what changes nothing, or (least, most)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tfjax._tensorflow import tf
from tfjax.ops.base import Op, is_tensor
from tfjax.ops.failing import zero_unless
from tfjax.ops.strength import Strength, Value, is_number, varies

Amount = Strength | tuple[float, float]


@dataclass(frozen=True)
class Spread:
    """The numbers that may be drawn: what changes nothing, and the limits on both sides of it."""

    neutral: float
    least: float = -math.inf
    most: float = math.inf

    def require(self, op: Op, name: str) -> None:
        """Raise ValueError where a field is no amount, or one beyond the limits."""
        amount: Any = getattr(op, name)
        if not isinstance(amount, tuple | list):
            require_strength(op, name, most=self.most - self.neutral)
            return
        object.__setattr__(op, name, tuple(amount))  # which can be hashed
        numbers = len(amount) == 2 and all(is_number(n) and math.isfinite(n) for n in amount)
        if not numbers or not self.least <= amount[0] <= amount[1] <= self.most:
            raise ValueError(
                f"{type(op).__name__}: {name} is {amount!r}: pass a number, or (least, most){self._limits}"
            )

    @property
    def _limits(self) -> str:
        if math.isfinite(self.most):
            return f", from {self.least:g} to {self.most:g}"
        return f", from {self.least:g} on" if math.isfinite(self.least) else ""

    def draw(self, op: Op, name: str, share: tf.Tensor) -> tf.Tensor:
        """The number at a share, float32 in [0, 1), of what the field allows."""
        amount: Any = getattr(op, name)
        if isinstance(amount, tuple):
            low, high = amount
        else:
            amount = strength_of(op, name, most=self.most - self.neutral)
            low, high = tf.maximum(self.neutral - amount, self.least), self.neutral + amount
        return low + share * (high - low)


FACTOR = Spread(neutral=1.0, least=0.0)
DIFFERENCE = Spread(neutral=0.0)
TURN = Spread(neutral=0.0, least=-0.5, most=0.5)


def require_strength(op: Op, name: str, *, most: float = math.inf) -> None:
    """Raise ValueError where a field is no number from 0 to `most`, nor will be one when the graph runs."""
    value = getattr(op, name)
    number = value.default if isinstance(value, Value) else value
    if varies(number) or is_tensor(number):
        return
    if not is_number(number) or not 0 <= number <= most or not math.isfinite(number):
        raise ValueError(f"{type(op).__name__}: {name} is {value!r}: pass {_range(most)}, a schedule or a Value")


def strength_of(op: Op, name: str, *, most: float = math.inf) -> tf.Tensor:
    """A field as a float32 scalar; one that varies fails in the graph where it is no number from 0 to `most`."""
    value = getattr(op, name)
    if not is_tensor(value):
        return tf.constant(value, tf.float32)
    shown = tf.strings.as_string(value, shortest=True)
    why = tf.strings.join([f"{type(op).__name__}: {name} is ", shown, f": pass {_range(most)}"])
    good = (value >= 0) & (value <= most) & tf.math.is_finite(value)
    return value + tf.cast(zero_unless(~good, why), tf.float32)


def _range(most: float) -> str:
    return f"a number from 0 to {most:g}" if math.isfinite(most) else "a number, 0 or more"
