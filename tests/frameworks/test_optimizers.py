"""Every kind of optax transformation and schedule, as it is."""

import jax
import numpy as np
import optax
import pytest

from tests.frameworks.cases import LIBRARIES, case, copied, loss, rows, same_bits


def matrices(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


def kinds(params):
    return jax.tree.map(lambda p: "matrix" if p.ndim > 1 else "vector", params)


OPTIMIZERS = {
    "sgd, schedule": optax.sgd(optax.warmup_cosine_decay_schedule(0.01, 0.1, 2, 10)),
    "adamw, mask": optax.adamw(1e-2, weight_decay=0.1, mask=matrices),
    "lamb": optax.lamb(1e-2),
    "lars": optax.lars(1e-2),
    "lion": optax.lion(1e-3),
    "adafactor": optax.adafactor(1e-2, min_dim_size_to_factor=4),
    "rmsprop": optax.rmsprop(1e-3, momentum=0.9),
    "sm3": optax.sm3(1e-2),
    "noisy_sgd": optax.noisy_sgd(1e-2, key=jax.random.key(0)),
    "partition": optax.partition({"matrix": optax.adam(1e-2), "vector": optax.set_to_zero()}, kinds),
    "masked": optax.masked(optax.adam(1e-2), matrices),
    "MultiSteps": optax.MultiSteps(optax.adam(1e-2), every_k_schedule=1),
    "chain": optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(), optax.scale_by_learning_rate(1e-2)),
    "inject": optax.inject_hyperparams(optax.adamw)(learning_rate=optax.linear_schedule(1e-2, 1e-3, 10)),
    "apply_if_finite": optax.apply_if_finite(optax.adam(1e-2), max_consecutive_errors=2),
    "schedule_free": optax.contrib.schedule_free_adamw(1e-2),
    "muon": optax.contrib.muon(1e-2),
    "prodigy": optax.contrib.prodigy(1.0),
}
IN_ALL = ("adamw, mask", "chain")


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [("linen", optimizer) for optimizer in OPTIMIZERS]
    + [(name, optimizer) for name in LIBRARIES if name != "linen" for optimizer in IN_ALL],
)
def test_an_optimizer_is_taken_as_it_is(name, optimizer):
    """What takes values besides the gradient, as `optax.lbfgs` and `reduce_on_plateau` do, is not meant."""
    pytest.importorskip(LIBRARIES[name])
    module, given = case(name).module, OPTIMIZERS[optimizer]
    state = module.create_state(case(name).model, given, rows(), x="x")
    first = copied(state.params)
    step = module.train_step(lambda predict, batch: loss(predict, batch)[0])
    for _ in range(3):
        state, measured = step(state, rows())
    assert step._cache_size() == 1
    assert int(state.step) == 3
    assert np.isfinite(measured["loss"])
    assert not same_bits(first, state.params)
    if optimizer == "partition":
        assert same_bits(first["Dense_0"]["bias"], state.params["Dense_0"]["bias"])


def test_the_schedule_is_followed():
    """Steps of a rate of 0, 0.1, 0.2: the first changes nothing."""
    linen = case("linen")
    state = linen.module.create_state(linen.model, optax.sgd(lambda step: 0.1 * step), rows(), x="x")
    moved, step = [], linen.module.train_step(lambda predict, batch: predict(batch["x"]).sum(-1))
    for _ in range(3):
        before = copied(state.params)
        state, _ = step(state, rows())
        moved.append(np.abs(np.asarray(state.params["Dense_1"]["bias"]) - np.asarray(before["Dense_1"]["bias"])).max())
    np.testing.assert_allclose(moved, [0, 0.1, 0.2], atol=1e-6)


def test_gradients_may_be_applied_by_hand():
    linen = case("linen")
    grads = jax.tree.map(np.ones_like, linen.first.params)
    state = jax.jit(lambda state: state.apply_gradients(grads))(linen.first)
    assert int(state.step) == 1
    np.testing.assert_allclose(linen.first.params["Dense_1"]["bias"] - state.params["Dense_1"]["bias"], 0.1, atol=1e-6)
