"""A run of `fit` as its callbacks see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tfjax.training.history import History
from tfjax.training.meter import Meter

Row = dict[str, float]
"""Numbers by name; "step" and "epoch" say when."""


@dataclass(kw_only=True)
class Run:
    """How far a run is.

    Args:
        steps: batches of the whole run, or stacks of them where the pipeline yields stacks; None where that is not
            known.
        steps_per_epoch: likewise of an epoch.
        evaluates: whether it evaluates.
        history: what was logged so far.
        meter: examples a second, and the share of the time spent waiting for data.
        state: the training state; the next step donates it: copy what is to be kept.
        batches: likewise those trained on, before a resume included.
        stopped: why it ends early; empty where it does not.
    """

    steps: int | None
    steps_per_epoch: int | None
    evaluates: bool
    history: History
    meter: Meter = field(default_factory=Meter)
    state: Any = None
    batches: int = 0
    stopped: str = ""

    def stop(self, reason: str) -> None:
        """End the run after this step."""
        self.stopped = self.stopped or reason

    def epochs_after(self, batches: float) -> float:
        """Passes over the data after so many batches; 0 where the length of an epoch is not known."""
        return batches / self.steps_per_epoch if self.steps_per_epoch else 0.0
