"""From one model to another: which layer goes where, whether it can, and the copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfjax.frameworks.convert._layer import Layer, Model


def pairs(source: Model, target: Model) -> dict[str, str]:
    """The paths {target: source} that `transfer` pairs without `names`: the n-th layer of a kind with the n-th.

    Args:
        source: as for `transfer`.
        target: as for `transfer`.

    Raises:
        TypeError: one of them is no `Model`.
        ValueError: the models have another number of layers of some kind, or parameters of no known layer.

    Example:
        >>> from flax import nnx as flax_nnx
        >>> from tfjax.frameworks.convert import nnx, pairs
        >>> one = flax_nnx.Dict(dense=flax_nnx.Linear(3, 4, rngs=flax_nnx.Rngs(0)))
        >>> other = flax_nnx.Dict(linear=flax_nnx.Linear(3, 4, rngs=flax_nnx.Rngs(1)))
        >>> pairs(nnx.Model(one), nnx.Model(other))
        {'linear': 'dense'}
    """
    return _in_order(_read("source", source), _read("target", target))


def transfer(source: Model, target: Model, *, names: Mapping[str, str] | None = None) -> Any:
    """The target with the parameters and statistics of the source, so that its outputs are the same.

    Without `names` the n-th layer of a kind goes to the n-th of that kind (see `pairs`), and every parameter of both
    models is part of that, or it is an error. Nothing is changed where anything cannot be transferred. The target
    keeps its dtypes and the placement of its arrays.

    Args:
        source: a `Model` of any of `tfjax.frameworks.convert.{linen,nnx,equinox,haiku,keras}`.
        target: a `Model` of the same or another.
        names: {path of a layer in the target: its path in the source}, for those layers and no others.

    Returns:
        linen: new variables. Equinox: a new module, with `state` (module, state). Haiku: new parameters, with `state`
        (params, state). nnx and Keras: the module or model, which was changed in place.

    Raises:
        TypeError: source or target is no `Model`, or `names` no dict with paths.
        KeyError: a path in `names` that there is not.
        ValueError: layers that do not pair, or of which no values make the outputs the same: other shapes, another
            epsilon, stride or padding, a bias that the target lacks and the source has. All are listed.

    Example:
        >>> import equinox as eqx, jax, jax.numpy as jnp
        >>> from flax import linen as nn
        >>> from tfjax.frameworks.convert import equinox, linen, transfer
        >>> x, module = jnp.ones((1, 3)), nn.Dense(2)
        >>> variables = module.init(jax.random.key(0), x)
        >>> layer = eqx.nn.Linear(3, 2, key=jax.random.key(1))
        >>> layer = transfer(linen.Model(module, variables, (x,)), equinox.Model(layer))
        >>> jnp.allclose(layer(x[0]), module.apply(variables, x)[0]).item()
        True
    """
    if names is not None and not (isinstance(names, Mapping) and names):
        raise TypeError(
            f"names={names!r}: give a dict {{path in the target: path in the source}}, or None for all layers"
        )
    ours, theirs = _read("target", target), _read("source", source)
    if names is None:
        names = _in_order(theirs, ours)
    else:
        _require_paths(names, theirs, ours)
    problems: list[str] = []
    layers = {to: _fitted(theirs[of], ours[to], f"{to!r} of {of!r}", problems) for to, of in names.items()}
    if problems:
        raise ValueError(_message(problems, theirs, ours))
    return target.write(layers)


def _read(side: str, model: Any) -> dict[str, Layer]:
    if not isinstance(model, Model):
        libraries = "linen, nnx, equinox, haiku or keras"
        raise TypeError(
            f"the {side} is a {type(model).__name__}: give a Model of tfjax.frameworks.convert.({libraries})"
        )
    layers: dict[str, Layer] = model.read()
    return layers


def _in_order(theirs: Mapping[str, Layer], ours: Mapping[str, Layer]) -> dict[str, str]:
    problems: list[str] = []
    found: dict[str, str] = {}
    for side, layers in (("source", theirs), ("target", ours)):
        unknown = [path for path, layer in layers.items() if layer.kind == "unknown"]
        if unknown:
            problems.append(f"of no layer that can be converted, in the {side}: {', '.join(unknown)}")
    for kind in dict.fromkeys(layer.kind for layer in (*ours.values(), *theirs.values()) if layer.kind != "unknown"):
        to, of = ([path for path, layer in layers.items() if layer.kind == kind] for layers in (ours, theirs))
        if len(to) != len(of):
            problems.append(f"{kind}: {len(of)} in the source, {len(to)} in the target")
        found |= zip(to, of, strict=False)
    if problems:
        raise ValueError(
            _message([*problems, "names={target path: source path} transfers a choice of layers"], theirs, ours)
        )
    return found


def _require_paths(names: Mapping[str, str], theirs: Mapping[str, Layer], ours: Mapping[str, Layer]) -> None:
    missing = [f"no layer {path!r} in the target" for path in names if path not in ours]
    missing += [f"no layer {path!r} in the source" for path in names.values() if path not in theirs]
    if missing:
        raise KeyError(_message(missing, theirs, ours))


def _fitted(theirs: Layer, ours: Layer, which: str, problems: list[str]) -> Layer:
    """Their layer with the arrays that ours has; what is neutral may be missing on either side."""
    if theirs.kind != ours.kind or ours.kind == "unknown":
        problems.append(f"{which}: the target is {ours.kind}, the source {theirs.kind}")
        return theirs
    for name in dict.fromkeys((*ours.settings, *theirs.settings)):
        here, there = ours.settings.get(name), theirs.settings.get(name)
        if here != there:
            problems.append(
                f"{which}, {ours.kind}: {name} is {here} in the target and {there} in the source: make them equal"
            )
    arrays = dict(theirs.arrays)
    for name, array in ours.arrays.items():
        if name not in arrays and name != "scale" and "bias" not in name:
            problems.append(f"{which}, {ours.kind}: the source has no {name}: give its Model all values of its layers")
        there = arrays.setdefault(name, np.full(array.shape, _neutral(name), array.dtype))
        if there.shape != array.shape:
            problems.append(
                f"{which}, {ours.kind}: {name} is {array.shape} in the target and {there.shape} in the source"
            )
    for name in arrays.keys() - ours.arrays.keys():
        if (arrays[name] != _neutral(name)).any():
            problems.append(
                f"{which}, {ours.kind}: the target has no {name}, "
                f"and that of the source is not {_neutral(name)} everywhere"
            )
    return Layer(ours.kind, arrays, ours.settings)


def _neutral(name: str) -> int:
    """What an array that is not there amounts to."""
    return 1 if name == "scale" else 0


def _message(problems: list[str], theirs: Mapping[str, Layer], ours: Mapping[str, Layer]) -> str:
    lines = ["the layers do not fit:", *(f"  {problem}" for problem in problems)]
    for side, layers in (("source", theirs), ("target", ours)):
        lines += [f"{side}:", *(f"  {path!r} {layer}" for path, layer in layers.items())]
    return "\n".join(lines)
