"""The parts that more than one framework's layers are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tfjax.frameworks.convert._layer import Part


def same(name: str, ndim: int) -> Part:
    """An array that lies as in a `Layer`."""
    return Part((name,), ndim, lambda a: {name: a}, lambda a: a)


def reshaped(name: str, ndim: int, to: Callable[[Any], Any], back: Callable[[Any], Any]) -> Part:
    """An array that holds the same numbers in another shape; `to` that of a `Layer`."""
    return Part((name,), ndim, lambda a: {name: to(a)}, back)


def turned(name: str, *axes: int) -> Part:
    """An array that is transposed by `axes` to lie as in a `Layer`."""
    back = tuple(int(axis) for axis in np.argsort(axes))
    return Part((name,), len(axes), lambda a: {name: a.transpose(axes)}, lambda a: a.transpose(back))


def transposed_window(name: str, window: int, *, flipped: bool) -> Part:
    """A kernel (*window, out, in), which the framework may flip along the `window` axes before it slides it."""
    axes = tuple(range(window))

    def swap(a: Any) -> Any:
        return np.swapaxes(np.flip(a, axes) if flipped else a, -1, -2)

    return reshaped(name, window + 2, swap, swap)


def gates(name: str, order: str, ndim: int, *, rows: bool = False, minus: str = "", plus: str = "") -> Part:
    """The arrays of a cell's gates, side by side.

    Args:
        name: "input", "hidden" or "bias".
        order: of the gates, a letter each.
        ndim: 2 for a kernel, 1 for a bias.
        rows: the kernel is (gates, in), not (in, gates).
        minus: gates whose numbers have the other sign.
        plus: gates to which the framework adds 1 itself.
    """
    names = tuple(f"{name}_{gate}" for gate in order)

    def split(a: Any) -> dict[str, Any]:
        arrays = np.split(a.T if rows else a, len(order), axis=-1)
        signed = [-b if gate in minus else b + (gate in plus) for gate, b in zip(order, arrays, strict=True)]
        return dict(zip(names, signed, strict=True))

    def join(*arrays: Any) -> Any:
        signed = [-b if gate in minus else b - (gate in plus) for gate, b in zip(order, arrays, strict=True)]
        joined = np.concatenate(signed, axis=-1)
        return joined.T if rows else joined

    return Part(names, ndim, split, join)


def flat_projection(name: str, heads: int, *, rows: bool = False) -> dict[str, Part]:
    """Kernel and bias of an attention's projection where heads and sizes share one axis; rows: (out, in)."""
    if name == "out":
        kernel = reshaped(
            "out",
            2,
            lambda a: (a.T if rows else a).reshape(heads, -1, a.shape[0 if rows else 1]),
            lambda a: a.reshape(-1, a.shape[-1]).T if rows else a.reshape(-1, a.shape[-1]),
        )
        return {"kernel": kernel, "bias": same("out_bias", 1)}
    kernel = reshaped(
        name,
        2,
        lambda a: (a.T if rows else a).reshape(a.shape[1 if rows else 0], heads, -1),
        lambda a: a.reshape(a.shape[0], -1).T if rows else a.reshape(a.shape[0], -1),
    )
    bias = reshaped(f"{name}_bias", 1, lambda a: a.reshape(heads, -1), lambda a: a.reshape(-1))
    return {"kernel": kernel, "bias": bias}
