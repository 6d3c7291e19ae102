"""The largest size that fits, where what a size takes is close to a line: few measurements, each a compilation.

>>> sizes = Sizes(parts=1, multiple_of=8, most=1000)
>>> largest(lambda n: 50 + 3 * n, 1000, sizes, start=32)
312
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_ENOUGH = 8  # measurements, once one fits
_FARTHEST = 256  # times the largest size measured, for the next


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The batch sizes that come into question.

    Args:
        parts: into how many equal parts a batch is cut, one a device.
        multiple_of: what the rows of a part are a multiple of; below it they are powers of two.
        most: the largest size; None for no bound.
    """

    parts: int
    multiple_of: int
    most: int | None

    def at_most(self, size: float) -> int:
        """The largest one up to a size; 0 if there is none.

        >>> sizes = Sizes(parts=2, multiple_of=8, most=100)
        >>> [sizes.at_most(n) for n in (1, 3, 15, 31, 33, 1000)]
        [0, 2, 8, 16, 32, 96]
        """
        rows = int(min(size, math.inf if self.most is None else self.most)) // self.parts
        whole = rows // self.multiple_of * self.multiple_of
        return self.parts * (whole or (1 << rows.bit_length() >> 1))

    def below(self, size: int) -> int:
        """The next smaller one; 0 if there is none."""
        return self.at_most(size - 1)


def largest(
    measure: Callable[[int], float],
    limit: float,
    sizes: Sizes,
    start: int,
    *,
    expected: Callable[[int, float | None], None] = lambda *_: None,
) -> int:
    """The largest size whose measure is within a limit; 0 if none is.

    Args:
        measure: of a size; infinite where it is not known by how much it is too large.
        limit: of the measure.
        sizes: those that come into question, at least one.
        start: the first that is measured.
        expected: called with each size before it is measured, and with what a line through two others says of it.
    """
    known: dict[int, float] = {}
    size = sizes.at_most(start) or sizes.parts
    while size and size not in known:
        expected(size, _line(known, limit, size))
        known[size] = measure(size)
        size = _next(known, limit, sizes)
    return max((n for n, value in known.items() if value <= limit), default=0)


def _next(known: Mapping[int, float], limit: float, sizes: Sizes) -> int:
    """The size to measure next; 0, or a known one, where there is nothing to gain."""
    fits = max((n for n, value in known.items() if value <= limit), default=0)
    over = min((n for n, value in known.items() if value > limit and n > fits), default=None)
    if fits and len(known) >= _ENOUGH:
        return 0
    below_over = math.inf if over is None else sizes.below(over)
    meets = _meets(known, limit)
    meets = meets if meets is None else min(meets, _FARTHEST * max(known))
    if meets is None or (over is not None and len(known) > _ENOUGH // 2):
        meets = 2.0 * fits if over is None else (fits + over) / 2
    guess = sizes.at_most(min(meets, below_over))
    if not fits:
        return guess or sizes.at_most(min(sizes.parts, below_over))
    return guess if guess > fits else 0


def _points(known: Mapping[int, float], limit: float) -> list[tuple[int, float]]:
    """The two finite measurements nearest to the limit."""
    finite = [(n, value) for n, value in known.items() if math.isfinite(value)]
    return sorted(finite, key=lambda point: abs(point[1] - limit))[:2]


def _meets(known: Mapping[int, float], limit: float) -> float | None:
    """Where the line through two measurements meets the limit; None where it does not rise, or there are none."""
    points = _points(known, limit)
    if len(points) < 2:
        return None
    (n, a), (m, b) = points
    slope = (b - a) / (m - n)
    return max(n + (limit - a) / slope, 0.0) if slope > 0 else None


def _line(known: Mapping[int, float], limit: float, size: int) -> float | None:
    """What two measurements let expect of a size."""
    points = _points(known, limit)
    if len(points) < 2:
        return None
    (n, a), (m, b) = points
    return a + (b - a) / (m - n) * (size - n)
