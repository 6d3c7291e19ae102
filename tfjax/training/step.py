"""What a step gives back, checked: the state that it was given, trained, and metrics with a loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Step = Callable[[Any, Any], tuple[Any, Any]]
"""(state, batch) to (state, metrics)."""

TAKEN = ("step", "epoch")


def require_batches(pipe: Any, what: str) -> int:
    """The dimensions before those of an example: 1 for batches, 2 for stacks of them.

    Raises:
        TypeError: it is no pipeline.
        ValueError: its elements are not batched.
    """
    if not hasattr(pipe, "iterate"):
        raise TypeError(
            f"{what} takes a pipeline, given a {type(pipe).__name__}: wrap data with tfjax.from_arrays, ..."
        )
    if not pipe._plan.is_batched:
        raise ValueError(f"{what} takes a pipeline of batches, and {pipe!r} yields single examples: add .batch(n)")
    return len(pipe._plan.leading)


def require_pair(returned: Any, given: Any) -> None:
    """Check that a step gave back a state like the one it was given, and metrics.

    Raises:
        TypeError: it is no pair, or its state has another structure.
    """
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        count = f" of {len(returned)}" if isinstance(returned, tuple | list) else ""
        raise TypeError(f"the step returned {_shown(returned)}{count}: return (state, metrics)")
    before: Any = jax.tree.structure(given)
    after: Any = jax.tree.structure(returned[0])
    if before != after:
        raise TypeError(f"the step returned a state of another structure: {after}, and was given {before}")


def require_returned(returned: Any, given: Any, *, stacked: bool) -> None:
    """Check what a step gave back for a state.

    Raises:
        TypeError: it is no pair, its state has another structure, or a metric is no number.
        KeyError: the metrics have no "loss".
        ValueError: the loss is not one number a step, or a metric has a name that the rows have already.
    """
    require_pair(returned, given)
    metrics = returned[1]
    loss = loss_of(metrics)
    for name, value in metrics.items() if isinstance(metrics, Mapping) else [("loss", metrics)]:
        if name in TAKEN:
            raise ValueError(f"the step's metrics have a {name!r}, which the rows have already: name it otherwise")
        if not _is_numbers(value):
            raise TypeError(f"the step's {name!r} is {_shown(value)}: metrics are numbers, or arrays of them")
    if stacked and np.ndim(loss) != 1:
        raise ValueError(
            f"the step's loss is {_shown(loss)}, and the pipeline yields stacks of batches: return (k,) losses, one a "
            "batch, as tfjax.scan_steps(step, k) does"
        )
    if not stacked and np.ndim(loss) != 0:
        raise ValueError(f"the step's loss is {_shown(loss)}: return one number, such as the mean")


def loss_of(metrics: Any) -> Any:
    """The loss in what a step returned: its "loss", or all that it returned.

    Raises:
        KeyError: a dict without one.
    """
    if not isinstance(metrics, Mapping):
        return metrics
    if "loss" not in metrics:
        raise KeyError(f"the step's metrics have no 'loss', but {sorted(metrics)}: return (state, {{'loss': ...}})")
    return metrics["loss"]


def scalars(metrics: Any) -> dict[str, Any]:
    """The metrics that are one number a step, as the loss is."""
    if not isinstance(metrics, Mapping):
        return {"loss": metrics}
    shape = np.shape(metrics["loss"])
    return {name: value for name, value in metrics.items() if np.shape(value) == shape}


def require_sums(sums: Any) -> None:
    """Check what an eval_step gave back.

    Raises:
        TypeError: it is no dict of single numbers.
        KeyError: it has no "count".
        ValueError: it has a name that the rows have already.
    """
    if not isinstance(sums, Mapping):
        raise TypeError(f"the eval_step returned {_shown(sums)}: it returns a dict of sums, and their 'count'")
    if "count" not in sums:
        raise KeyError(f"the eval_step returned {sorted(sums)}: it returns sums, and their 'count'")
    for name, value in sums.items():
        if name in TAKEN:
            raise ValueError(f"the eval_step returned a {name!r}, which the rows have already: name it otherwise")
        if not _is_numbers(value) or np.ndim(value):
            raise TypeError(f"the eval_step's {name!r} is {_shown(value)}: return its sum over the batch, one number")


def _is_numbers(value: Any) -> bool:
    if isinstance(value, bool | int | float):
        return True
    if not isinstance(value, jax.Array | np.ndarray | np.generic):
        return False
    return any(jnp.issubdtype(value.dtype, kind) for kind in (jnp.bool_, jnp.integer, jnp.floating))


def _shown(value: Any) -> str:
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return f"{value.dtype}{list(value.shape)}"
    return "None" if value is None else f"a {type(value).__name__}"
