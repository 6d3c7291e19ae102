"""The sample weights of a batch: those of a leaf, of the class of each row, and 0 for the rows that padding added.

>>> import numpy as np
>>> Weights(target="label", classes=ClassWeights({0: 1.0, 1: 5.0}))({"label": np.array([0, 1, 1])})
array([1., 5., 5.], dtype=float32)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfjax._arguments import require_count


class ClassWeights:
    """A weight for each class that there is."""

    def __init__(self, weights: Mapping[int, float]) -> None:
        """Check them.

        Raises:
            TypeError: no dict of class to number.
            ValueError: a class below 0, or a weight that is below 0 or not finite; or there is none.
        """
        if not isinstance(weights, Mapping) or not weights:
            raise TypeError(
                f"class_weight takes a dict of class to weight, such as {{0: 1.0, 1: 5.0}}, given {weights!r}"
            )
        for number, weight in weights.items():
            require_count("class_weight: a class", number, least=0)
            if isinstance(weight, bool) or not isinstance(weight, int | float | np.number):
                raise TypeError(f"class_weight: the weight of class {number} is {weight!r}: give a number")
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(
                    f"class_weight: the weight of class {number} is {weight}: weights are finite, 0 or more"
                )
        self._classes = np.array(sorted(weights), np.int64)
        self._weights = np.array([weights[number] for number in sorted(weights)], np.float32)

    def __call__(self, targets: Any) -> np.ndarray:
        """The weight of each row.

        Args:
            targets: classes of shape (batch,) or (batch, 1), or scores of them of shape (batch, classes), such as
                one-hot ones, of which the highest counts.

        Raises:
            ValueError: a class that has no weight.
        """
        rows = np.asarray(targets)
        if rows.ndim > 1:
            rows = rows.argmax(-1) if rows.shape[-1] > 1 else rows[..., 0]
        classes = np.rint(rows).astype(np.int64)
        at = np.minimum(np.searchsorted(self._classes, classes), len(self._classes) - 1)
        unknown = self._classes[at] != classes
        if unknown.any():
            where = np.argwhere(unknown)[0]
            raise ValueError(
                f"class {classes[tuple(where)]} of row {where[0]} has no weight: class_weight names "
                f"{', '.join(map(str, self._classes))}; give 1.0 to those that count as they are"
            )
        weights: np.ndarray = self._weights[at]
        return weights


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What the sample weights are made of; called with a batch, they are their product.

    Args:
        leaf: the key of the leaf of weights.
        target: the key of the target, whose classes are weighted.
        classes: their weights.
        masked: whether the leaf `mask` says which rows are real.
    """

    leaf: str | int | None = None
    target: Any = None
    classes: ClassWeights | None = None
    masked: bool = False

    def __call__(self, batch: Any, scale: float = 1.0) -> Any | None:
        """The weights of a batch times a number, of shape (batch,) or that of the leaf; None where no row has one.

        One leaf alone is handed on as it is. Products are made by NumPy, which sees arrays of the CPU without a copy;
        from an accelerator these few bytes are fetched.
        """
        factors = []
        if self.leaf is not None:
            factors.append(batch[self.leaf])
        if self.classes is not None:
            factors.append(self.classes(batch[self.target]))
        if self.masked:
            factors.append(batch["mask"])
        if not factors:
            return None
        first, *others = factors
        if not others and scale == 1:
            return first
        product = np.asarray(first, np.float32)
        for factor in others:
            rows = np.asarray(factor)
            product = product * rows.reshape(rows.shape + (1,) * (product.ndim - rows.ndim))
        return product if scale == 1 else product * np.float32(scale)
