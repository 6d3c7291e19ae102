"""Equinox: a module, with the state that holds the statistics of its batch norms, to read layers from or write them to.

>>> import equinox as eqx, jax
>>> from tfjax.frameworks.convert import equinox
>>> for path, layer in equinox.Model(eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))).read().items():
...     print(path, layer)
layers/0 dense: kernel (3, 4), bias (4,)
layers/1 dense: kernel (4, 2), bias (2,)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from tfjax.frameworks.convert import _layer, _windows
from tfjax.frameworks.convert._layer import Found, Part, like
from tfjax.frameworks.convert._parts import flat_projection, gates, reshaped, same, turned
from tfjax.frameworks.convert._trees import by_key, mapped

try:
    import equinox as eqx
except ImportError as e:
    raise ImportError(f"tfjax.frameworks.convert.equinox needs {e.name!r}: pip install 'tfjax[equinox]'") from e

_LAYERS = (
    eqx.nn.Linear,
    eqx.nn.Conv,
    eqx.nn.ConvTranspose,
    eqx.nn.Embedding,
    eqx.nn.LayerNorm,
    eqx.nn.GroupNorm,
    eqx.nn.BatchNorm,
    eqx.nn.MultiheadAttention,
    eqx.nn.LSTMCell,
    eqx.nn.GRUCell,
)
# As many updates as leave nothing of the first value of a moving average, and 1 to divide it by.
_MANY_UPDATES = 2**30


@dataclass(frozen=True)
class Model(_layer.Model):
    """A module. `transfer` returns a new one, and with a state the pair of both.

    Args:
        module: any module made by `eqx.nn.make_with_state` where it has batch norms.
        state: what `make_with_state` returned beside it, or a later one; needed for batch norms.

    Raises:
        ValueError: the module has a batch norm, and `state` is None.
    """

    module: Any
    state: eqx.nn.State | None = None

    def __post_init__(self) -> None:
        """See the class."""
        if self.state is None and self._batch_norms():
            raise ValueError(
                f"{', '.join(self._batch_norms())}: a batch norm keeps its statistics in a state: give state="
            )

    def leaves(self) -> dict[str, Any]:
        """Arrays by path, with the statistics of batch norms."""
        arrays = {key: leaf for key, leaf in by_key(self.module).items() if eqx.is_array(leaf)}
        for path, layer in self._batch_norms().items():
            arrays |= zip(_statistics(path), _mean_and_var(layer, self.state), strict=True)
        return arrays

    def find(self) -> dict[str, Found]:
        """The modules among the fields."""
        found = {}
        for path, layer in by_key(self.module, lambda node: isinstance(node, _LAYERS)).items():
            if isinstance(layer, _LAYERS):
                here = _found(layer)
                parts = {"/".join([path, name]) if path else name: part for name, part in here.parts.items()}
                found[path] = replace(here, parts=parts)
        return found

    def replace(self, values: Mapping[str, Any]) -> Any:
        """A new module, and a new state if there is one."""
        module = mapped(self.module, values, like)
        if self.state is None:
            return module
        state = jax.tree.map(lambda leaf: leaf, self.state)  # a copy: `set` makes a state useless
        for path, layer in self._batch_norms().items():
            if _statistics(path)[0] in values:
                state = _with_statistics(layer, state, [values[key] for key in _statistics(path)])
        return module, state

    def _batch_norms(self) -> dict[str, Any]:
        nodes = by_key(self.module, lambda node: isinstance(node, eqx.nn.BatchNorm))
        return {path: node for path, node in nodes.items() if isinstance(node, eqx.nn.BatchNorm)}


def _statistics(path: str) -> tuple[str, str]:
    return (f"{path}/mean", f"{path}/var") if path else ("mean", "var")


def _mean_and_var(layer: Any, state: Any) -> tuple[Any, Any]:
    """As the layer has them in inference; with mode="batch" what is kept is biased towards 0."""
    if layer.mode == "ema":
        mean, var = state.get(layer.ema_state_index)
        return mean, var
    updates = state.get(layer.batch_counter)
    scale = jnp.where(updates == 0, 1, 1 - layer.momentum**updates)
    mean, var = state.get(layer.batch_state_index)
    return mean / scale, var / scale


def _with_statistics(layer: Any, state: Any, values: list[Any]) -> Any:
    index = layer.ema_state_index if layer.mode == "ema" else layer.batch_state_index
    state = state.set(index, tuple(like(new, old) for new, old in zip(values, state.get(index), strict=True)))
    if layer.mode == "ema":
        return state.set(layer.ema_first_time_index, jnp.array(False))
    return state.set(layer.batch_counter, jnp.full_like(state.get(layer.batch_counter), _MANY_UPDATES))


def _found(layer: Any) -> Found:
    match layer:
        case eqx.nn.Linear():
            return Found("dense", {"weight": turned("kernel", 1, 0), "bias": same("bias", 1)})
        case eqx.nn.Conv():
            settings = _windows.conv(layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups)
            if layer.padding_mode != "ZEROS":
                settings["padding"] = f"{layer.padding_mode} {settings['padding']}"
            return Found("conv", _window(layer), settings)
        case eqx.nn.ConvTranspose():
            return Found("conv_transpose", _window(layer), _transposed(layer))
        case eqx.nn.Embedding():
            return Found("embed", {"weight": same("embedding", 2)})
        case eqx.nn.LayerNorm():
            return Found("layer_norm", _affine(), {"epsilon": layer.eps})
        case eqx.nn.GroupNorm():
            return Found("group_norm", _affine(), {"epsilon": layer.eps, "groups": layer.groups})
        case eqx.nn.BatchNorm():
            parts = _affine() | {"mean": same("mean", 1), "var": same("var", 1)}
            return Found("batch_norm", parts, {"epsilon": layer.eps})
        case eqx.nn.MultiheadAttention():
            parts = {}
            for field, name in [
                ("query_proj", "query"),
                ("key_proj", "key"),
                ("value_proj", "value"),
                ("output_proj", "out"),
            ]:
                projection = flat_projection(name, layer.num_heads, rows=True)
                parts |= {f"{field}/weight": projection["kernel"], f"{field}/bias": projection["bias"]}
            return Found("attention", parts)
        case eqx.nn.LSTMCell():
            return Found("lstm", _cell("ifgo"), {"gate": "sigmoid", "activation": "tanh"})
        case _:
            parts = _cell("rzn") | {"bias_n": same("hidden_bias", 1)}
            return Found("gru", parts, {"gate": "sigmoid", "activation": "tanh", "reset": "after"})


def _affine() -> dict[str, Part]:
    return {"weight": same("scale", 1), "bias": same("bias", 1)}


def _window(layer: Any) -> dict[str, Part]:
    """A kernel (out, in, *window) and a bias (out, 1, ...)."""
    n = layer.num_spatial_dims
    bias = reshaped("bias", n + 1, lambda a: a.reshape(-1), lambda a: a.reshape(-1, *[1] * n))
    return {"weight": turned("kernel", *range(2, n + 2), 1, 0), "bias": bias}


def _transposed(layer: Any) -> dict[str, Any]:
    """The padding given is that of the convolution whose transpose this is."""
    padding = [(0, 0)] * layer.num_spatial_dims if layer.padding == "VALID" else layer.padding
    if isinstance(padding, str):
        if any(layer.output_padding) or layer.padding_mode != "ZEROS":
            padding = f"{layer.padding_mode} {padding} {layer.output_padding}"
    else:
        reach = [d * (k - 1) for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
        padding = [
            (r - before, r - after + more)
            for r, (before, after), more in zip(reach, padding, layer.output_padding, strict=True)
        ]
    return _windows.conv_transpose(layer.kernel_size, layer.stride, padding, layer.dilation, layer.groups)


def _cell(order: str) -> dict[str, Part]:
    return {
        "weight_ih": gates("input", order, 2, rows=True),
        "weight_hh": gates("hidden", order, 2, rows=True),
        "bias": gates("bias", order, 1),
    }
