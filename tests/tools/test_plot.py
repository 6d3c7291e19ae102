"""The curves are drawn, whatever the length of the run."""

import pytest

pytest.importorskip("matplotlib")

from matplotlib.image import imread

from tfjax.tools import plot
from tfjax.tools.result import Result


def result(framework, points, epochs):
    history = {
        "train": [{"epoch": (k + 1) * epochs / points, "loss": 2 / (k + 1)} for k in range(points)],
        "evaluations": [{"epoch": e, "accuracy": 1 - 0.5 / e, "loss": 1 / e} for e in range(1, epochs + 1)],
    }
    return Result(
        framework=framework,
        test_accuracy=history["evaluations"][-1]["accuracy"],
        test_loss=0.1,
        steps=points,
        examples_per_s=1.0,
        waiting=0.0,
        seconds=1.0,
        parameters_sha256="0" * 64,
        history=history,
    )


@pytest.mark.parametrize(("points", "epochs"), [(0, 1), (1, 1), (200, 10)])
def test_is_a_png_of_the_documented_size(tmp_path, points, epochs):
    path = tmp_path / "curves.png"
    plot.save([result(name, points or 1, epochs) for name in plot.COLOURS], path, title="a title")
    height, width = imread(path).shape[:2]
    assert (width, height) == (1650, 675)


def test_every_framework_has_a_colour():
    from tfjax.tools.cli import FRAMEWORKS

    assert set(plot.COLOURS) == set(FRAMEWORKS)
