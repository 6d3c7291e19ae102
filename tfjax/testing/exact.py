"""Two batches compared bit for bit."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

_LONGEST = 60


def exact(expected: Any, given: Any) -> None:
    """The same structure, dtypes, shapes, shardings and bits: NaN equals NaN, and 0.0 does not equal -0.0.

    Args:
        expected: a batch: any pytree of jax.Arrays, NumPy arrays or Python values.
        given: another one.

    Raises:
        AssertionError: they differ; names the key path of the first leaf that does, and its first value.

    Example:
        >>> import numpy as np, tfjax
        >>> tfjax.testing.exact({"x": np.float32([1, 2, 3])}, {"x": np.float32([1, 5, 3])})
        Traceback (most recent call last):
        AssertionError: ['x'][1] is 5.0, expected 2.0 (1 of 3 values differ)
    """
    structures: tuple[Any, Any] = (jax.tree.structure(expected), jax.tree.structure(given))
    if structures[0] != structures[1]:
        raise AssertionError(f"the structure is {structures[1]}, expected {structures[0]}")
    wanted = jax.tree_util.tree_leaves_with_path(expected)
    for (path, want), got in zip(wanted, jax.tree.leaves(given), strict=True):
        _check_leaf(jax.tree_util.keystr(path) or "the batch", want, got)


def _check_leaf(path: str, want: Any, got: Any) -> None:
    facts = {
        "kind": (_kind(want), _kind(got)),
        "dtype": (getattr(want, "dtype", None), getattr(got, "dtype", None)),
        "shape": (np.shape(want), np.shape(got)),
        "sharding": (getattr(want, "sharding", None), getattr(got, "sharding", None)),
    }
    for name, (a, b) in facts.items():
        if a != b:
            raise AssertionError(f"{path} has {name} {b}, expected {a}")
    if isinstance(want, np.ma.MaskedArray) and not np.array_equal(np.ma.getmaskarray(want), np.ma.getmaskarray(got)):
        raise AssertionError(f"{path} has another mask than is expected")
    a, b = _values(want), _values(got)
    differ = _differing(a, b)
    if len(differ):
        at = np.unravel_index(differ[0], a.shape)
        where = "".join(f"[{i}]" for i in at)
        count = f" ({len(differ)} of {a.size} values differ)" if a.ndim else ""
        raise AssertionError(f"{path}{where} is {_shown(b[at])}, expected {_shown(a[at])}{count}")


def _kind(leaf: Any) -> str:
    return "jax.Array" if isinstance(leaf, jax.Array) else type(leaf).__name__


def _values(leaf: Any) -> np.ndarray:
    if isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def _differing(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Positions in the flat array whose bits differ; for objects, whose values do."""
    if a.dtype == object:
        return np.flatnonzero([x != y for x, y in zip(a.flat, b.flat, strict=True)])
    if not a.size:
        return np.empty(0, np.int64)
    bits_a, bits_b = (np.frombuffer(x.tobytes(), np.uint8).reshape(x.size, -1) for x in (a, b))
    return np.flatnonzero((bits_a != bits_b).any(axis=1))


def _shown(value: Any) -> str:
    """A value, and the bits of a number: two NaN may differ in nothing else."""
    if isinstance(value, np.generic) and value.dtype.kind != "O":
        text = str(value)
        text = f"{text} (0x{value.tobytes()[::-1].hex()})" if text in ("nan", "0.0", "-0.0") else text
    else:
        text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"
