"""Where a training state lies: whole on every device of the batches, or its parameters cut over a mesh.

`fsdp` cuts each parameter, with its moments, along its largest dimension that divides (Rajbhandari et al., "ZeRO",
2020, https://arxiv.org/abs/1910.02054); XLA gathers it where it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tfjax._arguments import require_call

Rule = Callable[[str, jax.ShapeDtypeStruct], PartitionSpec]
"""(key path of a parameter, its shape and dtype) to how it is cut."""

Layout = tuple[NamedSharding, ...]
"""The sharding of each leaf of a state, in order."""

_SMALLEST = 1024  # elements: less is kept whole, as gathering it costs more than it saves


def batch_sharding(spec: Any) -> Any:
    """The sharding of the batches that `spec` describes: of the first leaf that is cut, else of any."""
    shardings = [s for s in (getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(spec)) if s is not None]
    return next((s for s in shardings if not s.is_fully_replicated), next(iter(shardings), jnp.zeros(()).sharding))


def laid_out(state: Any, spec: Any, sharding: str | Rule | None) -> Any:
    """The state on the devices of the batches, its parameters cut as was asked for.

    Batches are committed to their devices, so a step's results are. A state that is not would compile the second
    step anew, and one that is committed elsewhere cannot be used with them.

    Raises:
        TypeError: a rule that is no function of two arguments.
        ValueError: an unknown name, batches that are not placed on a mesh, or a spec that does not fit a parameter.
    """
    if sharding not in (None, "replicated", "fsdp") and not callable(sharding):
        raise ValueError(f"sharding={sharding!r}: choose 'replicated', 'fsdp' or a function (path, leaf) to a spec")
    if callable(sharding):
        require_call("create_state: sharding", sharding, ("path", "leaf"), "give a function to a PartitionSpec")
    cut = sharding not in (None, "replicated")
    where = batch_sharding(spec)
    state = jax.tree.map(_strong, state)
    if not isinstance(where, NamedSharding):
        if cut:
            raise ValueError(f"sharding={sharding!r} needs batches on a mesh: call .place(mesh, axis) on the pipeline")
        return jax.device_put(state, where)
    shardings = jax.tree.map(lambda leaf: _whole(leaf, where.mesh), state)
    if cut:
        shardings = _cut(state, shardings, sharding if callable(sharding) else _fully_sharded(where))
    return replace(jax.device_put(state, shardings), layout=tuple(jax.tree.leaves(shardings)))


def _strong(value: Any) -> jax.Array:
    """An array that is not weakly typed, as results are not."""
    array = jnp.asarray(value)
    return array if jnp.issubdtype(array.dtype, jax.dtypes.extended) else array.astype(array.dtype)


def _whole(leaf: jax.Array, mesh: Any) -> NamedSharding:
    return _sharding(mesh, PartitionSpec(), leaf)


def _sharding(mesh: Any, spec: PartitionSpec, leaf: jax.Array) -> NamedSharding:
    """Written as the sharding of a result is, else the second step would be compiled anew.

    On Explicit axes that has an entry for each dimension; on Auto ones it ends with the last that is cut.
    """
    if AxisType.Explicit in mesh.axis_types:
        spec = PartitionSpec(*spec, *(None,) * (leaf.ndim - len(spec)))
    else:
        cut = [i for i, entry in enumerate(spec) if entry is not None]
        spec = PartitionSpec(*spec[: cut[-1] + 1]) if cut else PartitionSpec()
    return NamedSharding(mesh, spec)


def _cut(state: Any, shardings: Any, rule: Rule) -> Any:
    """The shardings with those of parameters, and of the optimizer's values of their shapes, as the rule says."""
    params = jax.tree_util.tree_map_with_path(partial(_by_rule, rule), state.params, shardings.params)
    mesh = jax.tree.leaves(params)[0].mesh

    def moment(leaf: Any, param: jax.Array, sharding: NamedSharding) -> Any:
        if isinstance(leaf, optax.MaskedNode):
            return leaf
        return sharding if leaf.shape == param.shape else _whole(leaf, mesh)

    opt_state = optax.tree_map_params(
        state.optimizer,
        moment,
        state.opt_state,
        state.params,
        params,
        transform_non_params=lambda leaf: _whole(leaf, mesh),
        is_leaf=lambda leaf: isinstance(leaf, optax.MaskedNode),
    )
    return replace(shardings, params=params, opt_state=opt_state)


def _fully_sharded(where: NamedSharding) -> Rule:
    axis = next((entry for entry in where.spec if entry is not None), where.mesh.axis_names[0])
    parts = prod(where.mesh.shape[a] for a in ((axis,) if isinstance(axis, str) else axis))

    def rule(_: str, leaf: jax.ShapeDtypeStruct) -> PartitionSpec:
        sizes = [(size, i) for i, size in enumerate(leaf.shape) if size % parts == 0]
        if not sizes or leaf.size < _SMALLEST:
            return PartitionSpec()
        at = max(sizes, key=lambda pair: pair[0])[1]
        return PartitionSpec(*(axis if i == at else None for i in range(leaf.ndim)))

    return rule


def _by_rule(rule: Rule, path: Any, leaf: jax.Array, whole: NamedSharding) -> NamedSharding:
    name = jax.tree_util.keystr(path)
    spec = rule(name, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))
    if not isinstance(spec, PartitionSpec):
        raise ValueError(f"{name} of shape {leaf.shape} cannot be cut as {spec!r}: return a PartitionSpec")
    try:
        NamedSharding(whole.mesh, spec).check_compatible_aval(leaf.shape)
        sharding = _sharding(whole.mesh, spec, leaf)
        sharding.shard_shape(leaf.shape)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{name} of shape {leaf.shape} cannot be cut as {spec}: {error}") from error
    return sharding


def constrained(state: Any) -> Any:
    """The state, laid out as it was; XLA might choose another way, and the next step be compiled anew.

    On Explicit axes the types of arrays say it, see `on_any_mesh`.
    """
    if state.layout is None or AxisType.Explicit in state.layout[0].mesh.axis_types:
        return state
    leaves, tree = jax.tree.flatten(state)
    placed = [jax.lax.with_sharding_constraint(a, s) for a, s in zip(leaves, state.layout, strict=True)]
    return jax.tree.unflatten(tree, placed)


def on_any_mesh(step: Callable[..., Any], specs: Callable[[Any], Any]) -> Callable[..., Any]:
    """A function of a state and a batch that leaves it to XLA how its values are cut, on Explicit meshes too.

    A model written without a mesh in mind says of no product how it is to be cut, which Explicit axes ask for.

    Args:
        step: the function.
        specs: the specs of what it returns, or a prefix of them, where the axes are Explicit; given the state's.
    """

    def anywhere(state: Any, batch: Any) -> Any:
        meshes = {getattr(jax.typeof(a).sharding, "mesh", None) for a in jax.tree.leaves((state, batch))}
        mesh = next((m for m in meshes if m is not None and AxisType.Explicit in m.axis_types), None)
        if mesh is None:
            return step(state, batch)
        out = specs(jax.tree.map(lambda a: jax.typeof(a).sharding.spec, state))
        out = jax.tree.map(partial(NamedSharding, mesh), out)  # without a mesh auto_axes asks for `jax.set_mesh`
        return jax.sharding.auto_axes(step, out_sharding=out)(state, batch)

    return anywhere
