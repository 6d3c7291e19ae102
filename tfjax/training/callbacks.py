"""What may look at a run of `fit`, and stop it: `Callback`, and the usual ones.

>>> from tfjax.training import Callback
>>> class Printed(Callback):
...     def on_evaluation(self, run, row):
...         print(row)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import optax

from tfjax._arguments import require_count
from tfjax.training.run import Row, Run


class Callback:
    """Hooks of a run; each does nothing unless a subclass says otherwise.

    Rows are dicts of numbers with "step", the updates so far, and "epoch", the passes so far. A row is handed from
    callback to callback in the order given to `fit`: what one adds, the later ones see, and the history keeps.
    """

    def on_begin(self, run: Run) -> None:
        """Before the first step, and before `restore`: a callback may serve one run after another."""

    def on_step(self, run: Run, row: Row) -> None:
        """After each update, with its metrics; up to a few updates late, as reading them waits for the device."""

    def on_log(self, run: Run, row: Row) -> None:
        """After each window of updates, with the means of their metrics."""

    def on_evaluation(self, run: Run, row: Row) -> None:
        """After each evaluation, with its metrics."""

    def on_end(self, run: Run) -> None:
        """After the last step, also where an error ends the run: close here what `on_begin` opened."""

    def save(self) -> dict[str, Any]:
        """What a checkpoint keeps of it, of JSON types."""
        return {}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from what `save` gave, where a run is resumed."""


class EarlyStopping(Callback):
    """Ends a run whose evaluation no longer gets better.

    Args:
        monitor: the metric of `evaluate=`.
        patience: the run ends after so many evaluations in a row that are no better than the best one before them.
        min_delta: a value that differs by no more than this is no better; a NaN never is.
        mode: whether the best value is the smallest ("min") or the largest ("max").

    Raises:
        KeyError: the evaluation has no such metric.
        ValueError: a patience below 1, a negative min_delta, another mode, or nothing is evaluated.

    Example:
        >>> from tfjax.training import EarlyStopping
        >>> EarlyStopping("accuracy", patience=3, mode="max").patience
        3
    """

    def __init__(
        self, monitor: str = "loss", *, patience: int = 1, min_delta: float = 0.0, mode: Literal["min", "max"] = "min"
    ) -> None:
        """See the class."""
        require_count("patience", patience, least=1)
        if not 0 <= min_delta < math.inf:
            raise ValueError(f"min_delta={min_delta!r} is no number of 0 or more")
        if mode not in ("min", "max"):
            raise ValueError(f"mode={mode!r}: choose 'min' or 'max'")
        self.monitor, self.patience, self.min_delta, self.mode = monitor, patience, min_delta, mode
        self._best, self._worse = math.inf, 0

    def on_begin(self, run: Run) -> None:
        """Nothing is the best yet; it can only follow an evaluation."""
        if not run.evaluates:
            raise ValueError(f"EarlyStopping({self.monitor!r}) needs evaluations: give fit evaluate=(eval_step, pipe)")
        self._best, self._worse = math.inf, 0

    def on_evaluation(self, run: Run, row: Row) -> None:
        """Compare, and stop the run."""
        if self.monitor not in row:
            raise KeyError(f"EarlyStopping: the evaluation has no {self.monitor!r}, but {sorted(row)}")
        value = row[self.monitor] if self.mode == "min" else -row[self.monitor]
        if value < self._best - self.min_delta:
            self._best, self._worse = value, 0
            return
        self._worse += 1
        if self._worse >= self.patience:
            best = self._best if self.mode == "min" else -self._best
            run.stop(f"{self.monitor} was not better than {best:.6g} in {self._worse} evaluations")

    def save(self) -> dict[str, Any]:
        """The best value so far, and how long ago it was."""
        return {"best": self._best if math.isfinite(self._best) else None, "worse": self._worse}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from there."""
        self._best, self._worse = math.inf if saved["best"] is None else saved["best"], saved["worse"]


class LearningRate(Callback):
    """Adds "learning_rate" to the rows that are logged.

    Args:
        schedule: update to learning rate, as optax's schedules are; or None where the state has it, as that of an
            optimizer made with `optax.inject_hyperparams` does, also within `optax.chain`: as it is when the row is
            logged, up to a few updates later.

    Raises:
        ValueError: there is no schedule, and not one such optimizer in the state.

    Example:
        >>> import optax
        >>> from tfjax.training import LearningRate
        >>> callback = LearningRate(optax.cosine_decay_schedule(1e-3, 1000))
    """

    def __init__(self, schedule: Callable[[int], Any] | None = None) -> None:
        """See the class."""
        self._schedule = schedule

    def on_log(self, run: Run, row: Row) -> None:
        """Add it."""
        row["learning_rate"] = self._at(run, int(row["step"]))

    def _at(self, run: Run, step: int) -> float:
        if self._schedule is not None:
            return float(self._schedule(step - 1))
        try:
            return float(optax.tree_utils.tree_get(run.state, "hyperparams")["learning_rate"])
        except (KeyError, TypeError) as error:
            raise ValueError(
                "LearningRate() reads the learning rate of the one optimizer in the state that was made with "
                "optax.inject_hyperparams, and there is none, or several: give it the schedule"
            ) from error
