"""What a user gives to `place` and to `prefetch_to_device`: devices, shardings, axes, or pytrees of them.

>>> import jax
>>> mesh = jax.make_mesh((1, 1), ("data", "model"))
>>> found = target(mesh, {"image": PartitionSpec("data", None, "model")})
>>> [s.spec for s in found.shardings([3, 1], ["['image']", "['label']"])]
[P('data', None, 'model'), P('data',)]
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import (
    AbstractMesh,
    Mesh,
    NamedSharding,
    PartitionSpec,
    Sharding,
    SingleDeviceSharding,
)

from tfjax.errors import PlacementError
from tfjax.placement.target import Target, batch_sharding

_PASS = "pass a Sharding, a device, a PartitionSpec, or a pytree of these"


def target(where: Any = None, axis: Any = None, *, call: str = "place") -> Target:
    """What `place(where, axis)` means.

    Args:
        where: None (JAX's default device), a device, a Sharding, a Mesh, a PartitionSpec over the mesh that
            `jax.set_mesh` has set, or a pytree prefix of devices, Shardings and PartitionSpecs.
        axis: for a Mesh: an axis name, a tuple of names, a PartitionSpec, or a pytree prefix of these.
        call: the function that was called, for messages.

    Raises:
        PlacementError: an axis is not in the mesh, or there is no mesh for a PartitionSpec.
        TypeError: `where` is something else, or an axis is given without a mesh.
    """
    if where is None and axis is None:
        return Target((("", SingleDeviceSharding(_default_device())),), committed=False)
    if isinstance(where, AbstractMesh):
        raise TypeError(f"{call}: {where} is abstract and has no devices: pass the Mesh itself")
    if isinstance(where, Mesh):
        axis = _only_axis(where, call) if axis is None else axis
        return _from_tree(axis, _is_axis, functools.partial(_over_mesh, where, call=call), call)
    if axis is not None:
        raise TypeError(f"{call}: axis {axis!r} needs a Mesh, but where is {where!r}: leave the axis out")
    return _from_tree(where, _is_place, functools.partial(_placed, call=call), call)


def per_device_target(devices: Sequence[jax.Device] | None = None) -> Target:
    """What `place_per_device(devices)` means: row i of a new leading axis goes to device i."""
    given: Any = jax.local_devices() if devices is None else devices
    chosen = list(given) if isinstance(given, Sequence | np.ndarray) else []
    if not chosen or not all(isinstance(device, jax.Device) for device in chosen):
        raise TypeError(f"place_per_device: {devices!r} is no list of devices: pass jax.local_devices(), or nothing")
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"place_per_device: {devices!r} names a device twice")
    mesh = Mesh(np.array(chosen), ("device",))
    return Target((("", NamedSharding(mesh, PartitionSpec("device"))),), per_device=True)


def _from_tree(tree: Any, is_leaf: Callable[[Any], bool], sharding_of: Callable[[Any], Sharding], call: str) -> Target:
    pairs, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: x is None or is_leaf(x))
    unsaid = next((jax.tree_util.keystr(path) for path, leaf in pairs if leaf is None), None)
    if unsaid is not None:
        raise TypeError(
            f"{call}: {unsaid or tree} is None: give PartitionSpec() to replicate it, or leave it out to cut its batch "
            "dimension as that of the others"
        )
    if not pairs:
        raise TypeError(f"{call}: {tree!r} names no leaf: {_PASS}")
    rules = tuple((jax.tree_util.keystr(path), sharding_of(leaf)) for path, leaf in pairs)
    return Target(rules, batch=batch_sharding([sharding for _, sharding in rules]))


def _is_axis(x: Any) -> bool:
    """One spec; a tuple of names is one too, the several axes that cut the batch dimension."""
    names = isinstance(x, tuple) and bool(x) and all(isinstance(name, str) for name in x)
    return names or isinstance(x, str | PartitionSpec)


def _is_place(x: Any) -> bool:
    return isinstance(x, Sharding | jax.Device | PartitionSpec)


def _placed(where: Any, *, call: str) -> Sharding:
    if isinstance(where, NamedSharding):
        if isinstance(where.mesh, AbstractMesh):
            raise TypeError(f"{call}: {where} has no devices: make it of the Mesh itself")
        _over_mesh(where.mesh, where.spec, call=call)  # refuses what cannot be cut
    if isinstance(where, Sharding):
        return where
    if isinstance(where, jax.Device):
        return SingleDeviceSharding(where)
    if not isinstance(where, PartitionSpec):
        raise TypeError(f"{call}: {where!r} is no Mesh, Sharding or device: {_PASS}")
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        raise PlacementError(
            f"{call}: {where} needs a mesh: use jax.set_mesh(mesh) around the call, or NamedSharding(mesh, {where})"
        )
    return _over_mesh(mesh, where, call=call)


def _over_mesh(mesh: Mesh, axis: Any, *, call: str) -> NamedSharding:
    if isinstance(axis, Sharding | jax.Device):
        raise TypeError(f"{call}: {axis!r} beside a Mesh: leave the Mesh out, a sharding says it all")
    if not _is_axis(axis):
        raise TypeError(
            f"{call}: axis is {axis!r}: pass an axis name, a tuple of names, a PartitionSpec, or a pytree of these"
        )
    spec = axis if isinstance(axis, PartitionSpec) else PartitionSpec(axis)
    used: list[Any] = []
    for entry in spec:
        if entry is PartitionSpec.UNCONSTRAINED:
            raise PlacementError(f"{call}: {spec} leaves a dimension open: name its axes, or None")
        used += entry if isinstance(entry, tuple) else () if entry is None else (entry,)
    for name in used:
        if name not in mesh.axis_names:
            raise PlacementError(f"{call}: {name!r} is no axis of the mesh; its axes are {mesh.axis_names}")
        if used.count(name) > 1:
            raise PlacementError(f"{call}: {spec} uses {name!r} twice: an axis cuts one dimension")
    return NamedSharding(mesh, spec)


def _only_axis(mesh: Mesh, call: str) -> str:
    if len(mesh.axis_names) != 1:
        raise PlacementError(
            f"{call}: the mesh has the axes {mesh.axis_names}: say which one cuts the batch, as in "
            f"NamedSharding(mesh, PartitionSpec({mesh.axis_names[0]!r}))"
        )
    return mesh.axis_names[0]  # type: ignore[no-any-return]


def _default_device() -> jax.Device:
    chosen = jax.config.jax_default_device  # type: ignore[attr-defined]
    if isinstance(chosen, str):
        return jax.local_devices(backend=chosen)[0]
    return chosen or jax.local_devices()[0]
