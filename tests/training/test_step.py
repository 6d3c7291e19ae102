"""What a step may return, and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

import tfjax
from tests.training import small
from tfjax.training import Fitted


def fit(returned, *, pipe=None, **options):
    """One epoch with a step that returns `returned(state, batch)`."""
    return tfjax.fit(returned, {"w": jnp.zeros(2)}, pipe or small.pipe(), progress=False, **options)


@pytest.mark.parametrize("loss", [3, 3.0, True, np.float64(3), np.float16(3), jnp.bfloat16(3), jnp.int32(3)])
def test_a_loss_is_any_number(loss):
    assert fit(lambda s, _: (s, loss)).history.train[-1]["loss"] == float(loss)
    assert fit(lambda s, _: [s, {"loss": loss, "more": 2}]).history.train[-1]["more"] == 2


def test_what_is_no_scalar_is_not_logged():
    history = fit(lambda s, b: (s, {"loss": 1.0, "losses": b["y"], "outputs": b["x"]})).history
    assert set(history.train[0]) == {"step", "epoch", "loss"}


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (lambda _s, _: None, TypeError, r"the step returned None: return \(state, metrics\)"),
        (lambda s, _: s, TypeError, r"the step returned a dict: return"),
        (lambda _s, _: {"a": 1.0, "b": 2.0}, TypeError, r"the step returned a dict: return"),
        (lambda s, _: (s, 1.0, 2.0), TypeError, r"the step returned a tuple of 3: return"),
        (lambda s, _: ({"loss": 1.0}, s), TypeError, r"a state of another structure: PyTreeDef\(\{'loss': \*\}\), and"),
        (lambda s, _: (s, {}), KeyError, r"metrics have no 'loss', but \[\]"),
        (lambda s, _: (s, None), TypeError, r"the step's 'loss' is None: metrics are numbers"),
        (lambda s, _: (s, {"loss": "low"}), TypeError, r"the step's 'loss' is a str"),
        (lambda s, _: (s, jnp.complex64(1j)), TypeError, r"the step's 'loss' is complex64\[\]"),
        (lambda s, _: (s, Fitted(1.0, 2.0)), TypeError, r"the step's 'loss' is a Fitted"),
        (lambda s, _: (s, {"loss": 1.0, "aux": {"a": 1.0}}), TypeError, r"the step's 'aux' is a dict"),
        (lambda s, _: (s, {"loss": 1.0, "epoch": 1.0}), ValueError, r"metrics have a 'epoch', which the rows have"),
        (lambda s, b: (s, b["y"]), ValueError, r"the step's loss is float32\[4\]: return one number, such as the mean"),
        (lambda s, b: (s, b["y"][:1]), ValueError, r"the step's loss is float32\[1\]: return one number"),
    ],
)
def test_refuses(returned, error, message):
    with pytest.raises(error, match=message):
        fit(returned)


def test_a_stack_needs_a_loss_for_each_batch():
    with pytest.raises(ValueError, match=r"loss is float32\[\], and the pipeline yields stacks .* tfjax.scan_steps"):
        fit(lambda s, b: (s, b["y"].mean()), pipe=small.pipe().stack(2))


def test_a_state_that_changes_its_dtypes_could_not_be_resumed(tmp_path):
    pytest.importorskip("orbax.checkpoint")

    def step(state, _):
        return {"n": state["n"] + jnp.float32(1)}, 1.0

    with pytest.raises(TypeError, match=r"\['n'\]: int32\[\] has become \['n'\]: float32\[\] in the first step"):
        tfjax.fit(step, {"n": 0}, small.pipe(), progress=False, checkpoint_dir=tmp_path)
    assert float(tfjax.fit(step, {"n": 0}, small.pipe(), progress=False).state["n"]) == small.STEPS
