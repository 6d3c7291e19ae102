"""Windows of metrics, and their picture."""

import math

import pytest

from tfjax.training import History
from tfjax.training.meter import Meter


def row(step, loss):
    return {"step": step, "epoch": step / 4, "loss": loss}


def test_a_row_is_the_mean_of_a_window():
    history = History(window=2)
    assert [history.add(row(step, loss)) for step, loss in enumerate([3.0, 1.0, 5.0], 1)] == [None, row(2, 2.0), None]
    assert history.flush() == row(3, 5.0)
    assert history.flush() is None
    assert history.train == [row(2, 2.0), row(3, 5.0)]


def test_a_metric_that_was_not_always_there_is_the_mean_of_where_it_was():
    history = History(window=2)
    history.add(row(1, 1.0))
    assert history.add(row(2, 3.0) | {"norm": 7.0})["norm"] == 7.0


def test_a_column_that_is_not_there_names_those_that_are():
    history = History(window=1)
    history.add(row(1, 1.0))
    assert history.column("loss") == [1.0]
    with pytest.raises(KeyError, match=r"no 'acc' in history.train, which has \['epoch', 'loss', 'step'\]"):
        history.column("acc")


@pytest.mark.parametrize(("points", "metrics", "size"), [(1, 1, (825, 540)), (9, 3, (1650, 1080))])
def test_the_picture_has_a_panel_for_each_metric(points, metrics, size, tmp_path):
    imread = pytest.importorskip("matplotlib.image").imread
    history = History(window=1)
    for step in range(1, points + 1):
        history.add(row(step, 1 / step) | {f"m{i}": float(i) for i in range(1, metrics)})
    history.evaluations.append({"step": points, "epoch": points / 4, "loss": 0.5})
    figure = history.plot(tmp_path / "h.png")
    height, width = imread(tmp_path / "h.png").shape[:2]
    assert (width, height) == size
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert titles == ["loss", *(f"m{i}" for i in range(1, metrics))]


def test_nothing_is_no_picture():
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="nothing was logged yet"):
        History(window=1).plot()


def test_rate_and_waiting_leave_out_what_is_no_training(monkeypatch):
    now = iter([2.0, 4.0, 50.0, 52.0])  # an evaluation until 50
    monkeypatch.setattr("tfjax.training.meter.time.perf_counter", lambda: next(now))
    meter = Meter()
    meter.add(8, 9.0)
    assert (meter.rate, meter.waiting, meter.started) == (0.0, 0.0, False)
    meter.start(0.5)
    meter.add(8, 1.0)
    meter.start(30.0)
    meter.add(8, 30.5)
    assert math.isclose(meter.rate, 16 / 4)
    assert math.isclose(meter.waiting, 1 / 4)
