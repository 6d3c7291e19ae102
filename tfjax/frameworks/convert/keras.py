"""Keras on JAX: a built model or layer, to read layers from or write them to.

>>> from tfjax.frameworks.convert import keras
>>> from tfjax.frameworks._keras_backend import keras as library
>>> Dense = library.layers.Dense
>>> net = library.Sequential([library.Input((3,)), Dense(4, name="a"), Dense(2, name="b")])
>>> for path, layer in keras.Model(net).read().items():
...     print(path, layer)
a dense: kernel (3, 4), bias (4,)
b dense: kernel (4, 2), bias (2,)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfjax.frameworks._keras_backend import keras
from tfjax.frameworks.convert import _layer, _windows
from tfjax.frameworks.convert._layer import Found, Part, like
from tfjax.frameworks.convert._parts import gates, same, transposed_window


@dataclass(frozen=True)
class Model(_layer.Model):
    """A model or layer. `transfer` assigns to its variables and returns it.

    Args:
        model: built; layers are found in the order in which it holds them. A layer's path is made of the names that
            layers have inside it.

    Raises:
        ValueError: the model is not built, or two of its layers have the same path.
    """

    model: Any

    def __post_init__(self) -> None:
        """See the class."""
        if not self.model.built:
            raise ValueError(
                f"{self.model.name} is not built: call it once, or build(input_shape), to make its variables"
            )

    def leaves(self) -> dict[str, Any]:
        """Arrays by the path of their variables, without the seeds of random layers."""
        return {key: variable.value for key, variable in self._variables().items()}

    def find(self) -> dict[str, Found]:
        """The layers inside."""
        keys = {id(variable): key for key, variable in self._variables().items()}
        found: dict[str, Found] = {}
        for path, layer in _layers(self.model, (), set()):
            here = _found(layer)
            if here is not None:
                if path in found:
                    raise ValueError(f"two layers have the path {path!r}: give each a name of its own")
                kind, parts, settings = here
                found[path] = Found(kind, {keys[id(v)]: part for v, part in parts if v is not None}, settings)
        return found

    def replace(self, values: Mapping[str, Any]) -> Any:
        """The model itself, changed."""
        variables = self._variables()
        for key, value in values.items():
            variables[key].assign(like(value, variables[key].value))
        return self.model

    def _variables(self) -> dict[str, Any]:
        variables: dict[str, Any] = {}
        for variable in self.model.weights:
            if variable.path in variables:
                raise ValueError(f"two variables have the path {variable.path!r}: give their layers names of their own")
            variables[variable.path] = variable
        return variables


def _layers(layer: Any, path: tuple[str, ...], seen: set[int]) -> Iterator[tuple[str, Any]]:
    """The layer and those inside it; nothing public lists the layers of a layer that is no model."""
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield "/".join(path), layer
    if not isinstance(layer, keras.layers.MultiHeadAttention):
        for inner in layer._layers:
            yield from _layers(inner, (*path, inner.name), seen)


def _found(layer: Any) -> tuple[str, list[tuple[Any, Part]], dict[str, Any]] | None:
    """Kind, variables (some None) with their parts, settings."""
    match layer:
        case keras.layers.Dense():
            return "dense", [(layer.kernel, same("kernel", 2)), (layer.bias, same("bias", 1))], {}
        case keras.layers.Conv1D() | keras.layers.Conv2D() | keras.layers.Conv3D():
            settings = _windows.conv(layer.kernel_size, layer.strides, layer.padding, layer.dilation_rate, layer.groups)
            return "conv", [(layer.kernel, same("kernel", layer.rank + 2)), (layer.bias, same("bias", 1))], settings
        case keras.layers.Conv1DTranspose() | keras.layers.Conv2DTranspose() | keras.layers.Conv3DTranspose():
            kernel = transposed_window("kernel", layer.rank, flipped=True)
            return "conv_transpose", [(layer.kernel, kernel), (layer.bias, same("bias", 1))], _transposed(layer)
        case keras.layers.Embedding():
            return "embed", [(layer.embeddings, same("embedding", 2))], {}
        case keras.layers.LayerNormalization() if not layer.rms_scaling and layer.axis == [-1]:
            return "layer_norm", _affine(layer), {"epsilon": layer.epsilon}
        case keras.layers.GroupNormalization():
            return "group_norm", _affine(layer), {"epsilon": layer.epsilon, "groups": layer.groups}
        case keras.layers.BatchNormalization():
            statistics = [(layer.moving_mean, same("mean", 1)), (layer.moving_variance, same("var", 1))]
            return "batch_norm", _affine(layer) + statistics, {"epsilon": layer.epsilon}
        case keras.layers.MultiHeadAttention():
            return "attention", _attention(layer), {}
        case keras.layers.LSTMCell():
            return "lstm", [*_kernels(layer, "ifgo"), (layer.bias, gates("bias", "ifgo", 1))], _settings(layer)
        case keras.layers.GRUCell():
            bias = _two_biases() if layer.reset_after else gates("bias", "zrn", 1)
            settings = {**_settings(layer), "reset": "after" if layer.reset_after else "before"}
            return "gru", [*_kernels(layer, "zrn"), (layer.bias, bias)], settings
        case _:
            return None


def _affine(layer: Any) -> list[tuple[Any, Part]]:
    return [(layer.gamma, same("scale", 1)), (layer.beta, same("bias", 1))]


def _transposed(layer: Any) -> dict[str, Any]:
    padding = layer.padding
    if layer.output_padding is not None:
        reach = [d * (k - 1) for k, d in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
        padding = [_pads(r, more, padding) for r, more in zip(reach, layer.output_padding, strict=True)]
    return _windows.conv_transpose(layer.kernel_size, layer.strides, padding, layer.dilation_rate)


def _pads(reach: int, more: int, padding: str) -> tuple[int, int]:
    """Rows around the dilated input: with "same", for (n - 1) strides, one row if the window is odd, and `more`."""
    if padding == "valid":
        return reach, reach + more
    total = reach + (reach + 1) % 2 - 1 + more
    before = min(total - total // 2, reach)
    return before, total - before


def _attention(layer: Any) -> list[tuple[Any, Part]]:
    out = layer._output_dense
    parts = [(out.kernel, same("out", 3)), (out.bias, same("out_bias", 1))]
    for name in ("query", "key", "value"):
        dense = getattr(layer, f"_{name}_dense")
        parts += [(dense.kernel, same(name, 3)), (dense.bias, same(f"{name}_bias", 2))]
    return parts


def _kernels(cell: Any, order: str) -> list[tuple[Any, Part]]:
    return [(cell.kernel, gates("input", order, 2)), (cell.recurrent_kernel, gates("hidden", order, 2))]


def _settings(cell: Any) -> dict[str, str]:
    return {"gate": cell.recurrent_activation.__name__, "activation": cell.activation.__name__}


def _two_biases() -> Part:
    """One bias beside the inputs and one beside the hidden state: for z and r only their sum counts."""
    names = ("bias_z", "bias_r", "bias_n", "hidden_bias")

    def split(a: Any) -> dict[str, Any]:
        (z, r, n), (hidden_z, hidden_r, hidden_n) = np.split(a[0], 3), np.split(a[1], 3)
        return dict(zip(names, (z + hidden_z, r + hidden_r, n, hidden_n), strict=True))

    def join(z: Any, r: Any, n: Any, hidden_n: Any) -> Any:
        zero = np.zeros_like(z)
        return np.stack([np.concatenate([z, r, n]), np.concatenate([zero, zero, hidden_n])])

    return Part(names, 2, split, join)
