"""A layer without its framework, and how the arrays of a framework's layer are made of its arrays.

| kind | arrays, with shapes | settings |
|---|---|---|
| dense | kernel (in, out), bias (out,) | |
| conv | kernel (*window, in / groups, out), bias (out,) | strides, padding, dilation, groups |
| conv_transpose | kernel (*window, in, out), slid over the dilated input without a flip; bias (out,) | as of conv |
| embed | embedding (rows, features) | |
| layer_norm, group_norm | scale, bias (features,) | epsilon, groups |
| batch_norm | scale, bias, mean, var (features,) | epsilon |
| attention | query, key, value (in, heads, size), out (heads, size, out), and the bias of each | |
| lstm | input_g (in, h), hidden_g (h, h), bias_g (h,) for the gates i, f, g, o | gate, activation |
| gru | the same for r, z, n, and hidden_bias (h,), inside the product with r | gate, activation, reset |

h' = (1 - z) * n + z * h in a gru; its `reset` is "after" the product of the hidden state with hidden_n, or "before" it.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Layer:
    """What a layer is in every framework.

    Args:
        kind: "dense" and so on; "unknown" for a parameter of no layer that can be converted.
        arrays: the parameters and statistics that it has, by name; see the module.
        settings: what else its outputs depend on, and must be the same where its arrays go.
    """

    kind: str
    arrays: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([f"{self.kind}:", ", ".join(f"{name} {array.shape}" for name, array in self.arrays.items())])


@dataclass(frozen=True)
class Part:
    """One array that a framework's layer holds.

    Args:
        names: the arrays of a `Layer` that it is made of.
        ndim: its number of axes.
        split: to the arrays by name; to none where another part holds them too.
        join: from the arrays named.
    """

    names: tuple[str, ...]
    ndim: int
    split: Callable[[Any], Mapping[str, Any]]
    join: Callable[..., Any]


@dataclass(frozen=True)
class Found:
    """A layer that was found in a model; `parts` by the key of the array, among them some that it may not have."""

    kind: str
    parts: Mapping[str, Part]
    settings: Mapping[str, Any] = field(default_factory=dict)


class Model(abc.ABC):
    """A model with its values. Each framework has one of its own."""

    @abc.abstractmethod
    def leaves(self) -> dict[str, Any]:
        """All parameters and statistics by key, as arrays."""

    @abc.abstractmethod
    def find(self) -> dict[str, Found]:
        """The layers by path, in the order that `transfer` pairs them in."""

    @abc.abstractmethod
    def replace(self, values: Mapping[str, np.ndarray[Any, Any]]) -> Any:
        """What the user holds, with other values at some keys."""

    @functools.cached_property
    def found(self) -> dict[str, Found]:
        """As `find`, which may trace the model, done once."""
        return self.find()

    def read(self) -> dict[str, Layer]:
        """The layers by path; what belongs to none of them is a layer of the kind "unknown", by its key.

        Raises:
            ValueError: a layer's array has more or fewer axes than it should.
        """
        leaves, layers = self.leaves(), {}
        for path, found in self.found.items():
            arrays: dict[str, Any] = {}
            for key, part in found.parts.items():
                if key in leaves:
                    array = leaves.pop(key)
                    _require_ndim(key, array, part, found.kind)
                    arrays |= part.split(np.asarray(array))
            layers[path] = Layer(found.kind, arrays, found.settings)
        return layers | {key: Layer("unknown", {"array": leaf}) for key, leaf in leaves.items()}

    def write(self, layers: Mapping[str, Layer]) -> Any:
        """What the user holds, with the values of `layers`, which have every array that theirs here have."""
        leaves = self.leaves()
        return self.replace(
            {
                key: np.asarray(part.join(*(layer.arrays[name] for name in part.names)))
                for path, layer in layers.items()
                for key, part in self.found[path].parts.items()
                if key in leaves
            }
        )


def like(value: np.ndarray[Any, Any], old: Any) -> jax.Array:
    """The value with the dtype of the array that it replaces, and on its devices."""
    new: np.ndarray[Any, Any] = value.astype(old.dtype)
    if isinstance(old, jax.Array) and old.committed:
        return cast(jax.Array, jax.device_put(new, old.sharding))
    return jnp.asarray(new)


def require_inputs(inputs: Any) -> None:
    """Refuse inputs that are not the tuple of a call's arguments."""
    if not isinstance(inputs, tuple):
        raise TypeError(f"inputs is a {type(inputs).__name__}: give the tuple of what the model is called with, (x,)")


def _require_ndim(key: str, array: Any, part: Part, kind: str) -> None:
    if array.ndim != part.ndim:
        raise ValueError(
            f"{key} has shape {array.shape}, and {part.ndim} axes are what a {kind} layer has there: "
            "a layer stacked by scan or vmap, or a norm over several axes, is not converted"
        )
