"""Stages before `batch`, folded into rows that can be fetched by position."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from tfjax._tensorflow import tf
from tfjax.graph.automatic import AutomaticCache, with_automatic_cache
from tfjax.graph.cache.cached import Cached
from tfjax.graph.cache.counts import Counts
from tfjax.graph.cache.disk import disk_store
from tfjax.graph.cache.encode import encoding
from tfjax.graph.cache.fit import most_rows
from tfjax.graph.cache.memory import memory_store
from tfjax.graph.cache.store import RowStore
from tfjax.graph.element import Element, size_bytes
from tfjax.graph.functions import Function, trace
from tfjax.graph.held import Held, Positions
from tfjax.graph.kept import kept_rows, remembered
from tfjax.graph.moment import Moment
from tfjax.graph.normal import shuffle_last, without_caches
from tfjax.graph.order import Chosen, Permutation, Transform, Window, split_rows
from tfjax.graph.plan import origin_of
from tfjax.graph.rewrites.decode_crop import fuse_decode_and_crop
from tfjax.graph.rewrites.late_flip import LateFlip, leave_flips
from tfjax.graph.rewrites.resize_crop import fuse_resize_and_crop
from tfjax.graph.rows import Mapped, Ordered, Rows, SourceRows
from tfjax.graph.stages import (
    ORDER_STAGES,
    Batch,
    Cache,
    Chain,
    DeviceCache,
    Filter,
    Map,
    Shuffle,
    Skip,
    Split,
    Stage,
    Take,
    pipeline_seed,
)

Functions = Mapping[Stage, Function]


@dataclass(eq=False)
class Folded:
    """Rows, and what was decided on the way."""

    rows: Rows
    notes: list[str] = field(default_factory=list)
    held: Held | None = None
    caches: list[Cached] = field(default_factory=list)
    flips: list[LateFlip] = field(default_factory=list)


def fold(
    chain: Chain, functions: Functions, *, caches: bool = True, holds: bool = True, leaves_flips: bool = False
) -> Folded:
    """Fold the stages before `batch` of an indexed pipeline.

    Without device caches where nothing `holds` their rows; `leaves_flips` to the devices where that is said.

    Functions wait until the end, or until a cache: order stages only renumber rows, so all functions between two
    caches become one loop.
    """
    seed = pipeline_seed(chain)
    stop = next((i for i, s in enumerate(chain) if isinstance(s, Batch)), len(chain))
    chain = shuffle_last(chain[:stop] if caches else without_caches(chain[:stop]))
    chain = chain if holds else tuple(s for s in chain if not isinstance(s, DeviceCache))
    rewritten, notes = with_automatic_cache(chain, functions)
    flips: list[LateFlip] = []
    for rule in (fuse_decode_and_crop, fuse_resize_and_crop):
        rewritten, more = rule(rewritten)
        notes += more
    if leaves_flips:
        rewritten, flips, more = leave_flips(rewritten, seed)
        notes += more
    folded = _Folding(rewritten, retraced(rewritten, functions), seed, notes, planned=chain).folded()
    return dataclasses.replace(folded, flips=flips)


def retraced(chain: Chain, functions: Functions) -> Functions:
    """The function of each stage of a chain that was rewritten: anew where it, or what it is given, is another."""
    origin = origin_of(chain)
    element = Element(origin.source.spec, origin.structure)
    found: dict[Stage, Function] = {}
    for stage in chain:
        if not isinstance(stage, Map):
            continue
        known = functions.get(stage)
        is_same = known is not None and known.takes.specs == element.specs
        found[stage] = fn = known if known is not None and is_same else trace(stage, element)
        if not isinstance(stage, Filter):
            element = fn.element
    return found


class _Folding:
    """One walk over a chain."""

    def __init__(self, chain: Chain, functions: Functions, seed: int, notes: list[str], *, planned: Chain) -> None:
        self.chain, self.functions, self.seed, self.planned = chain, functions, seed, planned
        self.pending: list[Function] = []
        self.caches: list[Cached] = []
        self.notes = notes
        self.held: Held | None = None
        origin = origin_of(chain)
        self.rows: Rows = SourceRows(origin.source, Element(origin.source.spec, origin.structure))

    def folded(self) -> Folded:
        for stage in self.chain[1:]:
            self._add(stage)
        return Folded(self._mapped(), self.notes, self.held, self.caches)

    def _add(self, stage: Stage) -> None:
        if isinstance(stage, Filter):
            asked = Mapped(self.rows, [*self.pending, self.functions[stage]], seed=0)
            prefix = self.planned[: self.planned.index(stage) + 1]
            choose = functools.partial(kept_rows, prefix, asked, self._mapped())
            self.rows = Ordered(self.rows, Chosen(remembered(stage, choose)))
        elif isinstance(stage, Map):
            self.pending.append(self.functions[stage])
        elif isinstance(stage, ORDER_STAGES):
            self.rows = Ordered(self.rows, _transform(stage, self.rows))
        elif isinstance(stage, Cache):
            self._cache(stage, stage.describe())
        elif isinstance(stage, AutomaticCache):
            self._cache(stage.owner, stage.describe())
        elif isinstance(stage, DeviceCache):
            rows = self._mapped()
            most = most_rows(rows.length, size_bytes(rows.element) or 0, stage.limit_bytes)
            self.held = Held(stage, self.planned[: self.planned.index(stage)], rows, most, Counts())
            self.rows, self.pending = Positions(self.held), []

    def _mapped(self) -> Rows:
        if not self.pending:
            return self.rows
        return Mapped(self.rows, self.pending, self.seed)

    def _cache(self, owner: Stage, title: str) -> None:
        given, decoded = self.pending[-1].element if self.pending else self.rows.element, []
        make: Callable[[], RowStore]
        if isinstance(owner, Cache) and owner.path is not None:
            coded = encoding(given)
            if coded is not None:
                self.pending, decoded = [*self.pending, coded[0]], [coded[1]]
            rows, chain = self._mapped(), self.planned[: self.planned.index(owner)]
            make = functools.partial(disk_store, owner, owner.path, chain, given, rows)
        else:
            rows, asked_for = self._mapped(), isinstance(owner, Cache)
            limit = owner.limit_bytes if isinstance(owner, Cache) else None
            make = functools.partial(memory_store, given, rows.length, title, limit_bytes=limit, checked=asked_for)
        cached = Cached(rows, owner, title, make)
        self.rows, self.pending, self.caches = cached, decoded, [*self.caches, cached]


def _transform(stage: Stage, rows: Rows) -> Transform:
    if isinstance(stage, Split):
        return Chosen(remembered(stage, functools.partial(_part, stage, rows)))
    length = rows.length
    if isinstance(stage, Take):
        return Window(0, min(stage.n, length))
    if isinstance(stage, Skip):
        return Window(min(stage.n, length), max(length - stage.n, 0))
    if isinstance(stage, Shuffle):
        return Permutation(stage.seed, length)
    raise TypeError(f"{stage.describe()} is no order stage")


def _part(stage: Split, rows: Rows) -> np.ndarray:
    names, fractions = zip(*stage.fractions, strict=True)
    index = rows.index(Moment.start(), tf.range(rows.length, dtype=tf.int64)).numpy()
    return split_rows(index, fractions, names.index(stage.part), stage.seed)
