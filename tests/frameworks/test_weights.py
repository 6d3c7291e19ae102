"""Masks and weights: what a row counts in training and in evaluation."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.frameworks.cases import BATCH, case, close, metrics, rows, same_bits


def with_rows(batch, at, **values):
    """The batch with other values in the rows `at`."""
    return {**batch, **{name: batch[name].at[at].set(value) for name, value in values.items()}}


@pytest.mark.parametrize("left_out", [{"mask": False}, {"weight": 0.0}], ids=str)
def test_a_row_of_weight_0_trains_nothing(plain, left_out):
    """To the bit, and where the loss and its gradient are infinite there."""
    batch, last = rows(), jnp.arange(BATCH - 3, BATCH)
    first = with_rows(batch, last, **left_out)
    after = []
    for other in (first, with_rows(first, last, x=7.0), with_rows(first, last, label=-1)):
        state, measured = plain.step()(plain.state(), other)
        after.append((state, measured["loss"], measured["right"]))
    assert not np.isfinite(np.asarray(measured["losses"])[-3:]).any()
    assert same_bits(after[0], after[1])
    assert same_bits(after[0], after[2])
    state, _ = plain.step()(plain.state(), batch)
    assert not same_bits(after[0][0].params, state.params)


def test_a_row_of_weight_0_counts_nothing_in_evaluation(plain):
    batch = with_rows(rows(), jnp.arange(3), mask=False)
    sums = [plain.evaluate(plain.first, b) for b in (batch, with_rows(batch, jnp.arange(3), x=jnp.nan, label=-1))]
    assert same_bits(*sums)
    assert float(sums[0]["count"]) == BATCH - 3


def test_weights_are_repeated_rows(plain):
    """Row 0 of weight 3 is row 0 three times; batches are padded to one size."""
    batch = rows()
    weighted = with_rows(batch, jnp.arange(BATCH - 2, BATCH), mask=False)
    repeated = {name: leaf[jnp.array([0, 0, 0, 1, 2, 3, 4, 5])] for name, leaf in batch.items()}
    (a, first), (b, second) = (
        plain.step()(plain.state(), each) for each in (with_rows(weighted, 0, weight=3.0), repeated)
    )
    close((a.params, first["loss"], first["right"]), (b.params, second["loss"], second["right"]), atol=1e-6)


def test_a_batch_of_weight_0_changes_no_parameter():
    linen = case("linen")
    state, measured = linen.step()(linen.state(), {**rows(), "mask": jnp.zeros(BATCH, bool)})
    assert same_bits(state.params, linen.first.params)
    assert float(measured["loss"]) == 0


def test_weights_are_one_an_example():
    linen = case("linen")
    with pytest.raises(ValueError, match=r"sample_weight 'weight' has shape \(8, 1\): one weight an example"):
        linen.step()(linen.state(), {**rows(), "weight": jnp.ones((BATCH, 1))})
    with pytest.raises(KeyError, match=r"sample_weight='weight' names nothing"):
        linen.step()(linen.state(), {name: rows()[name] for name in ("x", "label")})


def test_a_mask_of_tokens_is_the_models_own():
    """A `mask` of another shape than (batch,) says nothing of rows."""
    linen = case("linen")
    batch = {**rows(), "mask": jnp.zeros((BATCH, 3), bool)}
    assert float(linen.module.eval_step(metrics)(linen.first, batch)["count"]) == BATCH
