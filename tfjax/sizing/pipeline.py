"""A pipeline with batches of another size: what is known of them without reading data."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from tfjax._chain import ChainNode
from tfjax.graph import stages as st
from tfjax.graph.cache.fit import most_rows
from tfjax.graph.element import size_bytes
from tfjax.placement.target import batch_parts


def require_batched(pipe: Any) -> None:
    """Raise TypeError or ValueError where a pipeline has no `batch` whose size could be another."""
    if not isinstance(pipe, ChainNode):
        raise TypeError(f"pipe is a {type(pipe).__name__}: pass a pipeline, batched with .batch(size)")
    if not any(isinstance(stage, st.Batch) for stage in pipe._chain):
        source = pipe._chain[0].describe()
        fix = f"{source} yields batches: unbatch() the dataset before" if pipe._source_is_batched else "add"
        raise ValueError(
            f"the size of a batch is that of .batch(size), which this pipeline has not: {fix} .batch(size)"
        )


def sized(pipe: Any, size: int) -> Any:
    """The pipeline with full batches of a size alone, and whatever a `take` or `skip` leaves out of them."""
    stage, before = pipe._stage, pipe._parent
    if isinstance(stage, st.Batch):
        remainder: st.Remainder = "pad" if stage.remainder == "pad" else "drop"
        return type(pipe)(dataclasses.replace(stage, size=size, remainder=remainder), before)
    if isinstance(stage, st.Take | st.Skip):
        return sized(before, size)
    if isinstance(stage, st.Stack):
        stage = dataclasses.replace(stage, remainder="drop")
    return type(pipe)(stage, sized(before, size))


def spec_of(pipe: Any, size: int) -> Any:
    """The spec of its full batches of a size, as a step is given them.

    Raises:
        TypeError: a leaf of text, which no compiled step takes.
    """
    spec = sized(pipe, size).spec
    for path, leaf in jax.tree_util.tree_leaves_with_path(spec):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            raise TypeError(f"{jax.tree_util.keystr(path)} is text, which no compiled step takes: drop it")
    return jax.tree.map(_canonical, spec)


def _canonical(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    # What is kept on the host has its own dtype, and is narrowed by JAX when a step is given it.
    return jax.ShapeDtypeStruct(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype), sharding=leaf.sharding)


def parts_of(pipe: Any) -> int:
    """Into how many equal parts its batches are cut."""
    target = pipe._target
    return target.devices if target.per_device else math.lcm(*(batch_parts(s) for _, s in target.rules))


def size_of(pipe: Any) -> int:
    """Rows of a batch, over all devices."""
    return next(stage.size for stage in pipe._chain if isinstance(stage, st.Batch))


def usable_rows(pipe: Any) -> int | None:
    """The largest batch that an epoch fills; None where that is not known."""
    depth = next((stage.k for stage in pipe._chain if isinstance(stage, st.Stack)), 1)
    return pipe._plan.rows.length // depth if pipe._plan.kind == "indexed" else None


def bytes_beside(pipe: Any, batch_bytes: int) -> dict[str, int]:
    """Bytes that its batches take of each device beside the one that is computed on, by what they are for."""
    held = device_cache_bytes(pipe)
    ahead = {f"prefetched batches ({pipe._prefetch})": pipe._prefetch * batch_bytes} if pipe._prefetch else {}
    return ahead | ({"rows of cache('device')": held} if held else {})


def device_cache_bytes(pipe: Any) -> int:
    """Bytes of each device that the rows of `cache("device")` take."""
    held = pipe._plan.held
    if held is None:
        return 0
    row = size_bytes(held.rows.element) or 0
    return most_rows(held.rows.length, row, held.owner.limit_bytes) * row // parts_of(pipe)


def tiled(batch: Any, spec: Any) -> Any:
    """A batch as `spec` describes it, of the rows of another one, again and again."""
    return jax.tree.map(_tiled, batch, spec)


def _tiled(leaf: Any, to: jax.ShapeDtypeStruct) -> jax.Array:
    rows = np.asarray(leaf)
    for axis, (have, want) in enumerate(zip(rows.shape, to.shape, strict=True)):
        if have != want:
            rows = rows.take(np.arange(want) % have, axis=axis)
    return jax.device_put(rows.astype(to.dtype, copy=False), to.sharding)  # type: ignore[no-any-return]
