"""Where the rows of a run are written while it goes: JSON lines, CSV, and any writer with `write_scalars`."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

from tfjax.training.callbacks import Callback
from tfjax.training.run import Row, Run


class JsonLines(Callback):
    """One JSON object a line: {"of": "train" | "evaluation", "step": ..., ...}; null for what is not finite.

    Args:
        path: the file; written anew when a run begins, with the history of a run that is resumed.

    Example:
        >>> from tfjax.training import JsonLines
        >>> callback = JsonLines("runs/metrics.jsonl")
    """

    def __init__(self, path: str | Path) -> None:
        """See the class."""
        self.path = Path(path)

    def on_begin(self, run: Run) -> None:
        """The rows up to where the run begins; none of a new one."""
        rows = [("train", row) for row in run.history.train] + [("evaluation", row) for row in run.history.evaluations]
        rows.sort(key=lambda pair: pair[1]["step"])  # stable: an evaluation comes after what was trained before it
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(self.path, "".join(_line(of, row) for of, row in rows))

    def on_log(self, run: Run, row: Row) -> None:  # noqa: ARG002 - of Callback
        """A line of the training."""
        self._add("train", row)

    def on_evaluation(self, run: Run, row: Row) -> None:  # noqa: ARG002 - of Callback
        """A line of an evaluation."""
        self._add("evaluation", row)

    def _add(self, of: str, row: Row) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(of, row))


class Csv(Callback):
    """A table of the rows that are logged, and another one of evaluations: NAME.csv and NAME-evaluation.csv.

    The columns may grow during a run, so the files are written anew, whole, each time a row is added.

    Args:
        path: NAME.csv.

    Raises:
        ValueError: the path does not end in .csv.

    Example:
        >>> from tfjax.training import Csv
        >>> callback = Csv("runs/metrics.csv")
    """

    def __init__(self, path: str | Path) -> None:
        """See the class."""
        self.path = Path(path)
        if self.path.suffix != ".csv":
            raise ValueError(f"Csv({str(path)!r}): name a file that ends in .csv")

    def on_log(self, run: Run, row: Row) -> None:  # noqa: ARG002 - of Callback
        """Write the training."""
        self._write(self.path, run.history.train)

    def on_evaluation(self, run: Run, row: Row) -> None:  # noqa: ARG002 - of Callback
        """Write the evaluations."""
        self._write(self.path.with_name(f"{self.path.stem}-evaluation.csv"), run.history.evaluations)

    def _write(self, path: Path, rows: list[Row]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = dict.fromkeys(name for row in rows for name in row)
        temporary = path.with_suffix(".csv.tmp")
        with temporary.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(columns))
            table.writeheader()
            table.writerows(rows)
        temporary.replace(path)


class MetricWriter(Callback):
    """Hands rows to a writer of another library: `clu.metric_writers`, or a TensorBoard `SummaryWriter`.

    Training rows keep their names; those of evaluations get the prefix "evaluation/".

    Args:
        writer: has `write_scalars(step, {name: number})`, as clu's have, or `add_scalar(name, number, step)`, as
            TensorBoard's of torch and tensorboardX have; flushed at the end, where it can be, and left open.

    Raises:
        TypeError: it has neither.

    Example:
        >>> from tfjax.training import MetricWriter
        >>> class Printed:
        ...     def write_scalars(self, step, scalars): print(step, scalars)
        >>> callback = MetricWriter(Printed())
    """

    def __init__(self, writer: Any) -> None:
        """See the class."""
        if not hasattr(writer, "write_scalars") and not hasattr(writer, "add_scalar"):
            raise TypeError(f"MetricWriter: {type(writer).__name__} has neither write_scalars nor add_scalar")
        self._writer = writer

    def on_log(self, run: Run, row: Row) -> None:  # noqa: ARG002 - of Callback
        """Hand on the training's."""
        self._write("", row)

    def on_evaluation(self, run: Run, row: Row) -> None:  # noqa: ARG002 - of Callback
        """Hand on an evaluation's."""
        self._write("evaluation/", row)

    def on_end(self, run: Run) -> None:  # noqa: ARG002 - of Callback
        """Flush the writer; who opened it closes it."""
        if hasattr(self._writer, "flush"):
            self._writer.flush()

    def _write(self, prefix: str, row: Row) -> None:
        step, scalars = int(row["step"]), {f"{prefix}{name}": v for name, v in row.items() if name != "step"}
        if hasattr(self._writer, "write_scalars"):
            self._writer.write_scalars(step, scalars)
            return
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)


def _line(of: str, row: Row) -> str:
    numbers = {name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in row.items()}
    return json.dumps({"of": of, **numbers}) + "\n"


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
