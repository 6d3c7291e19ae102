"""The mean of each metric over every example of a pipeline, once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from tfjax.training.step import require_batches, require_sums

_IN_FLIGHT = 2  # batches that the device may be behind


def evaluate(eval_step: Callable[[Any, Any], Mapping[str, Any]], state: Any, pipe: Any) -> dict[str, float]:
    """The mean of each metric over one epoch of a pipeline.

    Args:
        eval_step: (state, batch) to {name: sum over the real rows, ..., "count": their number}, as `eval_step` of
            `tfjax.frameworks` makes them.
        state: the training state.
        pipe: a pipeline of batches.

    Raises:
        KeyError: what the step returns has no "count".
        TypeError: it is no dict of single numbers, or `pipe` is no pipeline.
        ValueError: the pipeline is not batched, yields nothing, or only rows of weight 0.

    Example:
        >>> import jax.numpy as jnp, numpy as np, tfjax
        >>> from tfjax.training import evaluate
        >>> pipe = tfjax.from_arrays({"x": np.arange(5, dtype=np.float32)}).batch(2)
        >>> evaluate(lambda state, batch: {"x": batch["x"].sum(), "count": len(batch["x"])}, None, pipe)
        {'x': 2.0}
    """
    require_batches(pipe, "evaluate")
    totals: dict[str, float] = {}
    pending: list[Any] = []
    with pipe.iterate() as batches:
        for batch in batches:
            sums = eval_step(state, batch)
            if not pending:
                require_sums(sums)
            pending.append(sums)
            if len(pending) > _IN_FLIGHT:  # wait for it, or a fast loop would run far ahead of the device
                _add(totals, pending.pop(0))
    if not pending:
        raise ValueError(f"evaluate: {pipe!r} yields no batch")
    for sums in pending:
        _add(totals, sums)
    count = totals.pop("count")
    if not count:
        raise ValueError(f"evaluate: the rows of {pipe!r} have no weight")
    return {name: total / count for name, total in totals.items()}


def _add(totals: dict[str, float], sums: Mapping[str, Any]) -> None:
    for name, value in jax.device_get(dict(sums)).items():
        totals[name] = totals.get(name, 0.0) + float(value)
