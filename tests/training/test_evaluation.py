"""The mean over every example, and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

import tfjax
from tests.training import small
from tfjax.training import evaluate

PIPE = tfjax.from_arrays({"x": np.arange(7, dtype=np.float32)}).batch(2)


def test_every_example_counts_once():
    found = evaluate(lambda state, b: {"x": b["x"].sum() + state * len(b["x"]), "count": len(b["x"])}, 10, PIPE)
    assert found == {"x": 13.0}


def test_it_is_the_same_over_two_epochs_and_a_cache():
    step = lambda _, b: {"x": b["x"].sum(), "count": len(b["x"])}  # noqa: E731
    cached = tfjax.from_arrays({"x": np.arange(7, dtype=np.float32)}).cache("memory").batch(2)
    assert [evaluate(step, None, cached) for _ in range(2)] == [{"x": 3.0}] * 2


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (None, TypeError, r"the eval_step returned None: it returns a dict of sums, and their 'count'"),
        (jnp.float32(1), TypeError, r"the eval_step returned float32\[\]"),
        ({"x": 1.0}, KeyError, r"the eval_step returned \['x'\]: it returns sums, and their 'count'"),
        ({"x": jnp.ones(3), "count": 2}, TypeError, r"'x' is float32\[3\]: return its sum over the batch"),
        ({"x": {"y": 1.0}, "count": 2}, TypeError, r"'x' is a dict"),
        ({"step": 1.0, "count": 2}, ValueError, r"returned a 'step', which the rows have already"),
        ({"x": 1.0, "count": 0}, ValueError, r"the rows of .* have no weight"),
    ],
)
def test_refuses_what_are_no_sums(returned, error, message):
    with pytest.raises(error, match=message):
        evaluate(lambda *_: returned, None, PIPE)


def test_refuses_what_is_no_pipeline_of_batches():
    with pytest.raises(TypeError, match="evaluate takes a pipeline, given a list"):
        evaluate(small.metrics, None, [1])
    with pytest.raises(ValueError, match=r"evaluate takes a pipeline of batches, .* single examples: add .batch"):
        evaluate(small.metrics, None, tfjax.from_arrays(small.DATA))
