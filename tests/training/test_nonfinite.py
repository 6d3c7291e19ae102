"""A loss that is not finite: named, left out, or the end of the run."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

import tfjax
from tests.training import small
from tfjax.training import NonFiniteLossError
from tfjax.training.nonfinite import error_at


def fit(**options):
    given = {"step": small.step, "pipe": bad(), "epochs": 2, "progress": False} | options
    return tfjax.fit(given.pop("step"), small.first(), given.pop("pipe"), **given)


def bare(state, batch):
    state, measured = small.step(state, batch)
    return state, measured["loss"]


def bad():
    """A pipeline whose example 7 has no finite loss."""
    y = small.DATA["y"].copy()
    y[7] = np.nan
    return small.pipe(y=y)


def step_of_example(index):
    with bad().iterate() as batches:
        for number, batch in enumerate(batches, 1):
            if np.isnan(batch["y"]).any():
                return number
    raise AssertionError(f"example {index} is in no batch")


def test_a_loss_that_is_not_finite_names_step_and_example():
    number = step_of_example(7)
    with pytest.raises(NonFiniteLossError, match=rf"loss of step {number} is nan: .* have the indices 7\.") as caught:
        fit()
    assert (caught.value.step, caught.value.examples) == (number, [7])
    assert isinstance(caught.value, FloatingPointError)


def test_without_losses_of_rows_the_batch_is_named():
    with pytest.raises(
        NonFiniteLossError, match=r"the examples of its batch have the indices \d+, \d+, \d+, \d+\."
    ) as e:
        fit(step=bare)
    assert 7 in e.value.examples
    assert len(e.value.examples) == small.BATCH


@pytest.mark.parametrize(("step", "examples"), [(small.step, 1), (bare, small.BATCH)])
def test_of_a_stack_the_update_is_named_and_its_batch_alone(step, examples):
    number = step_of_example(7)
    assert 0 < (number - 1) % 3 < 2, "neither the first of its stack nor the last"
    with pytest.raises(NonFiniteLossError, match=f"the loss of step {number} is nan") as caught:
        fit(step=tfjax.scan_steps(step, 3), pipe=bad().stack(3))
    assert 7 in caught.value.examples
    assert len(caught.value.examples) == examples


@pytest.mark.parametrize(
    ("losses", "examples"),
    [
        (None, [3, 5]),
        (np.array([1.0, np.inf, np.nan]), [5]),  # the last row is padding
        (np.array([[1.0, np.nan], [1, 1], [1, 1]]), [3]),
        (np.ones(2), [3, 5]),
        (np.array(np.nan), [3, 5]),
        (np.array([]), [3, 5]),
    ],
)
def test_examples_are_named_by_their_losses_where_these_are_of_rows(losses, examples):
    error = error_at(4, math.nan, losses, np.array([3, 5, -1]))
    assert error.examples == examples
    assert "the loss of step 4 is nan: the examples" in str(error)


def test_a_stream_has_no_examples_to_name():
    assert error_at(1, math.inf, np.ones(3), None).examples is None


def without_example_7(epochs):
    state = small.first()
    with bad().iterate(epochs=epochs) as batches:
        for batch in batches:
            if not np.isnan(batch["y"]).any():
                state, _ = small.step(state, batch)
    return state


def test_it_can_be_skipped():
    state, history = fit(nonfinite="skip")
    assert history.skipped == [step_of_example(7)]  # the second epoch leaves example 7 out with its remainder
    assert small.same(state, without_example_7(2))
    updates = 2 * small.STEPS - 1
    assert history.updates == int(state["step"]) == updates
    assert history.column("step") == list(range(1, updates + 1))
    assert np.isfinite(history.column("loss")).all()


def test_of_a_stack_all_updates_are_skipped():
    state, history = fit(step=tfjax.scan_steps(small.step, 2), pipe=bad().stack(2), nonfinite="skip", epochs=1)
    assert history.skipped == [(step_of_example(7) + 1) // 2]
    assert history.updates == int(state["step"]) == small.STEPS - 2


def test_it_can_end_the_run_with_the_last_good_state():
    state, history = fit(nonfinite="stop")
    assert history.skipped == [step_of_example(7)]
    assert np.isfinite(state["w"]).all()
    assert history.updates == int(state["step"]) < 2 * small.STEPS


def test_a_run_of_nothing_but_nan_is_left_as_it_began():
    state, history = fit(step=lambda s, _: ({**s, "w": s["w"] + jnp.nan}, jnp.nan), nonfinite="skip")
    assert small.same(state, small.first())
    assert history.train == []
    assert history.skipped == list(range(1, 2 * small.STEPS + 1))


def test_a_step_that_jit_cannot_take_is_told_why_it_has_to():
    with pytest.raises(TypeError) as caught:
        fit(step=lambda state, batch: (state, float(batch["y"].sum())), nonfinite="skip")
    assert "nonfinite='skip' runs the step under jax.jit: it is traced" in caught.value.__notes__[-1]


def test_a_resumed_run_skips_the_same(tmp_path):
    pytest.importorskip("orbax.checkpoint")
    whole = fit(nonfinite="skip")
    for epochs in (1, 2):
        cut = fit(nonfinite="skip", epochs=epochs, checkpoint_dir=tmp_path)
    assert small.same(cut.state, whole.state)
    assert cut.history == whole.history


def test_the_policies():
    with pytest.raises(ValueError, match="nonfinite='ignore': choose one of 'raise', 'skip', 'stop'"):
        fit(nonfinite="ignore")
