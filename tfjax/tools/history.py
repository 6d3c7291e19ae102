"""What a run has measured: the loss along the way, the accuracy after each epoch, rate and waiting."""

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class History:
    """Curves of one run; plain numbers, so that a checkpoint can hold it and a resumed run goes on with it.

    Args:
        steps_per_epoch: batches in an epoch.
        window: steps whose mean loss is one point of the curve.
    """

    steps_per_epoch: int
    window: int
    loss: list[tuple[float, float]] = field(default_factory=list)  # (epochs passed, mean loss of a window)
    test: list[dict[str, float]] = field(default_factory=list)  # one an epoch: epoch, accuracy, loss
    pending: list[float] = field(default_factory=list)  # losses of the window that is not full yet

    def add_loss(self, step: int, loss: float) -> None:
        """The loss of step `step`, counted from 1."""
        self.pending.append(loss)
        if len(self.pending) == self.window:
            self.loss.append((step / self.steps_per_epoch, sum(self.pending) / self.window))
            self.pending.clear()

    def add_test(self, epoch: int, *, accuracy: float, loss: float) -> None:
        """The test split after `epoch` epochs."""
        self.test.append({"epoch": epoch, "accuracy": accuracy, "loss": loss})


class Meter:
    """Examples a second and the share of time spent waiting for data, over the steps alone.

    The first steps are left out, in which the step is compiled, and the first one after `pause`, which holds what
    is no training, such as an evaluation.
    """

    WARM_UP = 3

    def __init__(self) -> None:
        """Nothing measured yet."""
        self.examples, self.seconds, self.wait_s = 0, 0.0, 0.0
        self._last: tuple[float, float] | None = None
        self._steps = 0

    def step(self, examples: int, wait_s: float) -> None:
        """One step is done: its examples, and the time waited so far as the batches' `stats` have it."""
        now = time.perf_counter()
        self._steps += 1
        if self._last is not None and self._steps > self.WARM_UP:
            self.examples += examples
            self.seconds += now - self._last[0]
            self.wait_s += wait_s - self._last[1]
        self._last = now, wait_s

    def pause(self) -> None:
        """What comes now is no training."""
        self._last = None

    @property
    def rate(self) -> float:
        """Examples a second; 0 before it is known."""
        return self.examples / self.seconds if self.seconds else 0.0

    @property
    def waiting(self) -> float:
        """Share of the time spent waiting for data, 0 to 1."""
        return self.wait_s / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, kw_only=True)
class Result:
    """One framework's run.

    Args:
        framework: its name.
        test_accuracy: on the whole test split after the last epoch, 0 to 1.
        test_loss: likewise, the mean cross-entropy.
        steps: of the whole run, those before a resume included.
        examples_per_s: of training in this process; compiling, evaluating and checkpoints left out.
        waiting: the share of that time spent waiting for data, 0 to 1.
        seconds: this process's run, everything included.
        parameters_sha256: digest of the trained parameters: dtypes, shapes and bits.
        history: its curves.
    """

    framework: str
    test_accuracy: float
    test_loss: float
    steps: int
    examples_per_s: float
    waiting: float
    seconds: float
    parameters_sha256: str
    history: dict[str, Any]
