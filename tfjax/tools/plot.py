"""The curves of a run as a PNG: training loss and test accuracy, one colour a framework."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tfjax.tools.result import Result
from tfjax.training.plot import INK, dress

# Okabe and Ito's colours, told apart by colour-blind readers too: https://jfly.uni-koeln.de/color/
COLOURS = {"linen": "#0072B2", "nnx": "#56B4E9", "equinox": "#009E73", "haiku": "#E69F00", "keras": "#D55E00"}
SMOOTHED = 11  # points whose mean is one point of the bold loss curve
STYLE: Any = {
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def save(results: Sequence[Result], path: Path, *, title: str) -> None:
    """Draw the curves of `results` into a PNG of 1650 x 675 pixels."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 4.5), dpi=150, layout="constrained")
        left, right = figure.subplots(1, 2)
        for result in results:
            _curves(result, left, right)
        dress(left, "training loss", y_label="cross-entropy (log scale)")
        dress(right, "test accuracy", y_label="examples classified correctly")
        left.set_yscale("log")
        left.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        left.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))
        left.yaxis.set_minor_formatter(NullFormatter())
        right.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
        right.set_xlim(left=0)
        right.legend(loc="lower right", facecolor="white", edgecolor="none", framealpha=0.9)
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=12)
        figure.savefig(path)


def _curves(result: Result, left: Any, right: Any) -> None:
    colour = COLOURS[result.framework]
    if result.history["train"]:
        epochs, losses = np.asarray([(row["epoch"], row["loss"]) for row in result.history["train"]]).T
        left.plot(epochs, losses, color=colour, linewidth=0.7, alpha=0.3)
        left.plot(epochs, _moving_mean(losses), color=colour, linewidth=1.8)
    tested = result.history["evaluations"]
    label = f"{result.framework}  {result.test_accuracy:.1%}"
    epochs, shares = [t["epoch"] for t in tested], [t["accuracy"] for t in tested]
    right.plot(epochs, shares, color=colour, linewidth=1.8, marker="o", markersize=3.5, label=label)


def _moving_mean(values: Any) -> Any:
    """Centred; at the ends over the points that there are."""
    kernel = np.ones(min(SMOOTHED, len(values)))
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")
