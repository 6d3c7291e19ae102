"""What the layers of linen and nnx have in common: the names of their arrays and attributes."""

from __future__ import annotations

from typing import Any

from tfjax.frameworks.convert import _windows
from tfjax.frameworks.convert._layer import Found
from tfjax.frameworks.convert._parts import same, transposed_window


def dense(_: Any) -> Found:
    """A linear layer."""
    return Found("dense", {"kernel": same("kernel", 2), "bias": same("bias", 1)})


def conv(layer: Any) -> Found | None:
    """A convolution."""
    if layer.mask is not None:
        return None
    window = _windows.each(layer.kernel_size, 1)
    settings = _windows.conv(window, layer.strides, layer.padding, layer.kernel_dilation, layer.feature_group_count)
    if set(_windows.each(layer.input_dilation, len(window))) != {1}:
        settings["input_dilation"] = layer.input_dilation
    return Found("conv", {"kernel": same("kernel", len(window) + 2), "bias": same("bias", 1)}, settings)


def conv_transpose(layer: Any) -> Found | None:
    """A transposed convolution; with `transpose_kernel` its kernel is flipped."""
    if layer.mask is not None:
        return None
    window = _windows.each(layer.kernel_size, 1)
    settings = _windows.conv_transpose(window, layer.strides, layer.padding, layer.kernel_dilation)
    kernel = same("kernel", len(window) + 2)
    if layer.transpose_kernel:
        kernel = transposed_window("kernel", len(window), flipped=True)
    return Found("conv_transpose", {"kernel": kernel, "bias": same("bias", 1)}, settings)


def embed(_: Any) -> Found:
    """A table of embeddings."""
    return Found("embed", {"embedding": same("embedding", 2)})


def layer_norm(layer: Any) -> Found | None:
    """A layer norm over the last axis."""
    if any(axes not in (-1, (-1,), [-1]) for axes in (layer.reduction_axes, layer.feature_axes)):
        return None
    return Found("layer_norm", _affine(), {"epsilon": layer.epsilon})


def group_norm(layer: Any, groups: int | None) -> Found | None:
    """A group norm over all axes but the first."""
    if layer.reduction_axes is not None or groups is None:
        return None
    return Found("group_norm", _affine(), {"epsilon": layer.epsilon, "groups": groups})


def batch_norm(layer: Any) -> Found:
    """A batch norm with its statistics."""
    return Found(
        "batch_norm", _affine() | {name: same(name, 1) for name in ("mean", "var")}, {"epsilon": layer.epsilon}
    )


def attention(_: Any) -> Found:
    """Attention with several heads."""
    parts = {"out/kernel": same("out", 3), "out/bias": same("out_bias", 1)}
    for name in ("query", "key", "value"):
        parts |= {f"{name}/kernel": same(name, 3), f"{name}/bias": same(f"{name}_bias", 2)}
    return Found("attention", parts)


def cell(layer: Any) -> dict[str, str]:
    """The settings of a recurrent cell."""
    return {"gate": layer.gate_fn.__name__, "activation": layer.activation_fn.__name__}


def _affine() -> dict[str, Any]:
    return {name: same(name, 1) for name in ("scale", "bias")}
