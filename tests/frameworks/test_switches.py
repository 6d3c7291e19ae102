"""Accumulation, rematerialisation, clipping and metrics of the steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.frameworks.cases import BATCH, LEARNING_RATE, case, close, loss, rows, same_bits


def uneven():
    """Weights unevenly spread over the parts of a batch, some of its rows not real."""
    weight = jnp.array([4.0, 0.5, 0, 1, 2, 1, 1, 1])
    return {**rows(), "weight": weight, "mask": jnp.arange(BATCH) < BATCH - 3}


def gradient(before, after):
    """Of the first step of momentum."""
    return jax.tree.map(lambda a, b: (a - b) / LEARNING_RATE, before.params, after.params)


def test_no_switch_changes_the_gradient(plain):
    """Over all frameworks at once; one by one below."""
    step = plain.step(accumulate=4, remat=True, max_grad_norm=1e6)
    for batch in (rows(), uneven()):
        (whole, first), (parts, second) = (s(plain.state(), batch) for s in (plain.step(), step))
        close(gradient(plain.first, whole), gradient(plain.first, parts), atol=1e-6)
        np.testing.assert_allclose(second.pop("grad_norm"), optax.tree.norm(gradient(plain.first, whole)), rtol=1e-4)
        close(first, second, atol=1e-6)
    assert step._cache_size() == 1


def test_batch_statistics_and_dropout_are_accumulated(every_full):
    """The statistics of each part are used, and each part has a mask of its own."""
    step, state = every_full.step(accumulate=2, remat=True), every_full.state()
    for _ in range(2):
        state, measured = step(state, rows())
    assert step._cache_size() == 1
    assert np.isfinite(measured["loss"])
    statistics = [leaf for leaf in jax.tree.leaves(state.model_state) if leaf.dtype == jnp.float32]
    before = [leaf for leaf in jax.tree.leaves(every_full.first.model_state) if leaf.dtype == jnp.float32]
    assert not same_bits(statistics, before)


@pytest.mark.parametrize("parts", [2, 8])
def test_the_parts_of_a_batch(parts):
    linen = case("linen")
    (whole, first), (cut, second) = (linen.step(accumulate=k)(linen.state(), uneven()) for k in (1, parts))
    close(gradient(linen.first, whole), gradient(linen.first, cut), atol=1e-6)
    close(first, second, atol=1e-6)


def test_a_batch_that_does_not_divide_is_refused():
    linen = case("linen")
    with pytest.raises(ValueError, match="accumulate=3: a batch of 8 rows does not divide into 3 parts"):
        linen.step(accumulate=3)(linen.state(), rows())
    with pytest.raises(ValueError, match=r"accumulate takes an int from 1 .* given 0"):
        linen.step(accumulate=0)


def test_remat_keeps_less_for_the_gradient():
    """The values are the same; norms are computed once more, and products are not."""
    linen = case("linen", full=True)
    (kept, first), (again, second) = (linen.step(remat=r)(linen.state(), rows()) for r in (False, True))
    close((kept.params, kept.model_state, first), (again.params, again.model_state, second), atol=1e-6)
    kept, again = (str(linen.step(remat=r).trace(linen.state(), rows()).jaxpr) for r in (False, True))
    assert again.count(" dot_general[") == kept.count(" dot_general[")
    assert again.count(" rsqrt ") > kept.count(" rsqrt ")


def test_gradients_are_bounded_by_their_norm():
    linen = case("linen")
    step = linen.step(max_grad_norm=1e-3)
    (whole, _), (cut, measured) = (s(linen.state(), rows()) for s in (linen.step(), step))
    wanted, bounded = (gradient(linen.first, state) for state in (whole, cut))
    norm = float(optax.tree.norm(wanted))
    assert norm > 1e-2
    np.testing.assert_allclose(float(measured["grad_norm"]), norm, rtol=1e-4)
    np.testing.assert_allclose(float(optax.tree.norm(bounded)), 1e-3, rtol=1e-2)


def test_a_gradient_within_the_bound_is_left_as_it_is():
    linen = case("linen")
    (a, _), (b, _) = (s(linen.state(), rows()) for s in (linen.step(), linen.step(max_grad_norm=100.0)))
    assert same_bits(a.params, b.params)
    with pytest.raises(ValueError, match=r"max_grad_norm=0 is not above 0"):
        linen.step(max_grad_norm=0)


def test_names_that_the_step_gives_itself_are_refused():
    linen = case("linen")
    step = linen.module.train_step(lambda predict, batch: (loss(predict, batch)[0], {"losses": batch["x"][:, 0]}))
    with pytest.raises(ValueError, match="metric 'losses' has the name of one that the step gives itself"):
        step(linen.state(), rows())
    evaluate = linen.module.eval_step(lambda _, batch: {"count": batch["x"][:, 0]})
    with pytest.raises(ValueError, match="metric 'count' has the name"):
        evaluate(linen.first, rows())
