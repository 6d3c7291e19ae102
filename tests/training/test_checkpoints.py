"""Checkpoints: what is written is what is read."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("orbax.checkpoint")

from tfjax.errors import StateMismatchError
from tfjax.training.checkpoints import Checkpoints, Store

REST = {"history": {"window": 1, "pending": [{"loss": 0.1}]}, "callbacks": [], "stopped": ""}


def state(value):
    """Arrays of several kinds, one of them empty, beside what is no array."""
    return {
        "w": jnp.full((3, 4), value, jnp.float32),
        "half": jnp.full((5,), value, jnp.bfloat16),
        "step": jnp.int32(value),
        "none": jnp.zeros((0, 2)),
        "activation": jax.nn.relu,
    }


def test_the_last_one_is_read(tmp_path):
    written = Store(Checkpoints(tmp_path / "run"))
    written.save(7, state(1.1), position="{}", **REST)
    written.save(9, state(2.3), position='{"step":9}', **REST)
    written.close()
    read = Store(Checkpoints(tmp_path / "run"))
    saved = read.restore(state(0.0))
    read.close()
    assert (saved.step, saved.position, saved.history) == (9, '{"step":9}', REST["history"])
    np.testing.assert_array_equal(saved.state["w"], state(2.3)["w"])


def test_without_a_folder_nothing_is_kept():
    none = Store(None)
    none.save(1, state(1.0), position="{}", **REST)
    assert not none.kept
    assert none.restore(state(0.0)) is None
    none.close()


def test_an_empty_folder_is_a_new_run(tmp_path):
    empty = Store(Checkpoints(tmp_path))
    assert empty.restore(state(0.0)) is None
    empty.close()


def test_another_dtype_is_another_model(tmp_path):
    written = Store(Checkpoints(tmp_path))
    written.save(7, state(1.0), position="{}", **REST)
    with pytest.raises(StateMismatchError, match=r"\['half'\]: bfloat16\[5\], and this state .*float16\[5\]"):
        written.restore({**state(0.0), "half": jnp.zeros(5, jnp.float16)})
    written.close()


def test_what_fit_did_not_write_is_refused(tmp_path):
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager(tmp_path / "other") as other:
        other.save(3, args=ocp.args.StandardSave({"w": np.ones(3)}))
    (tmp_path / "empty" / "7").mkdir(parents=True)
    for name, step in (("other", 3), ("empty", 7)):
        store = Store(Checkpoints(tmp_path / name))
        with pytest.raises(StateMismatchError, match=f"the checkpoint of step {step} in .* cannot be read .* by fit"):
            store.restore(state(0.0))
        store.close()


def test_a_damaged_one_is_refused_and_the_one_before_it_is_read_in_its_place(tmp_path):
    written = Store(Checkpoints(tmp_path))
    for step in (1, 2):
        written.save(step, state(step), position="{}", **REST)
    written.close()
    for file in (tmp_path / "2" / "leaves").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:10])
    damaged = Store(Checkpoints(tmp_path))
    with pytest.raises(
        StateMismatchError, match=r"step 2 in .* is damaged. Name another folder, or move that checkpoint"
    ):
        damaged.restore(state(0.0))
    damaged.close()
    shutil.rmtree(tmp_path / "2")
    left = Store(Checkpoints(tmp_path))
    assert left.restore(state(0.0)).step == 1
    left.close()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"checkpoints go to a folder, and .*file is a file"):
        Store(Checkpoints(tmp_path / "file"))


def test_the_folder_may_be_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store(Checkpoints("runs/first"))
    store.save(1, state(1.0), position="{}", **REST)
    store.close()
    assert (tmp_path / "runs" / "first" / "1").is_dir()


def test_settings_are_compared_as_they_are_read():
    assert Checkpoints("x", settings={"rates": (1, 2)}) == Checkpoints("x", settings={"rates": [1, 2]})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"every": 0}, ValueError, "every takes an int from 1"),
        ({"keep": 0}, ValueError, "keep takes an int from 1"),
        ({"resume": None}, TypeError, "resume takes True or False"),
        ({"directory": None}, TypeError, "checkpoints go to a folder, given None: pass its path"),
        ({"directory": ""}, ValueError, "given an empty path: '.' is the working directory"),
        ({"settings": {"rate": np.float32(1)}}, TypeError, "pass a dict of JSON types"),
        ({"settings": [1]}, TypeError, r"settings=\[1\]: pass a dict of JSON types"),
    ],
)
def test_refuses(options, error, message):
    with pytest.raises(error, match=message):
        Checkpoints(**{"directory": "anywhere", **options})
