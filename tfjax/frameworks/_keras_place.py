"""Batches laid out as a `keras.distribution` wants them, so that Keras, which lays them out again, moves nothing."""

from __future__ import annotations

from typing import Any

import jax

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
