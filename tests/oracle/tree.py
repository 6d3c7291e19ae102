"""Nested examples: dicts, tuples and NamedTuples of leaves, walked in plain Python."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

Tree: TypeAlias = Any
Path: TypeAlias = tuple[str, ...]


def children(tree: Tree) -> list[tuple[str, Tree]] | None:
    """The named parts of a node, in order of their names for a dict; None for a leaf."""
    if isinstance(tree, dict):
        return [(key, tree[key]) for key in sorted(tree)]
    if isinstance(tree, tuple):
        return [(str(i), part) for i, part in enumerate(tree)]
    return None


def rebuild(like: Tree, parts: Sequence[Tree]) -> Tree:
    """A node of the kind of `like` with new parts, in the order of `children`."""
    if isinstance(like, dict):
        named = dict(zip(sorted(like), parts, strict=True))
        return type(like)((key, named[key]) for key in like)
    return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)


def leaves(tree: Tree, path: Path = ()) -> Iterator[tuple[Path, Tree]]:
    """Every leaf with the path that leads to it."""
    parts = children(tree)
    if parts is None:
        yield path, tree
        return
    for name, part in parts:
        yield from leaves(part, (*path, name))


def map_tree(fn: Callable[..., Tree], tree: Tree, *rest: Tree) -> Tree:
    """`fn` of the corresponding leaves of trees of one structure."""
    parts = children(tree)
    if parts is None:
        return fn(tree, *rest)
    others = [[part for _, part in children(other) or []] for other in rest]
    return rebuild(tree, [map_tree(fn, part, *more) for (_, part), *more in zip(parts, *others, strict=True)])


def stack(examples: Sequence[Tree]) -> Tree:
    """Examples of one structure as one tree with a leading dimension."""
    return map_tree(lambda *rows: np.stack(rows), *examples)


def is_text(leaf: np.ndarray) -> bool:
    """Whether a leaf holds bytes."""
    return leaf.dtype == object
