"""The table and the progress: plain lines where the output is no terminal."""

import io

import pytest

pytest.importorskip("rich")

from rich.console import Console

from tfjax.tools import progress, table
from tfjax.tools.history import Meter, Result

RESULT = Result(
    framework="equinox",
    test_accuracy=0.98765,
    test_loss=0.05,
    steps=100,
    examples_per_s=123456.7,
    waiting=0.034,
    seconds=12.34,
    parameters_sha256="0123456789abcdef" * 4,
    history={},
)


def console(**options):
    return Console(file=io.StringIO(), **options)


def test_a_row_begins_with_the_framework_and_shows_one_decimal():
    out = console(width=20)
    table.show([RESULT, Result(**{**RESULT.__dict__, "framework": "nnx", "examples_per_s": 0.0})], out)
    header, first, second = out.file.getvalue().splitlines()  # narrower than a row, and still a line a row
    assert header.split() == " ".join(table.HEADERS).split()
    assert first.split() == ["equinox", "98.8%", "123,457", "3%", "12.3", "0123456789ab"]
    assert second.split() == ["nnx", "98.8%", "-", "-", "12.3", "0123456789ab"]
    assert len(header) == len(first) == len(second)


def test_a_terminal_gets_a_drawn_table():
    out = console(width=100, force_terminal=True)
    table.show([RESULT], out)
    assert "98.8%" in out.file.getvalue()
    assert "┃" in out.file.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_shows_loss_rate_waiting_and_accuracy(terminal):
    out = console(width=120, force_terminal=terminal)
    meter = Meter()
    meter.examples, meter.seconds, meter.wait_s = 12_000, 2.0, 0.5
    with progress.report(out) as report:
        report.begin("haiku", steps=20, done=0)
        for step in range(1, 21):
            report.step(step, 0.25, meter)
        report.epoch(1, 0.956, meter)
    text = out.file.getvalue()
    for shown in ("haiku", "0.2500", "6,000", "25%", "95.6%"):
        assert shown in text


def test_lines_say_where_a_resumed_run_begins():
    out = console(width=10)
    with progress.report(out) as report:
        report.begin("linen", steps=2000, done=1200)
    assert out.file.getvalue() == "linen     resumed at step 1,200 of 2,000\n"
