"""The metrics of a run as a figure: one panel for each, the training's and the evaluations' together."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tfjax.training.history import History

# Okabe and Ito's blue and vermillion, told apart by colour-blind readers too: https://jfly.uni-koeln.de/color/
COLOURS = {"train": "#0072B2", "evaluations": "#D55E00"}
LABELS = {"train": "training", "evaluations": "evaluation"}
INK, FAINT = "#333333", "#dddddd"
_WIDTH, _HEIGHT, _COLUMNS = 5.5, 3.6, 2


def figure_of(history: History) -> Figure:
    """A figure of 150 dots an inch.

    Raises:
        ValueError: nothing was logged.
    """
    names = _names(history)
    if not names:
        raise ValueError("history.plot: nothing was logged yet")
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(_WIDTH * columns, _HEIGHT * rows), dpi=150, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        _draw(axes, history, name)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    return figure


def _names(history: History) -> list[str]:
    rows = [*history.train, *history.evaluations]
    return [name for name in dict.fromkeys(key for row in rows for key in row) if name not in ("step", "epoch")]


def _draw(axes: Any, history: History, name: str) -> None:
    by = "epoch" if any(row.get("epoch") for row in [*history.train, *history.evaluations]) else "step"
    for of, marker in (("train", ""), ("evaluations", "o")):
        rows = [row for row in getattr(history, of) if name in row]
        if rows:
            x, y = [row[by] for row in rows], [row[name] for row in rows]
            alone = {"marker": marker or ("." if len(rows) == 1 else ""), "markersize": 4}
            axes.plot(x, y, color=COLOURS[of], linewidth=1.6, label=LABELS[of], **alone)
    dress(axes, name, x_label=by)
    axes.legend(frameon=False, labelcolor=INK)


def dress(axes: Any, title: str, *, x_label: str = "epoch", y_label: str = "") -> None:
    """Title, grid and quiet axes."""
    axes.set_title(title, loc="left", fontsize=10.5, color=INK)
    axes.set_xlabel(x_label, color=INK)
    axes.set_ylabel(y_label, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(True, color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(which="both", length=0, labelcolor=INK)
