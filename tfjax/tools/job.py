"""One framework's run, handed to the loop that trains it."""

from dataclasses import asdict, dataclass
from typing import Any

from tfjax.tools.checkpoint import Checkpoints, Saved
from tfjax.tools.data import Data
from tfjax.tools.history import History, Meter
from tfjax.tools.progress import Report
from tfjax.tools.settings import TrainSettings

POINTS = 200  # of a loss curve


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a loop is given: the framework's module, the data, the settings, where to save and to report."""

    framework: str
    module: Any
    data: Data
    settings: TrainSettings
    checkpoints: Checkpoints
    report: Report
    meter: Meter

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return len(self.data.train)

    @property
    def steps(self) -> int:
        """Batches of the whole run."""
        return self.settings.epochs * self.steps_per_epoch

    def begin(self, saved: Saved | None) -> History:
        """Start reporting; the curves so far, or empty ones."""
        self.report.begin(self.framework, steps=self.steps, done=saved.step if saved else 0)
        if saved:
            return History(**saved.history)
        return History(steps_per_epoch=self.steps_per_epoch, window=max(1, self.steps // POINTS))

    def after_step(self, history: History, step: int, loss: float, wait_s: float) -> None:
        """Note the loss of step `step`, counted from 1."""
        self.meter.step(self.settings.batch_size, wait_s)
        history.add_loss(step, loss)
        self.report.step(step, loss, self.meter)

    def after_epoch(self, history: History, step: int, *, accuracy: float, loss: float) -> None:
        """Note the test of the epoch that ends with `step`."""
        epoch = step // self.steps_per_epoch
        history.add_test(epoch, accuracy=accuracy, loss=loss)
        self.report.epoch(epoch, accuracy, self.meter)
        self.meter.pause()

    def save(self, history: History, step: int, state: Any, position: str) -> None:
        """Write a checkpoint, if they are kept."""
        if not self.checkpoints.kept:
            return
        self.checkpoints.save(step, state, position=position, history=asdict(history))
        self.meter.pause()
