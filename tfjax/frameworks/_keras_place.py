"""Batches laid out as a `keras.distribution` wants them, so that Keras, which lays them out again, moves nothing."""

from __future__ import annotations

from typing import Any, TypeGuard

import jax
from jax.sharding import AxisType, NamedSharding

from tfjax.errors import PlacementError
from tfjax.graph import stages as st


def refuse_split(pipe: Any) -> None:
    """Raise PlacementError for batches that are cut into one part a device, as `jax.pmap` takes them."""
    if pipe._target.per_device:
        raise PlacementError(
            "place_per_device cuts batches for jax.pmap, and Keras takes them whole: leave it out, or use "
            "keras.distribution.DataParallel"
        )


def placed_for(pipe: Any, spec: Any, distribution: Any) -> Any:
    """The pipeline, placed as a distribution says; prefetching puts the batches there.

    Args:
        pipe: a pipeline of batches.
        spec: what it yields.
        distribution: `keras.distribution.DataParallel` or `ModelParallel`.

    Raises:
        PlacementError: it is placed already, and otherwise; or batches do not divide over the devices.
    """
    if not any(isinstance(stage, st.Place) for stage in pipe._chain):
        layout = distribution.get_data_layout((1,)).backend_layout
        return pipe.place(layout.mesh, layout.spec[0])
    for path, leaf in jax.tree_util.tree_leaves_with_path(spec):
        if getattr(leaf, "sharding", None) is None or not leaf.shape:
            continue
        wanted = distribution.get_data_layout(leaf.shape).backend_layout
        if not leaf.sharding.is_equivalent_to(wanted, len(leaf.shape)):
            raise PlacementError(
                f"place puts {jax.tree_util.keystr(path)} on {leaf.sharding}, and the keras.distribution that is set "
                f"wants {wanted}: leave place out, to_keras places batches as the distribution says"
            )
    return pipe


def has_explicit_axes(spec: Any) -> bool:
    """Whether batches lie on a mesh whose axes are Explicit, as `jax.make_mesh` makes them."""
    return any(_is_explicit(getattr(leaf, "sharding", None)) for leaf in jax.tree.leaves(spec))


def with_auto_axes(batch: Any) -> Any:
    """The same arrays on the same devices, by a mesh with Auto axes: Keras says of no product how it is to be cut."""
    return jax.tree.map(_with_auto_axes, batch)


def _with_auto_axes(leaf: Any) -> Any:
    sharding = getattr(leaf, "sharding", None)
    if not _is_explicit(sharding):
        return leaf
    axes = sharding.mesh.axis_names
    mesh = jax.sharding.Mesh(sharding.mesh.devices, axes, axis_types=(AxisType.Auto,) * len(axes))
    return jax.device_put(leaf, NamedSharding(mesh, sharding.spec))


def _is_explicit(sharding: Any) -> TypeGuard[NamedSharding]:
    return isinstance(sharding, NamedSharding) and AxisType.Explicit in sharding.mesh.axis_types
