"""Each script of examples/ runs with few epochs, ends with its figures, and goes on where it was stopped."""

import os
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


def run(script, monkeypatch, capsys, *arguments):
    """What a script prints, and what `fit` reports beside it, without its speed."""
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    runpy.run_path(str(FOLDER / f"{script}.py"), run_name="__main__")
    said = capsys.readouterr()
    reported = [re.sub(r"\s*\|[^|]*waiting.*", "", line) for line in said.err.splitlines() if line.startswith("train")]
    return said.out.splitlines(), reported


def goes_on_from_its_first_checkpoint(script, monkeypatch, capsys, folder, *arguments):
    """Run 2 epochs, take the later checkpoint away, as if the run had been stopped, and run again: the same end."""
    given = "--epochs", 2, "--checkpoint-dir", folder, *arguments
    printed, (first, second) = run(script, monkeypatch, capsys, *given)
    half, whole = sorted((int(path.name), path) for path in folder.iterdir())
    shutil.rmtree(whole[1])
    resumed = f"train     resumed at step {half[0]} of {whole[0]}"
    assert run(script, monkeypatch, capsys, *given) == (printed, [resumed, second])
    assert first != second
    return printed


def test_a_stopped_run_goes_on_when_the_command_is_given_again(digits_dir, tmp_path, monkeypatch, capsys):
    pytest.importorskip("haiku")
    monkeypatch.setenv("TFDS_DATA_DIR", str(digits_dir))
    printed = goes_on_from_its_first_checkpoint("haiku_digits", monkeypatch, capsys, tmp_path)
    assert re.fullmatch(r"haiku: test accuracy \d+\.\d%", printed[-1])


def test_tokens_are_learned(monkeypatch, capsys):
    pytest.importorskip("equinox")
    (figure, *text), _ = run("tokens_equinox", monkeypatch, capsys, "--epochs", 1, "--kilobytes", 100)
    found = re.fullmatch(r"tokens: (\d\.\d+) bits per byte", figure)
    assert found
    assert float(found[1]) < 7  # 8 before it has learned
    assert text[0].startswith("    def ")


def test_eight_devices_hold_a_part_each(digits_dir, monkeypatch, capsys):
    pytest.importorskip("haiku")
    monkeypatch.setenv("TFDS_DATA_DIR", str(digits_dir))
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"])  # which the script adds to
    (start, end), _ = run("eight_devices_haiku", monkeypatch, capsys, "--epochs", 1, "--batch-size", 256)
    found = re.fullmatch(r"8 devices: 32 images each, ([\d,]+) of ([\d,]+) bytes of parameters each", start)
    assert found
    own, whole = (int(size.replace(",", "")) for size in found.groups())
    assert own < whole / 4
    assert re.fullmatch(r"eight_devices: test accuracy \d+\.\d%", end)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit and the figures are those of Linux")
def test_records_are_trained_on_with_limited_memory(monkeypatch, capsys):
    pytest.importorskip("flax")
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    (memory, end), _ = run("larger_than_memory_nnx", monkeypatch, capsys, "--megabytes", 10)
    assert re.fullmatch(r"10 MB of records, at most \d+ MB more than at the start", memory)
    assert re.fullmatch(r"larger_than_memory: test accuracy \d+\.\d%", end)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


@pytest.mark.slow
@pytest.mark.timeout(300)  # the same network is compiled twice
def test_photos_train_a_resnet_that_goes_on_from_its_checkpoint(shared_data, tmp_path, monkeypatch, capsys):
    pytest.importorskip("flax")
    small = "--photos", shared_data / "flowers", "--side", 16, "--batch-size", 64
    start, end = goes_on_from_its_first_checkpoint("flowers_resnet", monkeypatch, capsys, tmp_path, *small)
    assert start == "daisy, dandelion, roses, sunflowers, tulips: 3 batches an epoch"
    assert re.fullmatch(r"flowers: validation accuracy \d+\.\d%", end)


@pytest.mark.slow
@pytest.mark.timeout(300)  # the same network is compiled twice
def test_photos_with_metadata_go_on_from_their_backup(shared_data, tmp_path, monkeypatch, capsys):
    pytest.importorskip("keras")
    first, replace = tmp_path / "first", pathlib.Path.replace

    def lines(folder):
        small = ["--epochs", "2", "--side", "16", "--batch-size", "64", "--backup", str(folder)]
        monkeypatch.setattr(sys, "argv", ["photos.py", "--photos", str(shared_data / "flowers"), *small])
        runpy.run_path(str(FOLDER / "photos_with_metadata_keras.py"), run_name="__main__")
        assert not list(folder.iterdir())
        return [re.sub(r"\d+m?s(/step)?", "", line) for line in capsys.readouterr().out.splitlines()]

    def copied(part, target):
        """A backup is put in place; the first is kept elsewhere, as a run that is killed leaves it."""
        done = replace(part, target)
        if target.name == "backup.npz" and not first.exists():
            first.mkdir()
            shutil.copy(target, first)
        return done

    monkeypatch.setattr(pathlib.Path, "replace", copied)
    start, *both, end = lines(tmp_path / "run")
    assert both[0] == "Epoch 1/2"
    assert re.fullmatch(r"photos: validation accuracy \d+\.\d%", end)
    assert lines(first) == [start, *both[both.index("Epoch 2/2") :], end]


@pytest.mark.parametrize(("script", "library"), [("flowers_resnet", "flax"), ("photos_with_metadata_keras", "keras")])
def test_without_photos_the_script_says_what_it_needs(script, library, monkeypatch, capsys, tmp_path):
    pytest.importorskip(library)
    for given, said in ([], "required: --photos"), (["--photos", str(tmp_path / "none")], "there is no such folder"):
        monkeypatch.setattr(sys, "argv", [script, *given])
        with pytest.raises(SystemExit):
            runpy.run_path(str(FOLDER / f"{script}.py"), run_name="__main__")
        assert said in capsys.readouterr().err
