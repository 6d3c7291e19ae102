"""The automatic cache of `load`: where it stands, as a stage of the planned chain that no rewrite moves work across."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tfjax.graph.element import Element, size_bytes
from tfjax.graph.functions import Function
from tfjax.graph.normal import deterministic
from tfjax.graph.plan import origin_of
from tfjax.graph.stages import Cache, Chain, DeviceCache, Filter, Map, Origin, Stage

AUTO_CACHE_BYTES = 250 * 2**20


@dataclass(frozen=True, eq=False, kw_only=True)
class AutomaticCache(Stage):
    """A memory cache that belongs to the stage before it."""

    owner: Stage

    def describe(self) -> str:
        """What it is, and where it stands."""
        return f"automatic cache after {self.owner.describe()}"


def with_automatic_cache(chain: Chain, functions: Mapping[Stage, Function]) -> tuple[Chain, list[str]]:
    """The chain with a cache behind the last deterministic stage whose rows fit; and why there is none."""
    origin = origin_of(chain)
    if not origin.auto_cache or any(isinstance(s, Cache | DeviceCache) for s in chain):
        return chain, []
    best, element = None, Element(origin.source.spec, origin.structure)
    for at, stage in enumerate(deterministic(chain)):
        if isinstance(stage, Map) and not isinstance(stage, Filter):
            element = functions[stage].element
        row = size_bytes(element)
        fits = row is not None and row * len(origin.source) <= AUTO_CACHE_BYTES
        best = at if fits and isinstance(stage, Origin | Map) else best
    if best is None:
        return chain, [f"no automatic cache: rows of {element.describe()} have no fixed size, or need over 250 MiB"]
    return (*chain[: best + 1], AutomaticCache(owner=chain[best]), *chain[best + 1 :]), []
