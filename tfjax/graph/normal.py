"""Rewrites of a chain before it is planned: pure functions from stages to stages that keep every element."""

from __future__ import annotations

import dataclasses

from tfjax.graph.stages import ORDER_STAGES, Batch, Cache, Chain, DeviceCache, Map, Origin, RandomMap, Shuffle, Stage


def shuffle_last(chain: Chain) -> Chain:
    """Move `shuffle`, and a `take` or `skip` of its order, behind all deterministic stages that follow it.

    Renumbering rows commutes with functions of one example; a fixed set of rows can then be filtered and cached.
    """
    stop = _first(chain, (RandomMap, Batch))
    at = _first(chain[:stop], (Shuffle,))
    moved = tuple(s for s in chain[at:stop] if isinstance(s, ORDER_STAGES))
    stay = tuple(s for s in chain[at:stop] if not isinstance(s, ORDER_STAGES))
    return (*chain[:at], *stay, *moved, *chain[stop:])


def without_caches(chain: Chain) -> Chain:
    """The chain with every cache left out, the automatic one included."""
    off = (dataclasses.replace(s, auto_cache=False) if isinstance(s, Origin) else s for s in chain)
    return tuple(s for s in off if not isinstance(s, Cache | DeviceCache))


def deterministic(chain: Chain) -> Chain:
    """The stages that yield the same rows every epoch, once the shuffle stands last."""
    prefix = chain[: _first(chain, (Shuffle, Batch))]
    return prefix[: next((i for i, s in enumerate(prefix) if isinstance(s, Map) and s.varies), len(prefix))]


def _first(chain: Chain, kinds: tuple[type[Stage], ...]) -> int:
    return next((i for i, s in enumerate(chain) if isinstance(s, kinds)), len(chain))
