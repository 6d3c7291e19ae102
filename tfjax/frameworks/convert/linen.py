"""Flax linen: a module with its variables, to read layers from or write them to.

Variables alone do not say what layer an array belongs to (Dense and Conv have the same names), so the module is traced
once on the shapes of its inputs, and the layers are those that were called.

>>> import jax, jax.numpy as jnp
>>> from flax import linen as nn
>>> from tfjax.frameworks.convert import linen
>>> x, module = jnp.zeros((1, 3)), nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(2)])
>>> for path, layer in linen.Model(module, module.init(jax.random.key(0), x), (x,)).read().items():
...     print(path, layer)
layers_0 dense: kernel (3, 4), bias (4,)
layers_2 dense: kernel (4, 2), bias (2,)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax

from tfjax.frameworks.convert import _flax, _layer
from tfjax.frameworks.convert._layer import Found, like
from tfjax.frameworks.convert._parts import same
from tfjax.frameworks.convert._trees import by_key, mapped

try:
    from flax import linen as nn
except ImportError as e:
    raise ImportError(f"tfjax.frameworks.convert.linen needs {e.name!r}: pip install 'tfjax[flax]'") from e


@dataclass(frozen=True)
class Model(_layer.Model):
    """A module with its variables. `transfer` returns new variables.

    Args:
        module: not bound to variables.
        variables: {"params": ..., "batch_stats": ..., ...}, as `module.init` returns them.
        inputs: what the module is called with, as arrays or `jax.ShapeDtypeStruct`s; only shapes and dtypes are used.
        options: further arguments of the call that are no arrays, such as {"train": False}; `method` may be among them.

    Raises:
        TypeError: `inputs` is no tuple.
    """

    module: nn.Module
    variables: Mapping[str, Any]
    inputs: tuple[Any, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """See the class."""
        _layer.require_inputs(self.inputs)

    def leaves(self) -> dict[str, Any]:
        """Arrays by collection and path, out of boxes such as `nn.Partitioned`."""
        return by_key(nn.meta.unbox(self.variables))

    def find(self) -> dict[str, Found]:
        """The modules that are called."""
        called: dict[tuple[str, ...], nn.Module] = {}

        def note(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
            called.setdefault(context.module.path, context.module)
            return call(*args, **kwargs)

        with nn.intercept_methods(note):
            jax.eval_shape(lambda *xs: self.module.init(jax.random.key(0), *xs, **self.options), *self.inputs)
        found: dict[str, Found] = {}
        for path, module in called.items():
            layer = _found(module)
            if layer is not None and not any("/".join(path[:n]) in found for n in range(len(path))):
                found["/".join(path)] = replace(layer, parts={_key(path, name): p for name, p in layer.parts.items()})
        return found

    def replace(self, values: Mapping[str, Any]) -> Any:
        """New variables."""
        arrays = mapped(nn.meta.unbox(self.variables), values, like)
        return nn.meta.replace_boxed(self.variables, arrays)


def _key(path: tuple[str, ...], name: str) -> str:
    collection = "batch_stats" if name in ("mean", "var") else "params"
    return "/".join([collection, *path, name])


def _found(module: nn.Module) -> Found | None:
    match module:
        case nn.Dense():
            return _flax.dense(module)
        case nn.Conv():
            return _flax.conv(module)
        case nn.ConvTranspose():
            return _flax.conv_transpose(module)
        case nn.Embed():
            return _flax.embed(module)
        case nn.LayerNorm():
            return _flax.layer_norm(module)
        case nn.GroupNorm():
            return _flax.group_norm(module, module.num_groups)
        case nn.BatchNorm():
            return _flax.batch_norm(module)
        case nn.MultiHeadDotProductAttention():
            return _flax.attention(module)
        case nn.LSTMCell() | nn.OptimizedLSTMCell():
            return _cell("lstm", "ifgo", _flax.cell(module))
        case nn.GRUCell():
            found = _cell("gru", "rzn", {**_flax.cell(module), "reset": "after"})
            return replace(found, parts={**found.parts, "hn/bias": same("hidden_bias", 1)})
        case _:
            return None


def _cell(kind: str, order: str, settings: dict[str, str]) -> Found:
    """An array for each gate; in an LSTM the bias is beside the hidden kernel, in a GRU beside the input's."""
    parts = {}
    for gate in order:
        parts[f"i{gate}/kernel"] = same(f"input_{gate}", 2)
        parts[f"h{gate}/kernel"] = same(f"hidden_{gate}", 2)
        parts[f"{'h' if kind == 'lstm' else 'i'}{gate}/bias"] = same(f"bias_{gate}", 1)
    return Found(kind, parts, settings)
