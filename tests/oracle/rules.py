"""Which stages may follow which: the reason for a refusal, or None."""

from collections.abc import Sequence

from .batch import Batch
from .cache import Cache
from .device_map import DeviceMap
from .filter import Filter
from .map import Map
from .random_map import RandomMap
from .row import Stage
from .shuffle import Shuffle
from .skip import Skip
from .split import Split
from .stack import Stack
from .take import Take


def refusal(before: Sequence[Stage], stage: Stage) -> str | None:
    """Why `stage` may not follow the stages `before`."""
    kinds = [type(s) for s in before]
    shuffled, batched = Shuffle in kinds, Batch in kinds
    drawn = any(issubclass(kind, RandomMap) for kind in kinds)
    limited = shuffled and any(kind in (Take, Skip) for kind in kinds[kinds.index(Shuffle) :])
    match stage:
        case DeviceMap() | Stack() if not batched:
            return "device_map or stack before batch"
        case Stack() if Stack in kinds:
            return "stacked twice"
        case Shuffle() | Split() | Filter() | Cache() | Map() | RandomMap() | Batch() if batched:
            return "a stage for examples after batch"
        case Shuffle() | Split() if shuffled:
            return "shuffle or split after shuffle"
        case Filter() | Cache() if drawn:
            return "filter or cache after a random op"
        case Filter() | Cache() if limited:
            return "filter or cache after a take that follows shuffle"
    return None
