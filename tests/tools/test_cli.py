"""`tfjax train` on digits, and what it refuses."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("flax")

import tfjax
from tests import python_process
from tfjax.tools import cli


@pytest.fixture
def train(digits_dir, tmp_path):
    """Calls `tfjax train digits` in this process, its output in a folder of the test's own."""

    def call(*arguments, name="digits"):
        common = ["--data-dir", str(digits_dir), "--out", str(tmp_path / "out")]
        return cli.main(["train", name, *common, *arguments])

    return call


@pytest.fixture
def figures(tmp_path):
    """What the run wrote."""
    return lambda: json.loads((tmp_path / "out" / "result.json").read_text())


def test_trains_and_shows_how_it_went(train, figures, tmp_path, capsys):
    assert train("--framework", "linen", "--epochs", "4", "--batch-size", "64") == 0
    lines = capsys.readouterr().out.splitlines()
    accuracy = figures()["results"][0]["test_accuracy"]
    assert accuracy > 0.9
    table = [line for line in lines if line.startswith("linen") and "epoch" not in line]
    assert len(table) == 1
    assert f"{accuracy:.1%}" in table[0]
    assert sum(line.startswith("linen     epoch") and "accuracy 0." in line for line in lines) == 4
    assert (tmp_path / "out" / "curves.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], r"--resume without --checkpoint-dir"),
        (["--learning-rate", "0"], r"--learning-rate 0.0 is not above 0"),
        (["--batch-size", "5000"], r"--batch-size 5000 is more than the \d+ examples of digits train"),
        (["--split-train", "trian"], r"trian"),
        (["--split-test", "validation"], r"validation"),
    ],
)
def test_refuses(train, capsys, arguments, message):
    assert train(*arguments) == cli.USAGE_ERROR
    err = capsys.readouterr().err
    assert err.startswith("tfjax: ")
    assert "Traceback" not in err
    assert re.search(message, err)


@pytest.mark.parametrize("option", ["--out", "--checkpoint-dir"])
def test_a_file_in_place_of_a_folder_is_refused(train, tmp_path, capsys, option):
    (tmp_path / "file").write_text("")
    assert train("--epochs", "1", option, str(tmp_path / "file")) == cli.USAGE_ERROR
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert re.search(r"^tfjax: .*file", err)


def test_an_unknown_dataset_is_tfjax_own_error(train, capsys):
    assert train(name="digit") == cli.USAGE_ERROR
    assert "digits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--framework", "torch"], "invalid choice: 'torch'"),
        (["--epochs", "0"], "'0' is no whole number of 1 or more"),
        (["--batch-size", "many"], "'many' is no whole number"),
    ],
)
def test_argparse_refuses(train, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        train(*arguments)
    assert message in capsys.readouterr().err


def test_a_dataset_without_images_is_refused(monkeypatch, train, capsys):
    import numpy as np

    texts = tfjax.from_arrays({"text": np.array(["a", "b"]), "label": np.arange(2)})
    monkeypatch.setattr(tfjax, "load", lambda *_, **__: texts)
    assert train() == cli.USAGE_ERROR
    assert "has no ['image'], and `train` needs image and label: it has ['label', 'text']" in capsys.readouterr().err


def test_a_missing_framework_names_the_extra(monkeypatch, train, capsys):
    monkeypatch.setitem(sys.modules, "haiku", None)
    monkeypatch.delitem(sys.modules, "tfjax.frameworks.haiku", raising=False)
    assert train("--framework", "haiku") == cli.USAGE_ERROR
    assert "pip install 'tfjax[haiku]'" in capsys.readouterr().err


def test_a_missing_drawing_library_names_the_extra(monkeypatch, train, capsys):
    for module in [m for m in sys.modules if m.startswith(("rich", "tfjax.tools."))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert train() == cli.USAGE_ERROR
    assert "pip install 'tfjax[cli]'" in capsys.readouterr().err


def test_help_loads_no_framework():
    code = """
import sys
from tfjax.tools.cli import main
try:
    main(["train", "--help"])
except SystemExit:
    heavy = {"jax", "tensorflow", "flax", "keras", "rich"} & set(sys.modules)
    sys.exit(str(heavy) if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--checkpoint-dir" in done.stdout


def start(digits_dir, folder, *arguments):
    command = [
        sys.executable,
        "-m",
        "tfjax",
        "train",
        "digits",
        "--data-dir",
        str(digits_dir),
        "--out",
        str(folder / "out"),
    ]
    return subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process, timeout_s=100):
    end = time.monotonic() + timeout_s
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            pytest.fail(f"ended with {process.returncode}: {process.communicate()}")
        time.sleep(0.002)


LONG = ["--framework", "linen", "--epochs", "2", "--batch-size", "32", "--checkpoint-every", "8"]  # 44 steps an epoch


@pytest.mark.slow
def test_resumes_after_a_kill_to_the_same_bits(digits_dir, tmp_path, train, figures):
    checkpoints = tmp_path / "checkpoints"
    process = start(digits_dir, tmp_path, *LONG, "--checkpoint-dir", str(checkpoints))
    wait_for(lambda: any((checkpoints / "linen" / str(step)).is_dir() for step in (48, 56)), process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not list((tmp_path / "out").iterdir())
    assert train(*LONG, "--checkpoint-dir", str(checkpoints), "--resume") == 0
    resumed = figures()["results"][0]
    assert train(*LONG) == 0
    whole = figures()["results"][0]
    for name in ("parameters_sha256", "test_accuracy", "test_loss", "steps", "history"):
        assert resumed[name] == whole[name], name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "message"),
    [
        (signal.SIGINT, cli.INTERRUPTED, "interrupted (the same command with --resume goes on)"),
        (signal.SIGTERM, 143, "terminated (the same command with --resume goes on)"),
    ],
)
def test_a_signal_ends_it_with_a_code_and_a_line(digits_dir, tmp_path, number, code, message):
    process = start(digits_dir, tmp_path, *LONG, "--checkpoint-dir", str(tmp_path / "checkpoints"))
    wait_for((tmp_path / "checkpoints" / "linen" / "16").is_dir, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert f"tfjax: {message}" in err
    # Orbax's event loop may be found closed as the interpreter ends, which Python says of it, and ignores.
    assert "Traceback" not in err.partition("Exception ignored in: <function BaseEventLoop.__del__")[0]


def test_keras_resumes_in_mid_epoch_to_the_same_bits(train, figures, tmp_path, monkeypatch):
    pytest.importorskip("keras")
    from tfjax.tools import train as command

    monkeypatch.setattr(command, "KEPT", 100)
    short = ["--framework", "keras", "--epochs", "2", "--batch-size", "128", "--checkpoint-every", "5"]  # 11 an epoch
    keep = ["--checkpoint-dir", str(tmp_path)]
    assert train(*short, *keep) == 0
    whole = figures()["results"][0]
    assert train(*short, *keep) == cli.USAGE_ERROR  # without --resume a run is not overwritten
    for step in (20, 22):  # as if the run had been killed after step 15
        shutil.rmtree(tmp_path / "keras" / str(step))
    assert train(*short, *keep, "--resume") == 0
    resumed = figures()["results"][0]
    assert resumed["parameters_sha256"] == whole["parameters_sha256"]
    assert resumed["test_accuracy"] == whole["test_accuracy"]
    assert resumed["history"] == whole["history"]
    assert train(*short, *keep, "--resume") == 0  # at its end: nothing is left to do
    assert figures()["results"][0]["parameters_sha256"] == whole["parameters_sha256"]


def test_the_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"tfjax {tfjax.__version__}\n"


def test_keras_trains_on_jax_where_no_backend_is_set(digits_dir, tmp_path):
    """TensorFlow imports Keras, which then took its own backend."""
    arguments = ["train", "digits", "--framework", "keras", "--epochs", "1", "--out", str(tmp_path)]
    code = f"""
        import os
        os.environ.pop("KERAS_BACKEND", None)
        from tfjax.tools.cli import main
        raise SystemExit(main({[*arguments, "--data-dir", str(digits_dir)]!r}))
    """
    done = python_process.run(code, timeout_s=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "result.json").is_file()
