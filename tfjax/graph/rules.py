"""Which stage may follow which: each rule of the chain is checked when the stage is added.

>>> from tfjax.graph.stages import Batch, Shuffle
>>> check((Batch(size=2, remainder="keep"),), Shuffle(seed=0))
Traceback (most recent call last):
ValueError: shuffle comes after batch(size=2, remainder='keep'): put shuffle before batch
"""

from __future__ import annotations

from tfjax.graph.stages import (
    ORDER_STAGES,
    Batch,
    Cache,
    Chain,
    DeviceCache,
    DeviceMap,
    Filter,
    Map,
    Options,
    Place,
    Seed,
    Shuffle,
    ShuffleWindow,
    Skip,
    Split,
    Stack,
    Stage,
    Take,
    stage_name,
)

_AFTER_BATCH = (Take, Skip, Stack, DeviceMap, Place, Options, Seed)


def _last(chain: Chain, kind: type[Stage] | tuple[type[Stage], ...]) -> Stage | None:
    return next((s for s in reversed(chain) if isinstance(s, kind)), None)


def _refuse(new: Stage, old: Stage, fix: str) -> None:
    raise ValueError(f"{stage_name(new)} comes after {old.describe()}: {fix}")


def check(chain: Chain, new: Stage, *, batched: bool = False) -> None:
    """Raise ValueError where `new` may not follow `chain`, with the fix.

    Args:
        chain: the stages so far.
        new: the stage to be added.
        batched: whether the source itself yields batches.
    """
    name = stage_name(new)
    batch = _last(chain, Batch)
    if batched and isinstance(new, Map | Batch | ShuffleWindow):
        raise ValueError(
            f"{name} takes single examples, and {chain[0].describe()} yields batches: use dataset.unbatch() before "
            "from_tf, or say batched=False; device_map takes a function of a batch"
        )
    if batch is not None and not isinstance(new, _AFTER_BATCH):
        _refuse(new, batch, "a pipeline is batched once" if isinstance(new, Batch) else f"put {name} before batch")
    if isinstance(new, DeviceMap | Place | Stack) and batch is None and not batched:
        raise ValueError(f"{name} needs batched elements: add batch(size) before it")
    if isinstance(new, Place) and (place := _last(chain, Place)):
        _refuse(new, place, "place appears once")
    if isinstance(new, Stack) and (stack := _last(chain, Stack)):
        _refuse(new, stack, "batches are stacked once; give k the product of the two")
    held = _last(chain, DeviceCache)
    if held is not None and not isinstance(new, (*_AFTER_BATCH, *ORDER_STAGES, Batch)):
        _refuse(new, held, f"its rows stay on the devices; put {name} before it, or use device_map after batch")
    _check_order(chain, new)
    _check_random(chain, new)


def _check_order(chain: Chain, new: Stage) -> None:
    window = _last(chain, ShuffleWindow)
    if window is not None and isinstance(new, ShuffleWindow):
        _refuse(new, window, "a larger buffer_size mixes better than two windows; keep one of the two")
    shuffle = _last(chain, Shuffle)
    if shuffle is None:
        return
    if isinstance(new, Shuffle):
        _refuse(new, shuffle, "one shuffle reaches every row already; remove one of the two")
    if isinstance(new, Split):
        _refuse(new, shuffle, "rows would move between the parts from epoch to epoch; put split before shuffle")
    chosen = _last(chain[chain.index(shuffle) :], (Take, Skip))
    if chosen is not None and isinstance(new, Filter | Cache | DeviceCache):
        fix = f"its rows change with the epoch; put {stage_name(new)} before {stage_name(chosen)}"
        _refuse(new, chosen, fix)


def _check_random(chain: Chain, new: Stage) -> None:
    varying = next((s for s in chain if isinstance(s, Map) and s.varies), None)
    if varying is not None and isinstance(new, Filter | Cache | DeviceCache):
        name, first = stage_name(new), stage_name(varying)
        _refuse(new, varying, f"{name} needs elements that are the same every epoch; put {name} before {first}")
