"""Bit for bit: what was delivered against what the oracle says."""

from collections.abc import Iterable

import jax
import numpy as np

from .chain import Spec
from .tree import Tree, children, leaves


def check_same(delivered: Tree, expected: Tree, where: str = "element") -> None:
    """The same structure, dtypes, shapes and bits."""
    parts = children(expected)
    if parts is None:
        check_leaf(delivered, np.asarray(expected), where)
        return
    assert type(delivered) is type(expected), f"{where}: {type(delivered)}, not {type(expected)}"
    found = dict(children(delivered) or [])
    assert sorted(found) == sorted(name for name, _ in parts), f"{where}: {sorted(found)}"
    for name, part in parts:
        check_same(found[name], part, f"{where}/{name}")


def check_leaf(delivered: Tree, expected: np.ndarray, where: str) -> None:
    """One leaf: a jax.Array, or a host array for text."""
    text = expected.dtype == object
    assert text or isinstance(delivered, jax.Array | np.ndarray), f"{where}: {type(delivered)}"
    got = np.asarray(delivered)
    assert got.shape == expected.shape, f"{where}: shape {got.shape}, not {expected.shape}"
    if text:
        assert got.tolist() == expected.tolist(), f"{where}: {got}, not {expected}"
        return
    assert got.dtype == expected.dtype, f"{where}: {got.dtype}, not {expected.dtype}"
    assert got.tobytes() == expected.tobytes(), f"{where}: {got}, not {expected}"


def check_run(delivered: Iterable[Tree], expected: Iterable[Tree]) -> None:
    """The same elements in the same order, and as many."""
    for step, (got, want) in enumerate(zip(delivered, expected, strict=True)):
        check_same(got, want, f"step {step}")


def check_spec(spec: Tree, expected: Spec) -> None:
    """`pipe.spec` against what is delivered, text leaves by their shape only."""
    found = dict(leaves(spec))
    assert sorted(found) == sorted(expected)
    for path, (shape, dtype) in expected.items():
        assert tuple(found[path].shape) == shape, f"{path}: {found[path].shape}, not {shape}"
        assert dtype.kind == "O" or found[path].dtype == dtype, f"{path}: {found[path].dtype}, not {dtype}"
