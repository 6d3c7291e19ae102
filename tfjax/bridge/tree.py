"""The user's structures, as JAX's pytree registry knows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax


@dataclass(frozen=True, eq=False)
class PyTree:
    """A `tfjax.spec.Structure` over any registered pytree."""

    treedef: Any
    paths: tuple[str, ...]
    keys: tuple[str | None, ...]

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """The user's object with these leaves."""
        return self.treedef.unflatten(leaves)

    def flatten(self, tree: Any) -> tuple[list[Any], PyTree]:
        """The leaves of another object, and its structure."""
        return flatten(tree)


def flatten(tree: Any) -> tuple[list[Any], PyTree]:
    """Flatten a pytree; a list counts as one leaf, because tf.data makes one tensor of it.

    >>> leaves, structure = flatten({"image": 1, "label": 2})
    >>> leaves, structure.paths, structure.keys
    ([1, 2], ("['image']", "['label']"), ('image', 'label'))
    """
    return _flatten(tree, _is_list)


def flatten_arrays(tree: Any) -> tuple[list[Any], PyTree]:
    """Flatten a pytree of arrays, where a list is a container like any other."""
    return _flatten(tree, None)


def leaves_like(structure: PyTree) -> Callable[[Any], list[Any]]:
    """A function from trees of this structure to their leaves; any other structure is a ValueError.

    >>> leaves_like(flatten({"x": 1})[1])({"y": 2})
    Traceback (most recent call last):
    ValueError: the structure is {'y': *}, and the spec says {'x': *}
    """

    def leaves(tree: Any) -> list[Any]:
        found, treedef = jax.tree.flatten(tree, is_leaf=_is_list)
        if treedef != structure.treedef:
            shown = [str(t).removeprefix("PyTreeDef(").removesuffix(")") for t in (treedef, structure.treedef)]
            raise ValueError(f"the structure is {shown[0]}, and the spec says {shown[1]}")
        return found

    return leaves


def _is_list(tree: Any) -> bool:
    return isinstance(tree, list)


def _flatten(tree: Any, is_leaf: Callable[[Any], bool] | None) -> tuple[list[Any], PyTree]:
    pairs, treedef = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)
    paths = tuple(jax.tree_util.keystr(path) or "the element" for path, _ in pairs)
    return [leaf for _, leaf in pairs], PyTree(treedef, paths, tuple(_top_key(path) for path, _ in pairs))


def _top_key(path: Sequence[Any]) -> str | None:
    first = path[0] if path else None
    return first.key if isinstance(first, jax.tree_util.DictKey) and isinstance(first.key, str) else None
