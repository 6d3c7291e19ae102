"""Haiku: a transformed function with its parameters and state, to read layers from or write them to.

Parameters alone do not say what layer an array belongs to, so the function's `init` is traced once on the shapes of its
inputs, and the layers are the modules that were called.

>>> import haiku as hk, jax, jax.numpy as jnp
>>> from tfjax.frameworks.convert import haiku
>>> x, net = jnp.zeros((1, 3)), hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([4, 2])(x)))
>>> for path, layer in haiku.Model(net, net.init(jax.random.key(0), x), inputs=(x,)).read().items():
...     print(path, layer)
mlp/~/linear_0 dense: kernel (3, 4), bias (4,)
mlp/~/linear_1 dense: kernel (4, 2), bias (2,)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from tfjax.frameworks.convert import _layer, _windows
from tfjax.frameworks.convert._layer import Found, Part, like
from tfjax.frameworks.convert._parts import flat_projection, gates, reshaped, same, transposed_window
from tfjax.frameworks.convert._trees import by_key, mapped

try:
    import haiku as hk
except ImportError as e:
    raise ImportError(f"tfjax.frameworks.convert.haiku needs {e.name!r}: pip install 'tfjax[haiku]'") from e

# As many updates as leave nothing of the first value of a moving average, and 1 to divide it by.
_MANY_UPDATES = 2**30


@dataclass(frozen=True)
class Model(_layer.Model):
    """A transformed function with its values. `transfer` returns new parameters, and with a state the pair of both.

    Args:
        transformed: what `hk.transform` or `hk.transform_with_state` returned.
        params: as its `init` returned them.
        state: as its `init` returned it; None for `hk.transform`.
        inputs: what `init` is called with after the key, as arrays or `jax.ShapeDtypeStruct`s; only shapes and dtypes
            are used.
        options: further arguments of the call that are no arrays, such as {"is_training": True}.

    Raises:
        TypeError: `inputs` is no tuple.
    """

    transformed: Any
    params: Mapping[str, Mapping[str, Any]]
    state: Mapping[str, Mapping[str, Any]] | None = None
    inputs: tuple[Any, ...] = field(kw_only=True)
    options: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        """See the class."""
        _layer.require_inputs(self.inputs)

    def leaves(self) -> dict[str, Any]:
        """Arrays by "params" or "state", the module's name and their own."""
        return by_key({"params": self.params, "state": self.state})

    def find(self) -> dict[str, Found]:
        """The modules that are called."""
        called: dict[str, Found | None] = {}

        def note(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
            if context.method_name == "__call__":  # before the call, in which a GroupNorm changes its axes
                called.setdefault(context.module.module_name, _found(context.module, args))
            return call(*args, **kwargs)

        with hk.intercept_methods(note):
            jax.eval_shape(lambda *xs: self.transformed.init(jax.random.PRNGKey(0), *xs, **self.options), *self.inputs)
        found: dict[str, Found] = {}
        for name, layer in called.items():
            if layer is not None and not any(name.startswith(f"{other}/") for other in found):
                found[name] = replace(layer, parts={_key(name, k): part for k, part in layer.parts.items()})
        return found

    def replace(self, values: Mapping[str, Any]) -> Any:
        """New parameters, and a new state if there is one."""
        new = mapped({"params": self.params, "state": self.state}, values, like)
        return new["params"] if self.state is None else (new["params"], new["state"])


def _key(module: str, name: str) -> str:
    return "/".join(["state" if name.startswith("~/") else "params", module, name])


def _found(module: Any, args: tuple[Any, ...]) -> Found | None:
    match module:
        case hk.Linear():
            return Found("dense", {"w": same("kernel", 2), "b": same("bias", 1)})
        case hk.ConvND() if module.mask is None:
            settings = _windows.conv(
                module.kernel_shape, module.stride, module.padding, module.kernel_dilation, module.feature_group_count
            )
            return Found(
                "conv", {"w": same("kernel", module.num_spatial_dims + 2), "b": _window_bias(module)}, settings
            )
        case hk.ConvNDTranspose() if module.mask is None:
            padding = module.padding if module.output_shape is None else f"output_shape={module.output_shape}"
            settings = _windows.conv_transpose(module.kernel_shape, module.stride, padding, 1)
            kernel = transposed_window("kernel", module.num_spatial_dims, flipped=False)
            return Found("conv_transpose", {"w": kernel, "b": _window_bias(module)}, settings)
        case hk.Embed():
            return Found("embed", {"embeddings": same("embedding", 2)})
        case hk.LayerNorm() if module.axis in (-1, (-1,)) and module.param_axis in (-1, (-1,)):
            return Found("layer_norm", {"scale": same("scale", 1), "offset": same("bias", 1)}, {"epsilon": module.eps})
        case hk.GroupNorm() if module.axis == slice(1, None) and module.channel_index == -1:
            settings = {"epsilon": module.eps, "groups": module.groups}
            return Found("group_norm", {"scale": same("scale", 1), "offset": same("bias", 1)}, settings)
        case hk.BatchNorm() if module.axis is None and args:
            return Found("batch_norm", _batch_norm(module.channel_index, args[0].ndim), {"epsilon": module.eps})
        case hk.MultiHeadAttention():
            parts: dict[str, Part] = {}
            for name, linear in [("query", "query"), ("key", "key"), ("value", "value"), ("out", "linear")]:
                projection = flat_projection(name, module.num_heads)
                parts |= {f"{linear}/w": projection["kernel"], f"{linear}/b": projection["bias"]}
            return Found("attention", parts)
        case hk.LSTM():
            parts = {"linear/w": _stacked("igfo"), "linear/b": gates("bias", "igfo", 1, plus="f")}
            return Found("lstm", parts, {"gate": "sigmoid", "activation": "tanh"})
        case hk.GRU():
            parts = {
                "w_i": gates("input", "zrn", 2, minus="z"),
                "w_h": gates("hidden", "zrn", 2, minus="z"),
                "b": gates("bias", "zrn", 1, minus="z"),
            }
            return Found("gru", parts, {"gate": "sigmoid", "activation": "tanh", "reset": "before"})
        case _:
            return None


def _window_bias(module: Any) -> Part:
    """(out,), or (out, 1, ...) where the channels come first."""
    if module.channel_index == -1:
        return same("bias", 1)
    n = module.num_spatial_dims
    return reshaped("bias", n + 1, lambda a: a.reshape(-1), lambda a: a.reshape(-1, *[1] * n))


def _stacked(order: str) -> Part:
    """One kernel for the inputs and the hidden state below them."""
    above, below = gates("input", order, 2), gates("hidden", order, 2)

    def split(a: Any) -> dict[str, Any]:
        hidden = a.shape[1] // len(order)
        return {**above.split(a[:-hidden]), **below.split(a[-hidden:])}

    def join(*arrays: Any) -> Any:
        return np.concatenate([above.join(*arrays[: len(order)]), below.join(*arrays[len(order) :])])

    return Part((*above.names, *below.names), 2, split, join)


def _batch_norm(channel_index: int, ndim: int) -> dict[str, Part]:
    """Arrays of shape (1, ..., features); the averages are kept with what they are computed from."""
    shape = [1] * ndim
    shape[channel_index] = -1

    def spread(name: str) -> Part:
        return reshaped(name, ndim, lambda a: a.reshape(-1), lambda a: a.reshape(shape))

    parts = {"scale": spread("scale"), "offset": spread("bias")}
    for name in ("mean", "var"):
        average = spread(name)
        parts[f"~/{name}_ema/average"] = average
        parts[f"~/{name}_ema/hidden"] = replace(average, split=lambda _: {})
        parts[f"~/{name}_ema/counter"] = Part((), 0, lambda _: {}, lambda: np.array(_MANY_UPDATES))
    return parts
