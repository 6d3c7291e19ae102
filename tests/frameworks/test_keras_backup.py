"""`BackupAndRestore`: a `fit` that was killed goes on, to the bit of one that was not."""

import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

import tfjax

keras = pytest.importorskip("keras")

from tfjax.errors import CorruptDataError, StateMismatchError  # noqa: E402
from tfjax.frameworks.keras import BackupAndRestore  # noqa: E402
from tfjax.testing import exact  # noqa: E402

ROWS, EPOCHS = 20, 3
X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
PIPE = tfjax.from_arrays({"x": X, "y": X.sum(1)}).shuffle(seed=0).batch(4)  # 5 batches


class Killed(Exception):
    """A kill that the process survives, so that it can look at what is left."""


def new_model(seed=1, inner=3):
    layers, kernel = keras.layers, keras.initializers.GlorotUniform(seed)
    dense = [layers.Dense(units, kernel_initializer=kernel) for units in (inner, 1)]
    model = keras.Sequential([keras.Input((3,)), layers.Dropout(0.4, seed=seed), *dense])
    model.compile(optimizer=keras.optimizers.Adam(0.1), loss="mse", metrics=["mae"])
    return model


def new_data(pipe=PIPE, **options):
    return pipe.to_keras(x="x", y="y", **options)


def killer(epoch, batch):
    at = {}

    def after_batch(done, logs):  # noqa: ARG001
        if (at["epoch"], done + at["before"]) == (epoch, batch):
            raise Killed

    def begin(number, logs):  # noqa: ARG001
        at.update(epoch=number, before=0)

    return keras.callbacks.LambdaCallback(on_epoch_begin=begin, on_train_batch_end=after_batch)


def variables(model):
    return [np.asarray(v.value) for v in (*model.variables, *model.optimizer.variables)]


def train(model, callbacks=(), *, data=None, epochs=EPOCHS, **options):
    return model.fit(data or new_data(), epochs=epochs, verbose=0, callbacks=list(callbacks), **options)


def interrupted(folder, *, save_freq, at, **options):
    """A fit that is killed, and another model's that goes on from its backup."""
    data, model = new_data(), new_model(seed=0)
    with pytest.raises(Killed):
        train(model, [BackupAndRestore(folder, data, save_freq=save_freq), killer(*at)], data=data, **options)
    again, rest = new_model(), new_data()
    history = train(again, [BackupAndRestore(folder, rest, save_freq=save_freq)], data=rest, **options)
    return again, history


@pytest.fixture(scope="module")
def uninterrupted():
    """Fits that nothing interrupts, by `steps_per_epoch`: what they end with, and their curves."""
    found = {}
    for steps in (None, 7):
        model = new_model(seed=0)
        history = train(model, steps_per_epoch=steps)
        found[steps] = variables(model), history.history
    return found


@pytest.mark.parametrize(
    ("save_freq", "at", "steps"),
    [
        ("epoch", (1, 3), None),
        ("epoch", (1, 0), None),
        (2, (1, 3), None),
        (3, (0, 4), None),
        (1, (1, 4), None),
        ("epoch", (1, 3), 7),
        (2, (1, 3), 7),
    ],
)
def test_a_killed_fit_goes_on_to_the_bit(tmp_path, uninterrupted, save_freq, at, steps):
    again, rest = interrupted(tmp_path, save_freq=save_freq, at=at, steps_per_epoch=steps)
    expected, curves = uninterrupted[steps]
    exact(expected, variables(again))
    assert rest.epoch[-1] == EPOCHS - 1
    assert rest.history == {name: values[-len(rest.epoch) :] for name, values in curves.items()}
    assert not list(tmp_path.iterdir())


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from test_keras_backup import BackupAndRestore, keras, new_data, new_model, train

def kill(batch, logs):
    if data.state.start_epoch == 1 and batch == 3:
        os.kill(os.getpid(), signal.SIGKILL)

data = new_data()
backup = BackupAndRestore(sys.argv[2], data, save_freq=2)
train(new_model(seed=0), [backup, keras.callbacks.LambdaCallback(on_train_batch_end=kill)], data=data)
"""


def test_another_process_goes_on_where_one_was_killed(tmp_path, uninterrupted):
    command = [sys.executable, "-c", KILLED, str(pathlib.Path(__file__).parent), str(tmp_path)]
    as_here = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # see conftest: other programs have other bits
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=as_here)
    assert done.returncode == -signal.SIGKILL, done.stderr
    again, rest = new_model(), new_data()
    train(again, [BackupAndRestore(tmp_path, rest)], data=rest)
    exact(uninterrupted[None][0], variables(again))


def test_a_batch_drawn_ahead_is_not_lost(tmp_path, uninterrupted, monkeypatch):
    """As Keras does on accelerators."""
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    again, _ = interrupted(tmp_path, save_freq=2, at=(1, 3))
    exact(uninterrupted[None][0], variables(again))


def test_validation_and_early_stopping_go_on(tmp_path):
    held_out = PIPE.take(2)
    data, model = new_data(), new_model(seed=0)
    options = {"validation_data": new_data(held_out, allow_random=True)}
    with pytest.raises(Killed):
        train(model, [BackupAndRestore(tmp_path, data, save_freq=2), killer(1, 3)], data=data, **options)
    again, rest = new_model(), new_data()
    stop = keras.callbacks.EarlyStopping("val_loss", min_delta=1e9, patience=1)
    history = train(again, [stop, BackupAndRestore(tmp_path, rest, save_freq=2)], data=rest, epochs=9, **options)
    assert history.epoch == [1, 2]  # stopped by EarlyStopping alone
    assert len(history.history["val_loss"]) == 2


def test_a_fit_after_one_that_went_on_begins_anew(tmp_path):
    again, _ = interrupted(tmp_path, save_freq=2, at=(1, 3))
    data, epochs = new_data(), []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(data.state.start_epoch))  # noqa: ARG005
    assert train(again, [BackupAndRestore(tmp_path, data), note], data=data, epochs=2).epoch == [0, 1]
    assert epochs == [0, 1]


def test_a_fit_that_is_done_is_not_done_again(tmp_path):
    data, model = new_data(), new_model()
    train(model, [BackupAndRestore(tmp_path, data, delete_checkpoint=False)], data=data)
    before = variables(model)
    assert train(model, [BackupAndRestore(tmp_path, data, delete_checkpoint=False)], data=data).epoch == []
    exact(before, variables(model))


def test_a_failing_write_leaves_the_backup_before(tmp_path, monkeypatch):
    data, model = new_data(), new_model()
    train(model, [BackupAndRestore(tmp_path, data, delete_checkpoint=False)], data=data, epochs=1)
    before = (tmp_path / "backup.npz").read_bytes()

    def full(file, **arrays):  # noqa: ARG001
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        train(model, [BackupAndRestore(tmp_path, data)], data=data)
    assert [path.name for path in tmp_path.iterdir()] == ["backup.npz"]
    assert (tmp_path / "backup.npz").read_bytes() == before


def test_backups_of_others_are_refused(tmp_path):
    data, model = new_data(), new_model()
    train(model, [BackupAndRestore(tmp_path, data, delete_checkpoint=False)], data=data, epochs=1)
    with pytest.raises(StateMismatchError, match=r"kernel is float32\[3, 3\] there and float32\[3, 2\] here"):
        train(new_model(inner=2), [BackupAndRestore(tmp_path, data)], data=data)
    other = new_data(tfjax.from_arrays({"x": X, "y": X.sum(1)}).shuffle(seed=1).batch(4))
    with pytest.raises(StateMismatchError, match="the state belongs to another pipeline: they differ in 1 shuffle"):
        train(new_model(), [BackupAndRestore(tmp_path, other)], data=other)
    (tmp_path / "backup.npz").write_bytes((tmp_path / "backup.npz").read_bytes()[:-40])
    with pytest.raises(CorruptDataError, match="is no backup of BackupAndRestore, or damaged"):
        train(new_model(), [BackupAndRestore(tmp_path, data)], data=data)


def test_arguments_that_cannot_be(tmp_path):
    data = new_data()
    with pytest.raises(TypeError, match="takes the adapter that fit is given"):
        BackupAndRestore(tmp_path, PIPE)
    with pytest.raises(ValueError, match="save_freq takes an int from 1"):
        BackupAndRestore(tmp_path, data, save_freq=0)
    with PIPE.iterate() as batches:
        next(batches)
        state = batches.state
    with pytest.raises(ValueError, match="leave state out"):
        BackupAndRestore(tmp_path, new_data(state=state))
    with pytest.raises(ValueError, match="no fit is drawing from this adapter"):
        train(new_model(), [BackupAndRestore(tmp_path, data)], data=new_data())
