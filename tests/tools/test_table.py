"""The table: plain lines where the output is no terminal."""

import io

import pytest

pytest.importorskip("rich")

from rich.console import Console

from tfjax.tools import table
from tfjax.tools.result import Result

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
