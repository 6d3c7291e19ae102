"""A cache in memory: pages are taken as rows are written."""

from __future__ import annotations

import numpy as np

from tfjax._memory import aligned
from tfjax.graph.cache.fit import most_rows, require_memory
from tfjax.graph.cache.store import Column, RowStore, storage
from tfjax.graph.element import Element, size_bytes


def memory_store(element: Element, length: int, title: str, *, limit_bytes: int | None, checked: bool) -> RowStore:
    """Reserve memory for the rows of a prefix.

    Args:
        element: one row, whose leaves are all of a fixed size.
        length: how many rows there are.
        title: for `explain`.
        limit_bytes: keep the first rows that fit.
        checked: whether what is more than the memory is refused.

    Raises:
        ValueError: they do not fit.
    """
    row = size_bytes(element) or 0
    most = most_rows(length, row, limit_bytes)
    if checked:
        require_memory(most, row)
    columns = [Column(aligned((most, *s.shape), storage(s.dtype))) for s in element.specs]
    return RowStore(element, columns, aligned((length,), np.dtype(np.bool_)), most=most, title=title)
