"""What a run of `fit` has logged: rows of plain numbers, and a picture of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, float]


@dataclass(kw_only=True)
class History:
    """The metrics of one run; plain numbers, so that a checkpoint holds it and a resumed run goes on with it.

    Args:
        window: updates whose mean is one row of `train`.
        train: "step", "epoch", and the mean of each metric over a window.
        evaluations: "step", "epoch", and the metrics of each evaluation.
        updates: of the parameters, so far; those that were left out do not count.
        skipped: the elements of the pipeline (batches, or stacks of them) that were left out, as their loss was not
            finite, counted from 1.
        pending: of the window that is not full yet, by metric.

    Example:
        >>> history = History(window=2)
        >>> for step in (1, 2, 3):
        ...     row = history.add({"step": step, "epoch": step / 4, "loss": 1 / step})
        >>> history.train
        [{'step': 2, 'epoch': 0.5, 'loss': 0.75}]
    """

    window: int
    train: list[Row] = field(default_factory=list)
    evaluations: list[Row] = field(default_factory=list)
    updates: int = 0
    skipped: list[int] = field(default_factory=list)
    pending: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> Row | None:
        """Note the metrics of one update; the row of a window that it fills."""
        self.pending.append(row)
        return self.flush() if len(self.pending) >= self.window else None

    def flush(self) -> Row | None:
        """The row of a window that may not be full; None where it is empty."""
        if not self.pending:
            return None
        rows, self.pending = self.pending, []
        last = rows[-1]
        means = {name: sum(r[name] for r in rows if name in r) / sum(name in r for r in rows) for name in last}
        self.train.append(means | {"step": last["step"], "epoch": last["epoch"]})
        return self.train[-1]

    def to_json(self) -> dict[str, Any]:
        """What `History(**fields)` takes."""
        return asdict(self)

    def column(self, name: str, *, of: str = "train") -> list[float]:
        """One metric, row by row.

        Raises:
            KeyError: no row has it; names those that there are.
        """
        rows: list[Row] = getattr(self, of)
        there = sorted({key for row in rows for key in row})
        if name not in there:
            raise KeyError(f"no {name!r} in history.{of}, which has {there}")
        return [row[name] for row in rows if name in row]

    def plot(self, path: str | Path | None = None) -> Any:
        """A figure with a panel for each metric, of the training and of the evaluations; a PNG where a path is given.

        Raises:
            ImportError: matplotlib is missing; names the extra.
            ValueError: nothing was logged.
        """
        try:
            from tfjax.training.plot import figure_of
        except ImportError as error:
            raise ImportError(f"history.plot needs {error.name!r}: pip install 'tfjax[cli]'") from error
        figure = figure_of(self)
        if path is not None:
            figure.savefig(path)
        return figure
