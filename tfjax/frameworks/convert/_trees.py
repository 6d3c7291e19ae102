"""Nested dicts of arrays, by key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax


def by_key(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
    """The leaves by their path, with slashes."""
    leaves = jax.tree_util.tree_flatten_with_path(tree, is_leaf)[0]
    return {key_of(path): leaf for path, leaf in leaves}


def key_of(path: Any) -> str:
    """A path of `jax.tree_util`, with slashes."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def mapped(tree: Any, values: Mapping[str, Any], put: Callable[[Any, Any], Any], **options: Any) -> Any:
    """The tree with put(value, old) at the keys of `values`."""

    def new(path: Any, old: Any) -> Any:
        key = key_of(path)
        return put(values[key], old) if key in values else old

    return jax.tree_util.tree_map_with_path(new, tree, **options)
