"""What a pipeline takes of the host's memory: batches on their way, and rows that caches keep."""

from __future__ import annotations

import math
from typing import Any

from tfjax.bridge.leaf import Leaf, leaves_of
from tfjax.graph import stages as st
from tfjax.graph.cache.fit import most_rows
from tfjax.graph.element import size_bytes
from tfjax.graph.indexed import IndexedPlan
from tfjax.graph.settings import graph_settings


def leaf_bytes(leaf: Leaf) -> int:
    """Bytes of one leaf of a full batch on the host; 0 for text, whose length is not known."""
    return 0 if leaf.dtype.hasobject else math.prod(n or 0 for n in leaf.shape) * int(leaf.dtype.itemsize)


def host_groups(pipe: Any) -> dict[str, int]:
    """Bytes at most, by what they are for; of batches before functions of the device are applied."""
    settings = graph_settings(pipe._chain)
    batch = sum(map(leaf_bytes, leaves_of(pipe._plan)))
    calls, ready = settings.parallel_calls, settings.prefetch_batches
    if calls > 0 and ready > 0:
        groups = {f"batches in the graph ({calls} computed, {ready} ready)": (calls + ready) * batch}
    else:
        groups = {"batches in the graph (tuned by TensorFlow)": max(settings.ram_budget_bytes, 2 * batch)}
    caches = pipe._plan._folded.caches if isinstance(pipe._plan, IndexedPlan) else ()
    cached = sum(map(_kept_bytes, caches))
    return {**groups, "caches in memory": cached} if cached else groups


def _kept_bytes(cache: Any) -> int:
    """What the rows of a cache take once all are there; 0 of a folder's, which are mapped."""
    owner, row = cache._owner, size_bytes(cache.element) or 0
    limit = owner.limit_bytes if isinstance(owner, st.Cache) else None
    is_folder = isinstance(owner, st.Cache) and owner.path is not None
    return 0 if is_folder else most_rows(cache.length, row, limit) * row
