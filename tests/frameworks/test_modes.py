"""Training and evaluation of models that differ in the two: batch statistics and dropout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.frameworks.cases import BATCH, bits, case, rows, same_bits


def only_row_0(batch, **others):
    """A batch of which row 0 counts alone, with other values in the rest."""
    return {**batch, "mask": jnp.arange(BATCH) == 0, **{k: batch[k].at[1:].set(v) for k, v in others.items()}}


def floats(tree):
    return [leaf for leaf in jax.tree.leaves(tree) if leaf.dtype == jnp.float32]


def advanced(first, later):
    """A first state whose random streams went on as those of a later one, and nothing else did."""
    streams = jax.tree.map(lambda a, b: b if a.dtype == jnp.uint32 else a, first.model_state, later.model_state)
    return first.replace(model_state=streams, step=later.step)


def test_statistics_change_in_training(every_full):
    state, _ = every_full.step()(every_full.state(), rows())
    before, after = floats(every_full.first.model_state), floats(state.model_state)
    assert before
    assert all(leaf.shape[-1] == 128 for leaf in before if leaf.ndim)
    assert not any(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_training_uses_the_statistics_of_the_batch_and_evaluation_does_not(every_full):
    state = every_full.state()
    for _ in range(2):  # with momentum, running statistics come of both
        state, _ = every_full.step()(state, rows())
    batches = only_row_0(rows()), only_row_0(rows(), x=3.0)
    evaluated = [every_full.evaluate(state, batch)["loss"] for batch in batches]
    assert float(evaluated[0]) == pytest.approx(float(evaluated[1]), rel=1e-5)
    trained = [every_full.step()(every_full.state(), batch)[1]["losses"][0] for batch in batches]
    assert float(trained[0]) != pytest.approx(float(trained[1]), rel=1e-3)


def test_evaluation_uses_the_statistics_as_they_were_trained(every_full):
    first, _ = every_full.step()(every_full.state(), rows())
    later, _ = every_full.step()(every_full.step()(every_full.state(), rows())[0], rows(seed=1))
    of_the_later = first.replace(model_state=later.model_state)
    assert not same_bits(every_full.evaluate(first, rows())["loss"], every_full.evaluate(of_the_later, rows())["loss"])


def test_dropout_has_another_mask_each_step_and_the_same_for_the_same_state(full):
    later, _ = full.step()(full.state(), rows())
    runs = [
        full.step()(state, rows())[1]["losses"] for state in (full.state(), full.state(), advanced(full.state(), later))
    ]
    assert same_bits(runs[0], runs[1])
    assert not same_bits(runs[0], runs[2])


def test_dropout_is_off_in_evaluation(full):
    later, _ = full.step()(full.state(), rows())
    first = full.step()(full.state(), rows())[0]  # statistics that evaluation can use
    assert same_bits(
        full.evaluate(first, rows()), full.evaluate(advanced(first, full.step()(later, rows())[0]), rows())
    )


def test_a_model_without_chance_or_state_keeps_nothing(plain):
    assert floats(plain.first.model_state) == []
    runs = [plain.step()(plain.state().replace(step=jnp.int32(step)), rows())[0] for step in (0, 5)]
    assert same_bits(runs[0].params, runs[1].params)


def test_dropout_of_two_calls_of_a_model_differs():
    """Each call of `predict` has a key of its own."""
    linen = case("linen", full=True)

    def difference(predict, batch):
        return jnp.abs(predict(batch["x"]) - predict(batch["x"])).sum(-1)

    assert (bits(linen.module.train_step(difference)(linen.state(), rows())[1]["losses"])[0] > 0).any()
    assert float(linen.module.eval_step(lambda p, b: {"off": difference(p, b)})(linen.first, rows())["off"]) == 0


def test_a_model_that_changes_the_structure_of_its_state_is_refused():
    """A collection that grows by each call would have each step compiled anew."""
    nn = pytest.importorskip("flax.linen")
    linen = case("linen").module

    class Sows(nn.Module):
        @nn.compact
        def __call__(self, x):
            self.sow("losses", "penalty", x.sum())
            return nn.Dense(4)(x)

    state = linen.create_state(Sows(), case("linen").first.optimizer, rows(), x="x")
    with pytest.raises(ValueError, match=r"the model made its state .*: it has to keep what it was created with"):
        linen.train_step(lambda predict, batch: predict(batch["x"]).sum(-1))(state, rows())
