"""The curves and the rate of a run."""

import json
from dataclasses import asdict

import pytest

from tfjax.tools import history
from tfjax.tools.history import History, Meter


def test_a_point_is_the_mean_of_a_window():
    curves = History(steps_per_epoch=4, window=2)
    for step, loss in enumerate([3.0, 1.0, 5.0, 7.0, 2.0], 1):
        curves.add_loss(step, loss)
    assert curves.loss == [(0.5, 2.0), (1.0, 6.0)]
    assert curves.pending == [2.0]


def test_it_goes_on_after_json_as_if_nothing_had_been():
    whole, first = (History(steps_per_epoch=4, window=3) for _ in range(2))
    for step in range(1, 9):
        whole.add_loss(step, step / 7)
    for step in range(1, 5):
        first.add_loss(step, step / 7)
    second = History(**json.loads(json.dumps(asdict(first))))
    for step in range(5, 9):
        second.add_loss(step, step / 7)
    assert json.dumps(asdict(second)) == json.dumps(asdict(whole))


def test_rate_and_waiting_leave_out_what_is_no_training(monkeypatch):
    now = iter([2.0, 7.0, 10.0, 11.0, 12.0, 50.0, 52.0])  # compiled until 10; the step after the pause ends at 50
    monkeypatch.setattr(history.time, "perf_counter", lambda: next(now))
    meter = Meter()
    assert (meter.rate, meter.waiting) == (0.0, 0.0)
    for _ in range(meter.WARM_UP):
        meter.step(8, 0.5)
    assert meter.rate == 0.0
    meter.step(8, 0.75)
    meter.step(8, 1.0)
    meter.pause()
    meter.step(8, 30.0)
    meter.step(8, 30.5)
    assert meter.rate == pytest.approx(3 * 8 / 4)
    assert meter.waiting == pytest.approx(1 / 4)
