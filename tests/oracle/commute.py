"""Where a shuffle acts: after the last filter or cache, for it is planned as if written there."""

from collections.abc import Sequence

from .cache import Cache
from .filter import Filter
from .row import Stage
from .shuffle import Shuffle


def commute(stages: Sequence[Stage]) -> list[Stage]:
    """The stages in the order in which they act."""
    shuffles = [i for i, stage in enumerate(stages) if isinstance(stage, Shuffle)]
    if not shuffles:
        return list(stages)
    at = shuffles[0]
    last = max([i for i, stage in enumerate(stages) if isinstance(stage, Filter | Cache)] + [at])
    return [*stages[:at], *stages[at + 1 : last + 1], stages[at], *stages[last + 1 :]]
