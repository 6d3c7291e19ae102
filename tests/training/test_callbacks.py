"""Callbacks: what they are told, how one stops a run, what a checkpoint keeps of them."""

import math

import numpy as np
import pytest

pytest.importorskip("orbax.checkpoint")

import tfjax
from tests.training import small
from tfjax.training import Callback, EarlyStopping, LearningRate


def fit(**options):
    given = {"evaluate": (small.metrics, small.held_out()), "epochs": 9, "progress": False} | options
    return tfjax.fit(small.step, small.first(), small.pipe(), **given)


class Errors(Callback):
    """Puts these in place of what was measured, evaluation by evaluation."""

    def __init__(self, values):
        self.values = values

    def on_evaluation(self, run, row):
        row["error"] = self.values[len(run.history.evaluations) - 1]


@pytest.mark.parametrize(
    ("values", "options", "epochs"),
    [
        ([3, 1, 2, 0, 0, 0], {}, 3),
        ([3, 1, 2, 1, 0, 0, 0], {"patience": 2}, 4),
        ([3, 1, 2, 0.5, 2, 2, 2], {"patience": 2}, 6),
        ([1, 3, 2, 4, 4, 4], {"patience": 2, "mode": "max"}, 6),
        ([-3, -1, -2, 9], {"mode": "max"}, 3),
        ([3, 2.5, 2, 1, 0.5, 0.5, 0], {"min_delta": 1, "patience": 3}, 7),  # 2 is not better than 3 by more than 1
        ([1, 1.5, 2.5, 3, 9], {"min_delta": 1, "mode": "max"}, 2),
        ([math.nan, math.nan, 9], {"patience": 2}, 2),
        ([5, math.nan, 4, 9, 9], {"patience": 2}, 5),
    ],
)
def test_early_stopping_ends_the_run(values, options, epochs):
    history = fit(callbacks=[Errors(values), EarlyStopping("error", **options)]).history
    assert history.updates == epochs * small.STEPS


def test_a_run_that_was_stopped_stays_so(tmp_path):
    def run():
        return fit(callbacks=[Errors([3, 1, 2, 9]), EarlyStopping("error")], checkpoint_dir=tmp_path)

    state, history = run()
    again = run()
    assert again.history == history
    assert small.same(again.state, state)


def test_the_patience_of_a_run_that_was_cut_is_not_forgotten(tmp_path):
    def run(epochs):
        callback = EarlyStopping("error", patience=3, min_delta=1e9)
        return fit(callbacks=[callback], checkpoint_dir=tmp_path, epochs=epochs).history.updates

    assert run(2) == 2 * small.STEPS
    assert run(9) == 4 * small.STEPS  # the first evaluation is the best one, and three are no better


def test_a_callback_may_serve_two_runs():
    callbacks = [EarlyStopping("error", patience=2, min_delta=1e9)]
    assert [fit(callbacks=callbacks).history.updates for _ in range(2)] == [3 * small.STEPS] * 2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"patience": 0}, ValueError, "patience takes an int from 1"),
        ({"patience": "3"}, TypeError, "patience takes an int, given '3'"),
        ({"min_delta": -1}, ValueError, "min_delta=-1 is no number of 0 or more"),
        ({"min_delta": math.nan}, ValueError, "min_delta=nan is no number"),
        ({"mode": "up"}, ValueError, "mode='up': choose 'min' or 'max'"),
    ],
)
def test_early_stopping_refuses(options, error, message):
    with pytest.raises(error, match=message):
        EarlyStopping(**options)


def test_early_stopping_names_the_metrics_that_there_are():
    with pytest.raises(KeyError, match=r"the evaluation has no 'acc', but \['epoch', 'error', 'step'\]"):
        fit(callbacks=[EarlyStopping("acc")])
    with pytest.raises(ValueError, match="needs evaluations: give fit evaluate="):
        fit(callbacks=[EarlyStopping()], evaluate=None)


def test_a_run_that_is_stopped_is_read_and_evaluated_to_its_end(tmp_path):
    class Stop(Callback):
        def on_step(self, run, row):
            if row["step"] == 3:
                run.stop("enough")

    def run():
        singles = tfjax.from_arrays(small.DATA).batch(1)  # read some at a time, as they are fast
        options = {"evaluate": (small.metrics, small.held_out()), "callbacks": [Stop()], "checkpoint_dir": tmp_path}
        return tfjax.fit(small.step, small.first(), singles, progress=False, **options)

    state, history = run()
    assert history.updates == int(state["step"]) < small.ROWS
    assert [row["step"] for row in history.evaluations] == [history.updates]
    assert run().history == history


@pytest.mark.parametrize("hook", ["on_begin", "on_step", "on_log", "on_evaluation", "on_end"])
def test_what_a_callback_raises_ends_the_run_and_every_other_is_told(hook):
    told = []

    class Told(Callback):
        def on_begin(self, _):
            told.append("begin")

        def on_end(self, _):
            told.append("end")

    def broken(*_):
        raise ZeroDivisionError

    raises = type("Raises", (Callback,), {hook: broken})()
    with pytest.raises(ZeroDivisionError):
        fit(callbacks=[Told(), raises, Told()], epochs=1)
    assert told == (["begin", "end"] if hook == "on_begin" else ["begin", "begin", "end", "end"])


def test_what_a_checkpoint_cannot_keep_names_the_callback(tmp_path):
    class Best(Callback):
        def save(self):
            return {"best": np.float32(1)}

    with pytest.raises(TypeError, match=r"Best.save\(\) returned \{'best': np.float32\(1.0\)\}: return JSON types"):
        fit(callbacks=[Best()], checkpoint_dir=tmp_path)


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        (EarlyStopping(), "callbacks takes a list of callbacks, given <tfjax"),
        (None, "callbacks takes a list of callbacks, given None"),
        ([EarlyStopping], r"callbacks takes objects of .*: call it, EarlyStopping\(...\)"),
        ([print], "callbacks takes objects of subclasses of tfjax.training.Callback, given <built-in function print>"),
    ],
)
def test_refuses(callbacks, message):
    with pytest.raises(TypeError, match=message):
        fit(callbacks=callbacks)


def test_a_generator_of_callbacks_is_used_up_once():
    assert fit(callbacks=(c for c in [EarlyStopping("error", min_delta=1e9)])).history.updates == 2 * small.STEPS


def test_the_learning_rate_is_asked_of_the_optimizer():
    import jax.numpy as jnp
    import optax

    def rates(optimizer):
        def step(state, _):
            _, opt_state = optimizer.update(jnp.ones(3), state["opt"], state["w"])
            return {**state, "opt": opt_state}, 1.0

        state = {"w": jnp.zeros(3), "opt": optimizer.init(jnp.zeros(3))}
        history = tfjax.fit(step, state, small.pipe(), callbacks=[LearningRate()], progress=False).history
        return history.column("learning_rate")

    schedule = optax.linear_schedule(1.0, 0.0, 4)
    injected = optax.inject_hyperparams(optax.sgd)(schedule)
    assert rates(injected)[-1] == 0.0
    assert len(rates(optax.chain(optax.clip(1.0), injected))) == small.STEPS
    with pytest.raises(ValueError, match="and there is none, or several: give it the schedule"):
        rates(optax.sgd(1.0))
