"""Each script of examples/ runs with few epochs; those that train end with a test accuracy."""

import pathlib
import re
import runpy
import shutil
import sys

import pytest

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "examples"
EXAMPLES = [*sorted(FOLDER.glob("*_digits.py")), FOLDER / "adaptive_randaugment.py"]
LIBRARY = {"linen": "flax", "nnx": "flax", "adaptive_randaugment": "flax"}


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


def test_a_pallas_kernel_resumes_with_the_same_bits(digits_dir, monkeypatch, capsys):
    monkeypatch.setenv("TFDS_DATA_DIR", str(digits_dir))
    monkeypatch.setattr(sys, "argv", ["pallas_augment.py", "--epochs", "1"])
    runpy.run_path(str(EXAMPLES[0].with_name("pallas_augment.py")), run_name="__main__")
    assert re.search(r"from batch 11 on: (\w{16}); resumed there: \1$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.timeout(300)  # the same network is compiled twice
def test_photos_train_a_resnet_that_goes_on_from_its_checkpoint(shared_data, tmp_path, monkeypatch, capsys):
    pytest.importorskip("flax")
    checkpoint, rename = tmp_path / "run.msgpack", pathlib.Path.rename

    def lines(path):
        small = ["--epochs", "2", "--side", "16", "--batch-size", "64", "--checkpoint", str(path)]
        monkeypatch.setattr(sys, "argv", ["flowers_resnet.py", "--photos", str(shared_data / "flowers"), *small])
        runpy.run_path(str(FOLDER / "flowers_resnet.py"), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    def copied(part, target):
        """A checkpoint is put in place; the first is kept beside it."""
        rename(part, target)
        if target == checkpoint and not (tmp_path / "first.msgpack").exists():
            shutil.copy(target, tmp_path / "first.msgpack")

    monkeypatch.setattr(pathlib.Path, "rename", copied)
    start, _, second, end = lines(checkpoint)
    assert start == "daisy, dandelion, roses, sunflowers, tulips: 3 batches an epoch, from batch 0 on"
    assert re.fullmatch(r"flowers: validation accuracy \d+\.\d% of 50 photos", end)
    assert lines(tmp_path / "first.msgpack") == [start.replace("batch 0", "batch 3"), second, end]


def test_without_photos_the_script_says_what_it_needs(monkeypatch, capsys, tmp_path):
    pytest.importorskip("flax")
    for given, said in ([], "required: --photos"), (["--photos", str(tmp_path / "none")], "there is no such folder"):
        monkeypatch.setattr(sys, "argv", ["flowers_resnet.py", *given])
        with pytest.raises(SystemExit):
            runpy.run_path(str(FOLDER / "flowers_resnet.py"), run_name="__main__")
        assert said in capsys.readouterr().err
