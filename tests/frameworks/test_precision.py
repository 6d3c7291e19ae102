"""Training in bfloat16 and in float16: what stays float32, and the loss scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.frameworks.cases import HIDDEN, case, copied, loss, rows, same_bits
from tfjax.frameworks._precision import LossScale, first_scale


@pytest.fixture(params=["bfloat16", "float16"])
def precision(request):
    return request.param


@pytest.fixture
def low(full, precision):
    """The function that creates a state of this precision, copied as the step donates it."""
    firsts = full.__dict__.setdefault("firsts", {})
    if precision not in firsts:
        firsts[precision] = full.create(precision=precision)
    return lambda: copied(firsts[precision])


def dtypes(tree):
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)}


def test_what_is_kept_stays_float32_and_trains_as_float32_does(full, low, precision):
    state, step, losses = low(), full.step(), []
    compiled = step._cache_size()
    for _ in range(3):
        state, measured = step(state, rows())
        losses.append(measured["loss"])
    assert step._cache_size() <= compiled + 1
    for part in (state.params, state.opt_state, state.model_state, measured["losses"]):
        assert dtypes(part) == {"float32"}
    reference, expected = full.state(), []
    for _ in range(3):
        reference, measured = step(reference, rows())
        expected.append(measured["loss"])
    assert not same_bits(losses, expected)
    np.testing.assert_allclose(losses[0], expected[0], rtol=0.05)
    for a, b in zip(jax.tree.leaves(state.model_state), jax.tree.leaves(reference.model_state), strict=True):
        if a.shape == (HIDDEN,):
            np.testing.assert_allclose(a, b, rtol=0.1, atol=0.1)
    if precision == "bfloat16":
        sums = full.evaluate(state, rows())
        assert dtypes(sums) == {"float32"}
        assert np.isfinite(sums["loss"])


def test_an_overflow_halves_the_scale_and_trains_nothing(full):
    state, step = full.create(precision="float16"), full.step()
    before = copied(state)
    state, measured = step(state, {**rows(), "x": jnp.full_like(rows()["x"], 1e30)})
    assert not np.isfinite(measured["loss"])
    assert float(measured["loss_scale"]) == 2**15
    for name in ("params", "opt_state", "model_state"):
        assert same_bits(getattr(state, name), getattr(before, name)), name
    assert (float(state.scale.scale), int(state.scale.steps), int(state.step)) == (2**14, 0, 1)
    state, measured = step(state, rows())
    assert float(measured["loss_scale"]) == 2**14
    assert (float(state.scale.scale), int(state.scale.steps), int(state.step)) == (2**14, 1, 2)
    assert not same_bits(state.params, before.params)


def test_the_scale_doubles_after_2000_updates():
    scale = LossScale(jnp.float32(8), jnp.int32(1998))
    scale = scale.after(jnp.bool_(True))
    assert (float(scale.scale), int(scale.steps)) == (8, 1999)
    scale = scale.after(jnp.bool_(True))
    assert (float(scale.scale), int(scale.steps)) == (16, 0)
    scale = scale.after(jnp.bool_(True)).after(jnp.bool_(False))
    assert (float(scale.scale), int(scale.steps)) == (8, 0)


def test_the_scale_is_never_below_1():
    scale = LossScale(jnp.float32(1), jnp.int32(5)).after(jnp.bool_(False))
    assert (float(scale.scale), int(scale.steps)) == (1, 0)
    assert float(first_scale().scale) == 2**15


def test_a_gradient_too_small_for_float16_is_kept_by_the_scale():
    """It is 1e-8, which float16 has as 0."""
    linen = case("linen")
    state = linen.create(precision="float16")
    small = linen.module.train_step(lambda predict, batch: 1e-8 * loss(predict, batch)[0])
    before = copied(state.params)
    after, _ = small(state, rows())
    step = np.abs(np.asarray(before["Dense_1"]["bias"]) - np.asarray(after.params["Dense_1"]["bias"])).max()
    assert 1e-11 < step < 1e-8


def test_the_scale_is_part_of_the_tree_of_a_state():
    linen = case("linen")
    names = [
        jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(linen.create(precision="float16"))
    ]
    assert {".scale.scale", ".scale.steps"} <= set(names)
    assert not any(
        "scale.s" in jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(linen.first)
    )


def test_an_unknown_precision_is_refused(plain):
    with pytest.raises(ValueError, match="precision='float8': choose one of 'float32', 'bfloat16', 'float16'"):
        plain.create(precision="float8")


def test_equinox_ema_takes_one_dtype():
    pytest.importorskip("equinox")
    with pytest.raises(ValueError, match=r"precision='bfloat16': eqx\.nn\.BatchNorm\(mode='ema'\) .* use mode='batch'"):
        case("equinox", full=True, mode="ema").create(precision="bfloat16")
