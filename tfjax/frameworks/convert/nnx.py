"""Flax nnx: a module, to read layers from or write them to.

>>> from flax import nnx as flax_nnx
>>> from tfjax.frameworks.convert import nnx
>>> rngs = flax_nnx.Rngs(0)
>>> module = flax_nnx.Sequential(flax_nnx.Linear(3, 4, rngs=rngs), flax_nnx.relu, flax_nnx.Linear(4, 2, rngs=rngs))
>>> for path, layer in nnx.Model(module).read().items():
...     print(path, layer)
layers/0 dense: kernel (3, 4), bias (4,)
layers/2 dense: kernel (4, 2), bias (2,)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tfjax.frameworks.convert import _flax, _layer
from tfjax.frameworks.convert._layer import Found, like
from tfjax.frameworks.convert._parts import gates, same

try:
    from flax import nnx
except ImportError as e:
    raise ImportError(f"tfjax.frameworks.convert.nnx needs {e.name!r}: pip install 'tfjax[flax]'") from e


@dataclass(frozen=True)
class Model(_layer.Model):
    """A module. `transfer` sets its variables and returns it.

    Args:
        module: any nnx module; layers are found in the order of its attributes.
    """

    module: nnx.Module

    def leaves(self) -> dict[str, Any]:
        """Arrays by path, without the random streams."""
        return {key: variable[...] for key, variable in self._variables().items()}

    def find(self) -> dict[str, Found]:
        """The modules among the attributes."""
        found: dict[str, Found] = {}
        inside: set[int] = set()  # the modules of attention and cells
        for path, module in _modules(self.module, (), set()):
            layer = None if id(module) in inside else _found(module)
            if layer is not None:
                parts = {"/".join([*path, name]): part for name, part in layer.parts.items()}
                found["/".join(path)] = replace(layer, parts=parts)
                inside |= {id(m) for _, m in _modules(module, (), set())}
        return found

    def replace(self, values: Mapping[str, Any]) -> nnx.Module:
        """The module itself, changed."""
        variables = self._variables()
        for key, value in values.items():
            variables[key].set_value(like(value, variables[key][...]))
        return self.module

    def _variables(self) -> dict[str, Any]:
        return {
            "/".join(map(str, path)): variable
            for path, variable in nnx.iter_graph(self.module)
            if isinstance(variable, nnx.Variable) and not isinstance(variable, nnx.RngState)
        }


def _modules(node: Any, path: tuple[str, ...], seen: set[int]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """As `nnx.iter_modules`, in the order of the attributes, where that sorts their names."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, nnx.Module):
        yield path, node
    children: Mapping[str, Any] = {}
    if isinstance(node, nnx.Module):
        children = vars(node)
    elif isinstance(node, dict):
        children = {str(key): child for key, child in node.items()}
    elif isinstance(node, list | tuple):
        children = {str(i): child for i, child in enumerate(node)}
    for name, child in children.items():
        yield from _modules(child, (*path, name), seen)


def _found(module: Any) -> Found | None:
    match module:
        case nnx.LoRALinear():
            return None
        case nnx.Linear():
            return _flax.dense(module)
        case nnx.Conv():
            return _flax.conv(module)
        case nnx.ConvTranspose():
            return _flax.conv_transpose(module)
        case nnx.Embed():
            return _flax.embed(module)
        case nnx.LayerNorm():
            return _flax.layer_norm(module)
        case nnx.GroupNorm():
            return _flax.group_norm(module, module.num_groups)
        case nnx.BatchNorm():
            return _flax.batch_norm(module)
        case nnx.MultiHeadAttention():
            return _flax.attention(module)
        case nnx.LSTMCell():
            parts = {}
            for gate, name in zip("ifgo", ("ii", "if_", "ig", "io"), strict=True):
                parts[f"{name}/kernel"] = same(f"input_{gate}", 2)
                parts[f"h{gate}/kernel"] = same(f"hidden_{gate}", 2)
                parts[f"h{gate}/bias"] = same(f"bias_{gate}", 1)
            return Found("lstm", parts, _flax.cell(module))
        case nnx.OptimizedLSTMCell():
            return Found("lstm", _fused("ifgo", bias="dense_h"), _flax.cell(module))
        case nnx.GRUCell():
            return Found("gru", _fused("rzn", bias="dense_i"), {**_flax.cell(module), "reset": "after"})
        case _:
            return None


def _fused(order: str, bias: str) -> dict[str, Any]:
    return {
        "dense_i/kernel": gates("input", order, 2),
        "dense_h/kernel": gates("hidden", order, 2),
        f"{bias}/bias": gates("bias", order, 1),
    }
