"""The settings of convolutions, in one form for all frameworks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Pads = tuple[tuple[int, int], ...]


def each(value: Any, count: int) -> tuple[Any, ...]:
    """A value for every axis, from one for all or None for 1."""
    if isinstance(value, Sequence):
        return tuple(value)
    return (1 if value is None else value,) * count


def conv(window: Any, strides: Any, padding: Any, dilation: Any, groups: int = 1) -> dict[str, Any]:
    """The settings of a convolution.

    Padding is rows before and after wherever it does not depend on the input's size, as "SAME" does with strides.
    """
    window, strides, dilation = _axes(window, strides, dilation)
    reach = [d * (k - 1) for k, d in zip(window, dilation, strict=True)]
    padding = _upper(padding)
    if padding == "VALID":
        padding = 0
    elif padding == "CAUSAL":
        padding = [(r, 0) for r in reach]
    elif padding == "SAME" and set(strides) == {1}:
        padding = [(r // 2, r - r // 2) for r in reach]
    return {"strides": strides, "padding": _pads(padding, len(window)), "dilation": dilation, "groups": groups}


def conv_transpose(window: Any, strides: Any, padding: Any, dilation: Any, groups: int = 1) -> dict[str, Any]:
    """The settings of a transposed convolution; padding is that of the dilated input, as in `jax.lax`."""
    window, strides, dilation = _axes(window, strides, dilation)
    padding = _upper(padding)
    if padding in ("SAME", "VALID"):
        padding = [_transposed(d * (k - 1), s, padding) for k, s, d in zip(window, strides, dilation, strict=True)]
    return {"strides": strides, "padding": _pads(padding, len(window)), "dilation": dilation, "groups": groups}


def _transposed(reach: int, stride: int, padding: str) -> tuple[int, int]:
    """As `jax.lax.conv_transpose`, Keras and Equinox have it; reach is the length of the window less one."""
    if padding == "VALID":
        return reach, reach + max(stride - reach - 1, 0)
    total = reach + stride - 1
    before = min(total - total // 2, reach)
    return before, total - before


def _axes(window: Any, strides: Any, dilation: Any) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    window = each(window, 1)
    return window, each(strides, len(window)), each(dilation, len(window))


def _upper(padding: Any) -> Any:
    return padding.upper() if isinstance(padding, str) else padding


def _pads(padding: Any, count: int) -> str | Pads:
    if isinstance(padding, str):
        return padding
    return tuple((p, p) if isinstance(p, int) else (int(p[0]), int(p[1])) for p in _per_axis(padding, count))


def _per_axis(padding: Any, count: int) -> tuple[Any, ...]:
    return (padding,) * count if isinstance(padding, int) else tuple(padding)
