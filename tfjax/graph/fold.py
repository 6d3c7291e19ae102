"""Stages before `batch`, folded into rows that can be fetched by position."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tfjax._tensorflow import tf
from tfjax.graph.element import Element, size_bytes
from tfjax.graph.functions import Function
from tfjax.graph.kept import kept_rows, remembered
from tfjax.graph.memory import memory_cache
from tfjax.graph.normal import deterministic, shuffle_last, without_caches
from tfjax.graph.order import Chosen, Permutation, Transform, Window, split_rows
from tfjax.graph.plan import origin_of
from tfjax.graph.rows import Cached, Mapped, Ordered, Rows, SourceRows
from tfjax.graph.stages import (
    ORDER_STAGES,
    Batch,
    Cache,
    Chain,
    Filter,
    Map,
    Origin,
    Seed,
    Shuffle,
    Skip,
    Split,
    Stage,
    Take,
)

AUTO_CACHE_BYTES = 250 * 2**20
Functions = Mapping[Stage, Function]


@dataclass(eq=False)
class Folded:
    """Rows, and what was decided on the way."""

    rows: Rows
    notes: list[str] = field(default_factory=list)


def pipeline_seed(chain: Chain) -> int:
    """The seed of the random ops."""
    return next((s.n for s in reversed(chain) if isinstance(s, Seed)), 0)


def fold(chain: Chain, functions: Functions, *, caches: bool = True) -> Folded:
    """Fold the stages before `batch` of an indexed pipeline.

    Functions wait until the end, or until a cache: order stages only renumber rows, so all functions between two
    caches become one loop.
    """
    seed = pipeline_seed(chain)
    stop = next((i for i, s in enumerate(chain) if isinstance(s, Batch)), len(chain))
    chain = shuffle_last(chain[:stop] if caches else without_caches(chain[:stop]))
    return _Folding(chain, functions, seed).folded()


class _Folding:
    """One walk over a chain."""

    def __init__(self, chain: Chain, functions: Functions, seed: int) -> None:
        self.chain, self.functions, self.seed = chain, functions, seed
        self.pending: list[Function] = []
        self.notes: list[str] = []
        origin = origin_of(chain)
        self.rows: Rows = SourceRows(origin.source, Element(origin.source.spec, origin.structure))

    def folded(self) -> Folded:
        auto_at = self._automatic_cache()
        if auto_at == 0:
            self._cache(self.chain[0], automatic=True)
        for at, stage in enumerate(self.chain[1:], 1):
            self._add(stage)
            if at == auto_at:
                self._cache(stage, automatic=True)
        return Folded(self._mapped(), self.notes)

    def _add(self, stage: Stage) -> None:
        if isinstance(stage, Filter):
            asked = Mapped(self.rows, [*self.pending, self.functions[stage]], seed=0)
            prefix = self.chain[: self.chain.index(stage) + 1]
            choose = functools.partial(kept_rows, prefix, asked, self._mapped())
            self.rows = Ordered(self.rows, Chosen(remembered(stage, choose)))
        elif isinstance(stage, Map):
            self.pending.append(self.functions[stage])
        elif isinstance(stage, ORDER_STAGES):
            self.rows = Ordered(self.rows, _transform(stage, self.rows))
        elif isinstance(stage, Cache):
            self._cache(stage, automatic=False)

    def _mapped(self) -> Rows:
        if not self.pending:
            return self.rows
        return Mapped(self.rows, self.pending, self.seed)

    def _cache(self, owner: Stage, *, automatic: bool) -> None:
        rows = self._mapped()
        title = f"automatic cache after {owner.describe()}" if automatic else owner.describe()
        self.rows, self.pending = Cached(rows, memory_cache(owner, rows.length, rows.element, title)), []

    def _automatic_cache(self) -> int | None:
        """After which stage the automatic cache stands: the last deterministic one whose rows fit."""
        if not origin_of(self.chain).auto_cache or any(isinstance(s, Cache) for s in self.chain):
            return None
        best, element = None, self.rows.element
        prefix = deterministic(self.chain)
        for at, stage in enumerate(prefix):
            if isinstance(stage, Map) and not isinstance(stage, Filter):
                element = self.functions[stage].element
            row = size_bytes(element)
            if isinstance(stage, Origin | Map) and row is not None and row * self.rows.length <= AUTO_CACHE_BYTES:
                best = at
        if best is None:
            self.notes.append(
                f"no automatic cache: rows of {element.describe()} have no fixed size, or need over 250 MiB"
            )
        return best


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
    index = rows.index(tf.constant(0, tf.int64), tf.range(rows.length, dtype=tf.int64)).numpy()
    return split_rows(index, fractions, names.index(stage.part), stage.seed)
