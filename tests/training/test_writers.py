"""Rows that are written while a run goes."""

import csv
import json

import pytest

pytest.importorskip("orbax.checkpoint")

import tfjax
from tests.training import small
from tfjax.training import Callback, Checkpoints, Csv, JsonLines, LearningRate, MetricWriter


def fit(callbacks, **options):
    evaluate = (small.metrics, small.held_out())
    return tfjax.fit(small.step, small.first(), small.pipe(), callbacks=callbacks, evaluate=evaluate, **options)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_json_lines_are_the_history(tmp_path):
    path = tmp_path / "runs" / "m.jsonl"
    history = fit([JsonLines(path)], epochs=2, progress=False).history
    assert [row for row in lines(path) if row.pop("of") == "train"] == history.train
    assert [row for row in lines(path) if row.pop("of") == "evaluation"] == history.evaluations


def test_json_lines_of_a_run_that_was_cut_have_each_step_once(tmp_path):
    path, where = tmp_path / "m.jsonl", Checkpoints(tmp_path / "c", every=3)

    class Cut(Callback):
        def on_step(self, _, row):
            if row["step"] == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit([JsonLines(path), Cut()], epochs=2, progress=False, checkpoint_dir=where)
    with path.open("a") as file:
        file.write('{"of": "train", "st')  # as a kill may leave it
    fit([JsonLines(path)], epochs=2, progress=False, checkpoint_dir=where)
    steps = [row["step"] for row in lines(path) if row["of"] == "train"]
    assert steps == list(range(1, 2 * small.STEPS + 1))


def test_json_lines_are_json_where_numbers_are_not_finite(tmp_path):
    class Odd(Callback):
        def on_log(self, _, row):
            row |= {"nan": float("nan"), "inf": float("inf")}

    fit([Odd(), JsonLines(tmp_path / "m.jsonl")], epochs=1, progress=False)
    strict = [json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert (strict[0]["nan"], strict[0]["inf"]) == (None, None)


def test_a_new_run_writes_its_files_anew(tmp_path):
    for epochs in (2, 1):
        fit([JsonLines(tmp_path / "m.jsonl"), Csv(tmp_path / "m.csv")], epochs=epochs, progress=False)
    assert len(lines(tmp_path / "m.jsonl")) == small.STEPS + 1
    assert len((tmp_path / "m.csv").read_text().splitlines()) == small.STEPS + 1


def test_csv_has_the_columns_that_callbacks_add(tmp_path):
    path = tmp_path / "m.csv"
    history = fit([LearningRate(lambda step: 0.1 * step), Csv(path)], epochs=1, progress=False).history
    with path.open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert rows == history.train
    assert [row["learning_rate"] for row in rows] == [0.1 * step for step in range(small.STEPS)]
    with (tmp_path / "m-evaluation.csv").open() as file:
        assert [float(row["error"]) for row in csv.DictReader(file)] == history.column("error", of="evaluations")


def test_csv_wants_its_suffix():
    with pytest.raises(ValueError, match=r"Csv\('metrics'\): name a file that ends in \.csv"):
        Csv("metrics")


def test_other_writers_are_handed_the_rows():
    class Clu:
        def __init__(self):
            self.written = []

        def write_scalars(self, step, scalars):
            self.written.append((step, scalars))

        def close(self):
            raise AssertionError("it is its owner's to close")

    class Board:
        def __init__(self):
            self.written, self.flushed = [], False

        def add_scalar(self, name, value, step):
            self.written.append((name, value, step))

        def flush(self):
            self.flushed = True

    clu, board = Clu(), Board()
    history = fit([MetricWriter(clu), MetricWriter(board)], epochs=1, progress=False).history
    assert board.flushed
    assert [scalars["loss"] for _, scalars in clu.written if "loss" in scalars] == history.column("loss")
    assert clu.written[-1][1]["evaluation/error"] == history.evaluations[0]["error"]
    assert [value for name, value, _ in board.written if name == "loss"] == history.column("loss")
    with pytest.raises(TypeError, match="list has neither write_scalars nor add_scalar"):
        MetricWriter([])
