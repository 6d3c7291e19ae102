"""The state inside the checkpoints of other libraries: a run that was killed goes on as if it had not been."""

import functools
import json
import pathlib
import signal
import socket
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest
import tensorflow as tf

pytest.importorskip("flax")
pytest.importorskip("equinox")
pytest.importorskip("keras")
pytest.importorskip("optax")
pytest.importorskip("orbax.checkpoint")

import tfjax
from tests import checkpoint_processes as processes
from tests import checkpoint_ways as ways
from tests import python_process
from tfjax.testing import exact

SAVED = ways.KILLED_AFTER // ways.SAVE_EVERY * ways.SAVE_EVERY


@pytest.fixture(autouse=True, scope="module")
def seed_of_this_module() -> Iterator[None]:
    """Keras's `set_random_seed` also sets TensorFlow's, with which nothing is drawn by chance any more."""
    yield
    tf.random.set_seed(None)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What a process that was killed left behind."""
    folder = tmp_path_factory.mktemp("killed")
    # Imported, not run as a script: a function goes by the name of its module, which would be `__main__`.
    code = f"import pathlib; from tests import checkpoint_ways as w; w.train_and_die(pathlib.Path({str(folder)!r}))"
    done = python_process.run(code, timeout_s=110)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return folder


def train(run: Any, batches: Iterator[Any]) -> list[Any]:
    """Every batch that is left."""
    delivered = []
    for batch in batches:
        delivered.append(batch)
        run.train(batch)
    return delivered


@functools.cache
def uninterrupted(way: Any) -> tuple[list[Any], Any]:
    """All batches of a run, and its parameters."""
    run = way(pathlib.Path("nowhere"))
    with ways.pipeline().iterate(epochs=ways.EPOCHS) as batches:
        delivered = train(run, batches)
    return delivered, run.parameters()


@pytest.mark.parametrize("name", ways.WAYS)
def test_a_killed_run_goes_on_bit_for_bit(name: str, killed: pathlib.Path) -> None:
    expected, parameters = uninterrupted(ways.WAYS[name])
    run = ways.WAYS[name](killed / name)
    fresh = run.parameters()
    with ways.pipeline().iterate(epochs=ways.EPOCHS, state=run.restore()) as batches:
        assert batches.step == SAVED
        exact(expected[SAVED:], train(run, batches))
    same_bits(parameters, run.parameters())
    with pytest.raises(AssertionError):
        same_bits(fresh, run.parameters())


def same_bits(expected: Any, given: Any) -> None:
    exact(jax.tree.map(np.asarray, expected), jax.tree.map(np.asarray, given))


def test_killed_while_a_checkpoint_is_written(killed: pathlib.Path) -> None:
    """What the background did not finish is not taken for whole."""
    expected, parameters = uninterrupted(ways.Orbax)
    run = ways.Orbax(killed / "in flight")
    with ways.pipeline().iterate(epochs=ways.EPOCHS, state=run.restore()) as batches:
        begin = batches.step
        assert 0 <= begin <= ways.KILLED_AFTER
        exact(expected[begin:], train(run, batches))
    same_bits(parameters, run.parameters())


def test_keras_goes_on_within_an_epoch(killed: pathlib.Path) -> None:
    run = ways.KerasRun(killed / "keras")
    whole = run.new()
    run.fit(whole)
    model, position = run.restore()
    state = tfjax.State.from_json(position)
    assert (state.start_epoch, state.step) == (1, ways.SAVE_EVERY)
    epoch = state.start_epoch + state.step // ways.STEPS_PER_EPOCH
    run.fit(model, first=epoch, epochs=epoch + 1, state=state)
    run.fit(model, first=epoch + 1, start_epoch=epoch + 1)
    values = [[np.asarray(v.value) for v in (*m.variables, *m.optimizer.variables)] for m in (whole, model)]
    exact(*values)


@pytest.mark.parametrize("name", ways.WAYS)
def test_a_state_of_another_pipeline_is_refused(name: str, killed: pathlib.Path) -> None:
    position = ways.WAYS[name](killed / name).restore()
    others = {
        r"shuffle": tfjax.from_arrays({"x": np.zeros((36, 8), np.float32), "label": np.arange(36)}).batch(6),
        r"seed \(here 7\)": ways.pipeline().seed(7),
    }
    for said, other in others.items():
        with pytest.raises(tfjax.StateMismatchError, match=rf"differ in .*{said}"):
            other.iterate(epochs=ways.EPOCHS, state=position)


def two_processes(folder: pathlib.Path, *, resume: bool) -> list[dict[str, Any]]:
    """What each of two connected processes says; loopback only, one device each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "import os; os.environ.pop('XLA_FLAGS'); from tests import checkpoint_processes as p; "
        f"p.main({port}, {{}}, {str(folder)!r}, resume={resume})"
    )
    started = [python_process.start(code.format(index)) for index in range(2)]
    try:
        outputs = [process.communicate(timeout=100) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    for process, (_, err) in zip(started, outputs, strict=True):
        assert process.returncode == (0 if resume else -signal.SIGKILL), err
    return [json.loads(out.splitlines()[-1]) for out, _ in outputs]


def test_two_processes_and_then_one(tmp_path: pathlib.Path) -> None:
    """The state is that of the global batch: one text on every process, and on any number of them."""
    first = two_processes(tmp_path / "run", resume=False)
    assert [said["devices"] for said in first] == [2, 2]
    assert first[0] == first[1]
    assert len(first[0]["batches"]) == len(processes.pipeline(jax.devices()[0])) * processes.EPOCHS - processes.SAVED
    again = two_processes(tmp_path / "run", resume=True)
    assert [json.loads(said.pop("state")) for said in again] == [json.loads(said.pop("state")) for said in first]
    assert again == first
    for count in (1, 2):
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:count]), ("data",))
        params, position = processes.restored(str(tmp_path / "run"), mesh)
        exact(first[0]["saved"], jax.tree.map(lambda p: np.asarray(p).tolist(), params))
        pipe = processes.pipeline(jax.devices()[0])
        with pipe.iterate(epochs=processes.EPOCHS, state=position) as batches:
            params, said = processes.train(params, batches, mesh)
        assert said == first[0]["batches"]
        for name, value in first[0]["params"].items():  # XLA sums in another order over other devices
            np.testing.assert_allclose(np.asarray(params[name]), value, rtol=1e-5, atol=1e-6)
