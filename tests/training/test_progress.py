"""How a run goes, on a terminal and elsewhere."""

import io

import pytest

pytest.importorskip("rich")

from rich.console import Console

import tfjax
from tests.training import small
from tfjax.training import EarlyStopping
from tfjax.training.progress import reporter


def said(*, terminal, **options):
    console = Console(file=io.StringIO(), width=160, force_terminal=terminal)
    tfjax.fit(small.step, small.first(), small.pipe(), progress=reporter("mine", console), **options)
    return console.file.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_it_shows_loss_rate_waiting_and_evaluation(terminal):
    text = said(terminal=terminal, epochs=2, evaluate=(small.metrics, small.held_out()))
    for shown in ("mine", "loss", "ex", "wait", "error"):
        assert shown in text
    if not terminal:
        assert [line.split()[:3] for line in text.splitlines()] == [
            ["mine", "epoch", "1.00"],
            ["mine", "epoch", "2.00"],
        ]


def test_a_line_a_window_where_nothing_is_evaluated():
    lines = said(terminal=False, epochs=1).splitlines()
    assert len(lines) == small.STEPS
    assert all(" loss " in line and "|  " in line for line in lines)


def test_it_says_where_a_run_goes_on_and_why_it_ends(tmp_path):
    pytest.importorskip("orbax.checkpoint")
    options = {"terminal": False, "evaluate": (small.metrics, small.held_out()), "checkpoint_dir": tmp_path}
    said(epochs=1, **options)
    text = said(epochs=9, **options, callbacks=[EarlyStopping("error", min_delta=1e9)])
    assert f"mine      resumed at step {small.STEPS} of {9 * small.STEPS}\n" in text
    assert f"mine      stopped at step {3 * small.STEPS}: error was not better than" in text


def test_the_default_is_stderr(capsys):
    tfjax.fit(small.step, small.first(), small.pipe(), epochs=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch   1.00" in err
