"""The leaves of a batch in NumPy's terms, for those who place them and know nothing of TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfjax._tensorflow import tf
from tfjax.bridge.reader import Converter
from tfjax.bridge.tensor import as_host, as_view, importer, narrows
from tfjax.errors import SpecError
from tfjax.graph.narrow import narrowed
from tfjax.graph.plan import Plan


@dataclass(frozen=True)
class Leaf:
    """One leaf of what is delivered.

    Args:
        path: its key path.
        shape: with the dimensions of batch and stack, None for one that is open.
        dtype: what it is delivered with; object for strings.
        on_host: delivered as a NumPy array.
        was: its dtype before narrowing, where that differs.
        has_rows: whether there is a batch dimension, where there is any.
        stacked: whether dimension 0 is that of a stack of batches.
    """

    path: str
    shape: tuple[int | None, ...]
    dtype: Any
    on_host: bool
    was: str | None
    has_rows: bool = True
    stacked: bool = False


def leaves_of(plan: Plan) -> list[Leaf]:
    """The leaves of what a plan yields; a dimension is None where the last batch or stack of an epoch may be shorter.

    Raises:
        SpecError: a leaf whose rank is not known, or that is no array.
    """
    plan.element.require_arrays()
    narrow = narrows()
    leading = plan.leading
    leaves = []
    for i, (path, spec) in enumerate(plan.element.leaves()):
        if spec.shape.rank is None:
            raise SpecError(f"the rank of {path} is not known: use tf.ensure_shape in map")
        dtype = narrowed(plan.element, i, narrow=narrow)
        was = None if dtype == spec.dtype else spec.dtype.name
        native = np.dtype(object) if dtype == tf.string else np.dtype(dtype.as_numpy_dtype)
        shape = (*leading, *spec.shape)
        leaves.append(Leaf(path, shape, native, plan.element.on_host(i), was, stacked=len(leading) > 1))
    return leaves


def carried_of(plan: Plan) -> list[Leaf]:
    """The leaves that are carried beside those of a plan's batches."""
    *stack, rows = plan.leading or (None,)
    shapes = [(rows,) if c.words == 1 else (rows, 2) if c.by_row else (2,) for c in plan.carried]
    return [
        Leaf(
            c.name,
            (*stack, *shape),
            np.dtype(np.uint32),
            on_host=False,
            was=None,
            has_rows=c.by_row,
            stacked=bool(stack),
        )
        for c, shape in zip(plan.carried, shapes, strict=True)
    ]


def converters(leaves: Sequence[Leaf], *, share: bool, committed: bool) -> tuple[Converter, ...]:
    """For each leaf, how it leaves TensorFlow.

    Args:
        leaves: what is delivered.
        share: as a jax.Array of the first CPU device; otherwise as a NumPy view, which is then put elsewhere.
        committed: whether a shared array is bound to its device.
    """
    leave = importer(committed=committed) if share else as_view
    return tuple(as_host if leaf.on_host else leave for leaf in leaves)
