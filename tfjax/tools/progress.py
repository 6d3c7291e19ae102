"""How a run goes, while it does: a bar a framework on a terminal, a line an epoch elsewhere."""

from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tfjax.tools.history import Meter


class Report(Protocol):
    """Where a run says how it goes; it is entered before the first run and left after the last one."""

    def __enter__(self) -> Self:
        """Start reporting."""
        ...

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None) -> None:
        """End reporting."""

    def begin(self, framework: str, *, steps: int, done: int) -> None:
        """A run of `steps` steps, `done` of which a checkpoint holds."""

    def step(self, step: int, loss: float, meter: Meter) -> None:
        """`step` steps are done."""

    def epoch(self, epoch: int, accuracy: float, meter: Meter) -> None:
        """An epoch is done and evaluated."""


def report(console: Console) -> Report:
    """Bars where the console is a terminal, lines elsewhere."""
    return Bars(console) if console.is_terminal else Lines(console)


class Lines:
    """One line an epoch."""

    def __init__(self, console: Console) -> None:
        """To a console."""
        self._console = console
        self._framework = ""
        self._losses: list[float] = []

    def __enter__(self) -> Self:
        """Nothing to open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def begin(self, framework: str, *, steps: int, done: int) -> None:
        """Says where it begins, when that is not step 0."""
        self._framework = framework
        if done:
            self._console.out(f"{framework:<8}  resumed at step {done:,} of {steps:,}", highlight=False)

    def step(self, step: int, loss: float, meter: Meter) -> None:  # noqa: ARG002 - of the protocol
        """Remembers the loss."""
        self._losses.append(loss)

    def epoch(self, epoch: int, accuracy: float, meter: Meter) -> None:
        """Prints the line, with the mean loss since the last one."""
        loss = sum(self._losses) / max(1, len(self._losses))
        self._losses.clear()
        self._console.out(
            f"{self._framework:<8}  epoch {epoch:>3}  loss {loss:.4f}  test {accuracy:>6.1%}  "
            f"{meter.rate:>9,.0f} examples/s  waiting {meter.waiting:.0%}",
            highlight=False,
        )


class Bars:
    """One bar a framework: steps, rate, loss, share of the time spent waiting for data, test accuracy."""

    def __init__(self, console: Console) -> None:
        """To a console that is a terminal."""
        self._bars = Progress(
            TextColumn("[bold]{task.description:<8}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:>6,.0f} ex/s"),
            TextColumn("loss {task.fields[loss]:6.4f}"),
            TextColumn("waits {task.fields[waiting]:>3.0%}"),
            TextColumn("test {task.fields[test]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
        )

    def __enter__(self) -> Self:
        """Start drawing."""
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing; the bars stay."""
        self._bars.stop()

    def begin(self, framework: str, *, steps: int, done: int) -> None:
        """A new bar."""
        fields: dict[str, Any] = {"rate": 0.0, "loss": float("nan"), "waiting": 0.0, "test": "     -"}
        self._task = self._bars.add_task(framework, total=steps, completed=done, **fields)

    def step(self, step: int, loss: float, meter: Meter) -> None:
        """Moves the bar."""
        self._bars.update(self._task, completed=step, loss=loss, rate=meter.rate, waiting=meter.waiting)

    def epoch(self, epoch: int, accuracy: float, meter: Meter) -> None:  # noqa: ARG002 - of the protocol
        """Shows the accuracy."""
        self._bars.update(self._task, test=f"{accuracy:>6.1%}")
