"""What `iterate(...)` means: the global steps of a run."""

from __future__ import annotations

from typing import Any

from tfjax._arguments import MOST, require_count
from tfjax.graph.plan import Run


def run_of(
    steps_per_epoch: int | None,
    *,
    epochs: int | None,
    steps: int | None,
    forever: bool,
    start_epoch: int | None,
    position: tuple[int, int] | None,
    endless: bool = False,
) -> Run:
    """The steps that `iterate(...)` delivers.

    Args:
        steps_per_epoch: None where that is not known.
        endless: whether an epoch never ends.
        epochs: total epochs of the run.
        steps: total steps of the run.
        forever: no end.
        start_epoch: where a new run begins.
        position: (start epoch, step) of a state.

    Raises:
        TypeError: a number is no int, or the end of the epoch would be needed and is not known.
        ValueError: two totals, a total below 1, or a start epoch beside a state.
    """
    epochs, steps = _totals(epochs, steps, forever)
    if endless and epochs is not None:
        raise ValueError(f"epochs={epochs}, but this dataset never ends: use steps= or forever=True")
    if position is not None and start_epoch is not None:
        raise ValueError(f"start_epoch={start_epoch} beside a state, which holds its own ({position[0]}): leave it out")
    if start_epoch is not None:
        start_epoch = require_count("start_epoch", start_epoch, least=0)
    first, step = position or (start_epoch or 0, 0)
    if forever:
        return Run(start_epoch=first, start=step, stop=None)
    if steps is not None:
        return Run(start_epoch=first, start=step, stop=max(steps, step))
    if epochs is None and position is not None:
        if steps_per_epoch is None:
            raise TypeError(
                "how long an epoch is is not known for this streaming pipeline: give epochs=, steps= or forever=True"
            )
        epochs = step // max(steps_per_epoch, 1) + 1
    epochs = 1 if epochs is None else epochs
    stop = None if steps_per_epoch is None else max(min(steps_per_epoch * epochs, MOST), step)
    return Run(start_epoch=first, start=step, stop=stop, epochs=epochs)


def _totals(epochs: Any, steps: Any, forever: Any) -> tuple[int | None, int | None]:
    if not isinstance(forever, bool):
        raise TypeError(f"forever is {forever!r}: pass True or leave it out")
    given = {"epochs": epochs, "steps": steps, "forever": forever or None}
    named = {name: value for name, value in given.items() if value is not None}
    if len(named) > 1:
        raise ValueError(f"iterate takes one of epochs, steps and forever; given {named}")
    return (
        None if epochs is None else require_count("epochs", epochs, least=1),
        None if steps is None else require_count("steps", steps, least=1),
    )
