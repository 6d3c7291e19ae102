"""The loop: what it trains, logs, evaluates, saves and refuses."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("orbax.checkpoint")

from jax.experimental.compilation_cache.compilation_cache import reset_cache

import tfjax
from tests.training import small
from tfjax.errors import StateMismatchError
from tfjax.training import Callback, Checkpoints, JsonLines


def fit(**options):
    given = {"step": small.step, "state": small.first(), "pipe": small.pipe(), "epochs": 3, "progress": False}
    given |= options
    return tfjax.fit(given.pop("step"), given.pop("state"), given.pop("pipe"), **given)


def test_it_trains_what_a_loop_by_hand_does():
    state, history = fit()
    wanted, losses = small.by_hand(3)
    assert small.same(state, wanted)
    assert history.column("loss") == losses
    assert history.column("step") == list(range(1, 3 * small.STEPS + 1))
    assert history.column("epoch")[small.STEPS - 1 :: small.STEPS] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("steps", [3, small.STEPS, small.STEPS + 2])
def test_a_run_by_steps_ends_there(steps):
    state, history = fit(epochs=None, steps=steps, evaluate=(small.metrics, small.held_out()))
    assert int(state["step"]) == history.updates == steps
    assert [row["step"] for row in history.evaluations] == sorted({steps, min(steps, small.STEPS)})


def test_one_epoch_where_no_total_is_given():
    assert fit(epochs=None).history.updates == small.STEPS


def test_evaluation_is_the_mean_over_every_example_once():
    state, history = fit(evaluate=(small.metrics, small.held_out()))
    w = np.asarray(state["w"])
    wanted = np.abs(small.DATA["x"] @ w - small.DATA["y"]).mean()
    assert history.evaluations[-1]["error"] == pytest.approx(wanted, rel=1e-5)
    assert [row["epoch"] for row in history.evaluations] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("stage", ["shuffle(seed=1)", "random_map"])
def test_evaluation_on_a_random_pipeline_is_refused(stage):
    base = tfjax.from_arrays(small.DATA)
    random = base.shuffle(seed=1) if stage.startswith("shuffle") else base.random_map(lambda e, _: e)
    pipe = random.batch(small.BATCH, remainder="pad")
    with pytest.raises(ValueError, match=re.escape(f"fit(evaluate=) is given a pipeline with {stage}")):
        fit(evaluate=(small.metrics, pipe))
    assert fit(evaluate=(small.metrics, pipe), allow_random=True).history.evaluations


@pytest.mark.parametrize("cut", [2, small.STEPS, small.STEPS + 3])
def test_a_run_that_was_cut_goes_on_to_the_same_bits(cut, tmp_path):
    options = {"evaluate": (small.metrics, small.held_out())}
    whole = fit(**options)
    where = Checkpoints(tmp_path, every=2, keep=100)

    class Cut(Callback):
        def on_step(self, _, row):
            if row["step"] > cut:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(**options, checkpoint_dir=where, callbacks=[Cut()])
    saved = sorted(int(p.name) for p in tmp_path.iterdir() if p.name.isdecimal())
    assert saved and saved[-1] <= cut + 1
    resumed = fit(**options, checkpoint_dir=where)
    assert small.same(resumed.state, whole.state)
    assert resumed.history.evaluations == whole.history.evaluations
    assert resumed.history.train == whole.history.train
    again = fit(**options, checkpoint_dir=where)
    assert small.same(again.state, whole.state)
    assert again.history == resumed.history


def test_more_epochs_go_on_where_a_run_ended(tmp_path):
    fit(epochs=1, checkpoint_dir=tmp_path)
    assert small.same(fit(epochs=3, checkpoint_dir=tmp_path).state, small.by_hand(3)[0])


def test_a_run_that_is_called_again_at_its_end_is_what_it_was(tmp_path):
    def run(**options):
        lines = JsonLines(tmp_path / "m.jsonl")
        where = Checkpoints(tmp_path / "c", every=7)
        evaluate = (small.metrics, small.held_out())
        return fit(epochs=None, callbacks=[lines], checkpoint_dir=where, evaluate=evaluate, **options)

    first = run(steps=7)  # in mid-epoch, and where a checkpoint is due
    written = (tmp_path / "m.jsonl").read_text()
    again = run(steps=7)
    assert [row["step"] for row in first.history.evaluations] == [5, 7]
    assert again.history == first.history
    assert (tmp_path / "m.jsonl").read_text() == written
    with pytest.raises(ValueError, match="at step 7 of the pipeline already, and 6 were asked for: ask for more"):
        run(steps=6)


def test_the_rows_of_a_longer_run_are_as_wide_as_it_asks_for(tmp_path):
    singles = tfjax.from_arrays(small.DATA).batch(1)
    assert fit(pipe=singles, epochs=1, checkpoint_dir=tmp_path).history.window == 1
    history = fit(pipe=singles, epochs=20, checkpoint_dir=tmp_path).history
    assert history.window == 20 * small.ROWS // 200 == 2
    assert history.column("step") == [*range(1, small.ROWS + 1), *range(small.ROWS + 2, 20 * small.ROWS + 1, 2)]


def test_several_checkpoints_are_kept(tmp_path):
    fit(checkpoint_dir=Checkpoints(tmp_path, every=1, keep=2))
    assert sorted(int(p.name) for p in tmp_path.iterdir()) == [3 * small.STEPS - 1, 3 * small.STEPS]


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    fit(epochs=1, checkpoint_dir=tmp_path)
    wider = {**small.first(), "w": jnp.zeros(4)}
    with pytest.raises(StateMismatchError, match=r"another model .* \['w'\]: float32\[3\], .* \['w'\]: float32\[4\]"):
        fit(state=wider, checkpoint_dir=tmp_path)
    other = tfjax.from_arrays(small.DATA).shuffle(seed=1).batch(small.BATCH)
    with pytest.raises(StateMismatchError, match=r"another pipeline: they differ in .*shuffle"):
        fit(pipe=other, checkpoint_dir=tmp_path)
    with pytest.raises(StateMismatchError, match=r"made with lr None, now 1: resume with"):
        fit(checkpoint_dir=Checkpoints(tmp_path, settings={"lr": 1}))
    with pytest.raises(FileExistsError, match=r"holds a run at step 5, and resume=False"):
        fit(checkpoint_dir=Checkpoints(tmp_path, resume=False))


def test_stacks_count_their_updates():
    step = tfjax.scan_steps(small.step, 2)
    state, history = fit(step=step, pipe=small.pipe().stack(2))
    wanted, losses = small.by_hand(3)
    np.testing.assert_allclose(state["w"], wanted["w"], rtol=1e-6)
    assert history.updates == len(losses)
    assert history.column("step") == list(range(1, len(losses) + 1))
    np.testing.assert_allclose(history.column("loss"), losses, rtol=1e-5)


def test_callbacks_see_every_step_in_order():
    seen = []

    class Seen(Callback):
        def on_begin(self, run):
            seen.append(("begin", run.steps, run.steps_per_epoch))

        def on_step(self, _, row):
            seen.append(row["step"])

        def on_end(self, _):
            seen.append("end")

    fit(epochs=2, callbacks=[Seen()])
    assert seen == [("begin", 2 * small.STEPS, small.STEPS), *range(1, 2 * small.STEPS + 1), "end"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"pipe": [1, 2]}, TypeError, r"fit takes a pipeline, given a list: wrap data with"),
        ({"pipe": small.pipe().iterate}, TypeError, r"fit takes a pipeline, given a method"),
        ({"pipe": tfjax.from_arrays(small.DATA)}, ValueError, r"pipeline of batches, .* single examples: add .batch"),
        ({"step": small.first()}, TypeError, r"fit takes a step, which is a function, given a dict: fit\("),
        ({"epochs": 2, "steps": 3}, ValueError, r"one of epochs, steps"),
        ({"epochs": "2"}, TypeError, r"epochs takes an int, given '2'"),
        ({"epochs": None, "steps": 0}, ValueError, r"steps takes an int from 1"),
        ({"values": {"m": 1}}, ValueError, r"no op of this pipeline uses 'm'"),
        ({"progress": None}, TypeError, r"progress takes True, False or a callback, given None"),
        ({"allow_random": 1}, TypeError, r"allow_random takes True or False, given 1"),
        ({"evaluate": small.metrics}, TypeError, r"evaluate takes \(eval_step, pipeline\), given <Pjit"),
        ({"evaluate": (small.metrics,)}, TypeError, r"evaluate takes \(eval_step, pipeline\)"),
        ({"evaluate": (small.held_out(), small.metrics)}, TypeError, r"evaluate takes \(eval_step, pipeline\)"),
        ({"evaluate": (small.metrics, [1])}, TypeError, r"fit\(evaluate=\) takes a pipeline, given a list"),
        ({"checkpoint_dir": 5}, TypeError, r"checkpoints go to a folder, given 5: pass its path"),
    ],
)
def test_refuses(options, error, message):
    with pytest.raises(error, match=message):
        fit(**options)


def test_a_stream_of_unknown_length_is_trained_on_by_epochs():
    tf = pytest.importorskip("tensorflow")
    dataset = tf.data.Dataset.from_tensor_slices(small.DATA).filter(lambda _: True).batch(small.BATCH)
    state, history = fit(pipe=tfjax.from_tf(dataset), epochs=2, evaluate=(small.metrics, small.held_out()))
    assert history.updates == int(state["step"]) == 2 * -(-small.ROWS // small.BATCH)
    assert len(history.evaluations) == 1


def test_compiled_programs_are_kept(tmp_path):
    """Also where JAX has compiled before, and has looked at the setting."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.jit(lambda x: x + 1)(1.0)
    try:
        jax.config.update(names[1], 0.0)
        fit(step=jax.jit(lambda s, b: (s, b["x"].sum() * 3)), epochs=1, compilation_cache_dir=tmp_path)
        assert any(tmp_path.iterdir())
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        reset_cache()


def test_the_history_is_plain_json():
    history = fit(evaluate=(small.metrics, small.held_out())).history
    assert type(history)(**json.loads(json.dumps(history.to_json()))) == history
