"""How a run ends that is not left to: SIGTERM, a full disk."""

import signal
import threading
import time

import jax
import numpy as np
import pytest

pytest.importorskip("orbax.checkpoint")

import tfjax
from tests import python_process
from tests.training import small
from tfjax.training import Callback, Checkpoints, Csv, JsonLines, Preempted

LOOP = """
    import sys
    import tfjax
    from tests.training import small
    from tfjax.training import Callback, Checkpoints
    class Ready(Callback):
        def on_step(self, run, row):
            print(int(row["step"]), flush=True)
"""


@pytest.mark.slow
def test_sigterm_saves_and_ends_with_143(tmp_path):
    code = f"""{LOOP}
    tfjax.fit(small.step, small.first(), small.pipe(), epochs=10**6, progress=False, callbacks=[Ready()],
              checkpoint_dir=Checkpoints({str(tmp_path)!r}, keep=1))
    """
    process = python_process.start(code)
    try:
        while int(process.stdout.readline() or -1) < small.STEPS:
            assert process.poll() is None, process.stderr.read()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == tfjax.training.PREEMPTED == 143, err
    assert "Traceback" not in err
    (saved,) = (int(p.name) for p in tmp_path.iterdir() if p.name.isdecimal())
    steps = saved + 2 - saved % 2  # two or one more
    state, _ = tfjax.fit(small.step, small.first(), small.pipe(), steps=steps, progress=False, checkpoint_dir=tmp_path)
    wanted = small.first()
    with small.pipe().iterate(steps=steps) as batches:
        for batch in batches:
            wanted, _ = small.step(wanted, batch)
    assert small.same(state, wanted)


def terminate():
    """SIGTERM to this process, as the main thread takes it."""
    signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)


class Terminated(Callback):
    """Gets a SIGTERM, or several, in one of its hooks."""

    def __init__(self, hook, step, times=1):
        def on(run, _=None):
            if run.history.updates == step:
                for _ in range(times):
                    terminate()

        setattr(self, hook, on)


def fit(folder, **options):
    evaluate = (small.metrics, small.held_out())
    given = {"pipe": small.pipe(), "epochs": 3, "progress": False, "evaluate": evaluate} | options
    callbacks = [*given.pop("callbacks", ()), JsonLines(folder / "m.jsonl"), Csv(folder / "m.csv")]
    where = Checkpoints(folder / "c", every=2)
    return tfjax.fit(small.step, small.first(), given.pop("pipe"), callbacks=callbacks, checkpoint_dir=where, **given)


def evaluating_at(step):
    """An eval_step that gets a SIGTERM in the evaluation after an update."""

    def metrics(state, batch):
        if int(state["step"]) == step:
            terminate()
            time.sleep(10)  # broken off
        return small.metrics(state, batch)

    return {"evaluate": (metrics, small.held_out())}


@pytest.mark.parametrize(
    ("options", "saved"),
    [
        ({"callbacks": [Terminated("on_begin", 0, times=3)]}, 0),
        ({"callbacks": [Terminated("on_step", 7)]}, None),
        ({"callbacks": [Terminated("on_log", 10)]}, 10),
        ({"callbacks": [Terminated("on_evaluation", 5)]}, 5),
        ({"callbacks": [Terminated("on_evaluation", 15)]}, 15),
        ({"callbacks": [Terminated("on_end", 15)]}, 15),
        (evaluating_at(5), 5),
        (evaluating_at(15), 15),
    ],
)
def test_sigterm_at_any_moment_and_the_run_goes_on_to_the_same_bits(options, saved, tmp_path):
    began = time.monotonic()
    with pytest.raises(Preempted, match=r"the run is saved in .*; the same call of fit goes on from there") as caught:
        fit(tmp_path / "cut", **options)
    assert caught.value.code == 143
    assert time.monotonic() - began < 10 or saved not in (5, 15)
    steps = [int(path.name) for path in (tmp_path / "cut" / "c").iterdir()]
    assert max(steps) == saved or saved is None
    cut, whole = fit(tmp_path / "cut"), fit(tmp_path / "whole")
    assert small.same(cut.state, whole.state)
    assert cut.history == whole.history
    for name in ("m.jsonl", "m.csv", "m-evaluation.csv"):
        assert (tmp_path / "cut" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_sigterm_breaks_off_the_wait_for_a_batch(tmp_path):
    pytest.importorskip("tensorflow")
    late = threading.Event()

    def examples():
        for i in range(small.BATCH * small.STEPS):
            if i == 3 * small.BATCH and not late.is_set():
                terminate()
                late.wait(1)  # the iterator is closed when this is over
            yield {"x": small.X[i], "y": small.DATA["y"][i]}

    float32 = {"x": jax.ShapeDtypeStruct((3,), np.float32), "y": jax.ShapeDtypeStruct((), np.float32)}
    pipe = tfjax.from_generator(examples, float32).batch(small.BATCH)
    with pytest.raises(Preempted):
        fit(tmp_path, pipe=pipe, epochs=1)
    saved = max(int(path.name) for path in (tmp_path / "c").iterdir())
    assert saved <= 3
    late.set()
    assert int(fit(tmp_path, pipe=pipe, epochs=1).state["step"]) == small.STEPS


def test_sigterm_is_left_alone_in_another_thread_and_without_a_folder(tmp_path):
    seen = []

    class Seen(Callback):
        def on_begin(self, _):
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=fit, args=(tmp_path,), kwargs={"callbacks": [Seen()]})
    thread.start()
    thread.join()
    tfjax.fit(small.step, small.first(), small.pipe(), callbacks=[Seen()], progress=False)
    assert seen == [before] * 2


def test_sigterm_is_as_it_was_afterwards(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    fit(tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_a_full_disk_leaves_the_checkpoint_before_it_whole(tmp_path):
    code = f"""{LOOP}
    import resource, jax.numpy as jnp
    class Full(Callback):
        def on_step(self, run, row):
            if row["step"] == small.STEPS + 1:
                resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        tfjax.fit(small.step, small.first(), small.pipe(), epochs=3, progress=False, callbacks=[Full()],
                  checkpoint_dir={str(tmp_path)!r})
    except OSError as error:
        sys.stderr.write(f"caught {{error}}")
        sys.exit(7)
    """
    done = python_process.run(code, timeout_s=120)
    assert done.returncode == 7, done.stderr
    assert f"the checkpoint of step {2 * small.STEPS} could not be written" in done.stderr
    assert f"that of step {small.STEPS} is whole; the run goes on from there" in done.stderr
    state, history = tfjax.fit(
        small.step, small.first(), small.pipe(), epochs=3, progress=False, checkpoint_dir=tmp_path
    )
    assert small.same(state, small.by_hand(3)[0])
    assert history.updates == 3 * small.STEPS
