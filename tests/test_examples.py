"""Each script of examples/ runs with one epoch, and ends with a test accuracy."""

import pathlib
import re
import runpy
import sys

import pytest

EXAMPLES = sorted(pathlib.Path(__file__).resolve().parent.parent.glob("examples/*_digits.py"))
LIBRARY = {"linen": "flax", "nnx": "flax"}


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_runs(script, digits_dir, monkeypatch, capsys):
    framework = script.stem.removesuffix("_digits")
    pytest.importorskip(LIBRARY.get(framework, framework))
    monkeypatch.setenv("TFDS_DATA_DIR", str(digits_dir))
    monkeypatch.setattr(sys, "argv", [str(script), "--epochs", "3"])
    runpy.run_path(str(script), run_name="__main__")
    found = re.search(rf"^{framework}: test accuracy (\d+\.\d)%", capsys.readouterr().out, re.MULTILINE)
    assert found
    assert float(found[1]) > 60  # of 10 classes; what full training reaches is for `make run` to show


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_is_short(script):
    assert len(script.read_text(encoding="utf-8").splitlines()) < 80
