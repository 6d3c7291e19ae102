"""How a run goes, while it does: a bar on a terminal, a line an evaluation or epoch elsewhere."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tfjax.training.callbacks import Callback
from tfjax.training.run import Row, Run

_HIDDEN = ("step", "epoch")
_REFRESH = 10  # updates of the bar a second


def reporter(name: str = "train", console: Console | None = None) -> Callback:
    """A bar where the console is a terminal, lines elsewhere; on stderr unless a console is given."""
    console = console or Console(file=sys.stderr)
    return Bar(console, name) if console.is_terminal else Lines(console, name)


class Lines(Callback):
    """One line an evaluation, or a window of updates where nothing is evaluated."""

    def __init__(self, console: Console, name: str) -> None:
        """To a console."""
        self._console, self._name, self._losses = console, name, list[float]()

    def on_begin(self, run: Run) -> None:
        """Says where it begins, when that is not step 0."""
        if run.batches:
            of = "" if run.steps is None else f" of {run.steps:,}"
            self._say(f"resumed at step {run.batches:,}{of}")

    def on_step(self, run: Run, row: Row) -> None:  # noqa: ARG002 - of Callback
        """Remembers the loss."""
        self._losses.append(row["loss"])

    def on_log(self, run: Run, row: Row) -> None:
        """A line where there will be none of an evaluation."""
        if not run.evaluates:
            self._line(run, row, "")

    def on_evaluation(self, run: Run, row: Row) -> None:
        """A line with the mean loss since the last one."""
        self._line(run, row, "".join(f"  {name} {shown(row[name])}" for name in row if name not in _HIDDEN))

    def on_end(self, run: Run) -> None:
        """Why it ended early."""
        if run.stopped:
            self._say(f"stopped at step {run.batches:,}: {run.stopped}")

    def _line(self, run: Run, row: Row, evaluated: str) -> None:
        loss = sum(self._losses) / max(1, len(self._losses))
        self._losses.clear()
        if evaluated:
            evaluated = f"  |{evaluated}"
        self._say(
            f"epoch {row['epoch']:>6.2f}  step {int(row['step']):>7,}  loss {loss:.4f}{evaluated}  |  "
            f"{run.meter.rate:>9,.0f} examples/s  waiting {run.meter.waiting:.0%}"
        )

    def _say(self, text: str) -> None:
        self._console.out(f"{self._name:<8}  {text}", highlight=False)


class Bar(Callback):
    """Steps, rate, loss, share of the time spent waiting for data, and the last evaluation."""

    def __init__(self, console: Console, name: str) -> None:
        """To a console that is a terminal."""
        self._name = name
        self._bar = Progress(
            TextColumn("[bold]{task.description:<8}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:>6,.0f} ex/s"),
            TextColumn("loss {task.fields[loss]:6.4f}"),
            TextColumn("waits {task.fields[waiting]:>3.0%}"),
            TextColumn("{task.fields[evaluated]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
            refresh_per_second=_REFRESH,
        )

    def on_begin(self, run: Run) -> None:
        """A new bar."""
        fields: dict[str, Any] = {"rate": 0.0, "loss": float("nan"), "waiting": 0.0, "evaluated": ""}
        self._task = self._bar.add_task(self._name, total=run.steps, completed=run.batches, **fields)
        self._bar.start()

    def on_step(self, run: Run, row: Row) -> None:
        """Moves the bar."""
        meter = run.meter
        self._bar.update(self._task, completed=run.batches, loss=row["loss"], rate=meter.rate, waiting=meter.waiting)

    def on_evaluation(self, run: Run, row: Row) -> None:  # noqa: ARG002 - of Callback
        """Shows its metrics."""
        shares = "  ".join(f"{name} {shown(row[name])}" for name in row if name not in _HIDDEN)
        self._bar.update(self._task, evaluated=shares)

    def on_end(self, run: Run) -> None:
        """The bar stays."""
        self._bar.stop()
        if run.stopped:
            self._bar.console.out(f"{self._name:<8}  stopped at step {run.batches:,}: {run.stopped}", highlight=False)


def shown(value: float) -> str:
    """Four digits.

    >>> shown(0.98765), shown(1234.5)
    ('0.9877', '1234')
    """
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.0f}"
