"""The first examples of a pipeline as NumPy arrays by path, such as "objects/bbox"."""

from __future__ import annotations

from itertools import islice
from typing import Any

import jax
import numpy as np

from tfjax._text import text_at

Array = np.ndarray[Any, Any]
Row = dict[str, Array]


def first_rows(pipe: Any, count: int, image: str | None) -> list[Row]:
    """Up to `count` examples, or as many as the first batch, or stack of batches, has of them.

    An image that is encoded is decoded: the leaf at `image`, or the one that is called so.
    """
    if pipe._plan.is_batched:
        return _of_batch(pipe, count)
    pipe = _decoded(pipe, "image" if image is None else image)
    pipe = _on_host(pipe)
    with pipe.iterate(steps=count) if pipe._plan.is_endless else pipe.iterate() as examples:
        rows = [_row(example, pipe.info) for example in islice(examples, count)]
    if not rows:
        raise IndexError(f"{pipe!r} yields nothing to show")
    return rows


def _of_batch(pipe: Any, count: int) -> list[Row]:
    batch = _row(pipe.peek(), pipe.info)
    if getattr(pipe._target, "per_device", False) or len(pipe._plan.leading) > 1:
        batch = {path: leaf.reshape(-1, *leaf.shape[2:]) for path, leaf in batch.items()}
    batch = {path: leaf for path, leaf in batch.items() if leaf.ndim}
    real = batch.get("mask")  # of remainder="pad"
    length = min(map(len, batch.values()), default=0)
    chosen = np.arange(length) if real is None or real.ndim != 1 else np.flatnonzero(real)
    return [{path: leaf[i, ...] for path, leaf in batch.items()} for i in chosen[:count]]


def _decoded(pipe: Any, path: str) -> Any:
    from tfjax.image import Decode

    text = text_at(pipe, path)
    return pipe.apply(Decode(key=path)) if text is not None and text.shape.rank == 0 else pipe


def _on_host(pipe: Any) -> Any:
    """The keys that hold arrays only, text among them."""
    element = pipe._element
    keys = element.structure.keys
    if not any(keys):
        return pipe
    without = {key for leaf, key in enumerate(keys) if element.no_array(leaf)}
    chosen = [key for key in dict.fromkeys(keys) if key not in without]
    return pipe.select(*chosen).keep_on_host(*chosen) if chosen else pipe


def _row(tree: Any, info: Any) -> Row:
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/") or "image": _array(leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }
    supervised = getattr(info, "supervised_keys", None)
    if isinstance(tree, tuple) and supervised and len(tree) == len(supervised):
        names = dict(zip(map(str, range(len(tree))), supervised, strict=True))
        return {names.get(path, path): leaf for path, leaf in leaves.items()}
    return leaves


def _array(leaf: Any) -> Array:
    array = np.asarray(leaf)
    return array if array.dtype.kind in "biufcOSU" else array.astype(np.float32)  # bfloat16 and its like
