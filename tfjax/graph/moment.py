"""When a batch is computed: what may make an element differ from epoch to epoch, and from step to step.

>>> int(Moment.start().epoch)
0
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from tfjax._tensorflow import tf


@dataclass(frozen=True, eq=False)
class Moment:
    """The moment of one batch, or of a stack of them.

    Attributes:
        epoch: int64 scalar.
        step: int64 scalar, the batches that all epochs before this one and this epoch have delivered so far; for a
            stack (batches,), the step of each.
        values: the named numbers of `iterate(values=)`, each a float32 scalar.
    """

    epoch: tf.Tensor
    step: tf.Tensor
    values: Mapping[str, tf.Tensor] = field(default_factory=dict)

    @classmethod
    def start(cls) -> Self:
        """Step 0 of epoch 0: what is computed for a deterministic prefix, which no moment changes."""
        return cls(tf.constant(0, tf.int64), tf.constant(0, tf.int64))
