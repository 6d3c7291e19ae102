"""One suite over all frameworks: the same functions, with the same behaviour."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

import tfjax
from tests.frameworks.cases import (
    BATCH,
    CLASSES,
    FEATURES,
    HIDDEN,
    OPTIMIZER,
    bits,
    case,
    copied,
    loss,
    metrics,
    rows,
    same_bits,
)


def pipeline():
    whole = {
        name: np.concatenate([np.asarray(rows(seed=i)[name]) for i in range(3)]) for name in ("x", "label", "weight")
    }
    return tfjax.from_arrays({name: leaf[:22] for name, leaf in whole.items()})


def test_parameters_come_from_the_spec(plain):
    sizes = sorted(leaf.size for leaf in jax.tree.leaves(plain.first.params))
    assert sizes == sorted([FEATURES * HIDDEN, HIDDEN, HIDDEN * CLASSES, CLASSES])


def test_a_state_is_arrays_of_kinds_that_every_checkpoint_holds(full):
    dtypes = {leaf.dtype.name for leaf in jax.tree.leaves(full.first)}
    assert dtypes <= {"float32", "int32", "uint32", "bool"}
    assert full.first.step.dtype == jnp.int32
    assert full.first.scale is None


def test_a_state_is_committed_where_the_batches_are(plain):
    """Else the second step would be compiled anew, or refuse a batch that lies elsewhere."""
    two = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[2:4])
    last = jax.devices()[-1]
    for pipe, devices in [
        (pipeline().batch(BATCH), {jax.devices()[0]}),
        (pipeline().batch(BATCH).place(last), {last}),
        (pipeline().batch(BATCH, remainder="drop").place(two, "data"), set(two.devices.flat)),
    ]:
        arrays = jax.tree.leaves(plain.create(pipe.spec))
        assert all(a.committed and a.is_fully_replicated and a.devices() == devices for a in arrays)


def test_a_seed_is_all_that_a_state_depends_on(full):
    assert same_bits(full.first, full.create(seed=0))
    assert not same_bits(full.first.params, full.create(seed=4).params)
    assert not same_bits(full.first.key, full.create(seed=4).key)


def test_loss_falls_and_the_step_is_compiled_once(plain):
    state, losses, step = plain.state(), [], plain.module.train_step(lambda predict, batch: loss(predict, batch)[0])
    with pipeline().shuffle(seed=0).batch(BATCH, remainder="pad").iterate(epochs=10) as batches:
        for batch in batches:
            state, measured = step(state, batch)
            losses.append(float(measured["loss"]))
    assert losses[0] > 1
    assert np.mean(losses[-3:]) < 0.1
    assert step._cache_size() == 1
    assert int(state.step) == len(losses) == 30
    assert set(measured) == {"loss", "losses"}


def test_metrics_are_means_and_the_losses_of_the_rows(plain):
    _, measured = plain.step()(plain.state(), rows())
    assert {name: value.shape for name, value in measured.items()} == {"loss": (), "losses": (BATCH,), "right": ()}
    np.testing.assert_allclose(measured["loss"], np.mean(measured["losses"]), rtol=1e-6)
    assert 0 <= float(measured["right"]) <= 1


def test_state_is_donated_and_the_batch_is_not(full):
    batch, state = rows(), full.state()
    before = jax.tree.leaves((state.params, state.opt_state, state.step))
    full.step()(state, batch)
    assert all(leaf.is_deleted() for leaf in before)
    assert not any(leaf.is_deleted() for leaf in batch.values())


def test_training_goes_on_to_the_bit_from_a_copy(full):
    """Other dropout masks or other batch statistics would show."""
    batch = rows()
    state, _ = full.step()(full.state(), batch)
    kept = copied(state)
    for _ in range(2):
        state, measured = full.step()(state, batch)
        kept, again = full.step()(kept, batch)
        assert same_bits(measured, again)
    assert same_bits(state, kept)
    assert full.step()._cache_size() == 1


def test_evaluation_counts_every_row_once(plain):
    whole = plain.module.eval_step(metrics)(plain.first, pipeline().batch(22).peek())
    padded = [plain.evaluate(plain.first, batch) for batch in pipeline().batch(BATCH, remainder="pad")]
    totals = {name: sum(float(sums[name]) for sums in padded) for name in whole}
    assert totals["count"] == float(whole["count"]) == 22
    assert totals["right"] == float(whole["right"])
    np.testing.assert_allclose(totals["loss"], float(whole["loss"]), rtol=1e-5)


def test_to_model_gives_the_model_in_evaluation_mode(full):
    batch = rows()
    state, _ = full.step()(full.state(), batch)
    losses = full.module.eval_step(lambda predict, batch: {"sum": predict(batch["x"]).sum(axis=-1)})(state, batch)
    model = full.module.to_model(state)
    if full.name == "linen":
        outputs = model(batch["x"], train=False)
    elif full.name == "equinox":
        outputs = jax.vmap(lambda x: model(x, state.model_state[1], None)[0])(batch["x"])
    else:
        outputs = model(batch["x"])
    np.testing.assert_allclose(losses["sum"], np.sum(outputs), rtol=1e-4, atol=1e-5)
    state, _ = full.step()(state, batch)  # the model has values of its own, or leaves those of the state alone
    assert np.isfinite(bits(state.params)[0]).all()


def test_a_loss_that_is_a_mean_is_refused(plain):
    step = plain.module.train_step(lambda predict, batch: predict(batch["x"]).mean())
    with pytest.raises(ValueError, match=r"the loss has shape \(\): return one value for each example"):
        step(plain.state(), rows())
    evaluate = plain.module.eval_step(lambda predict, batch: {"mine": predict(batch["x"])})
    with pytest.raises(ValueError, match=r"metric 'mine' has shape \(8, 4\)"):
        evaluate(plain.first, rows())


RETURNED = {
    "three": (lambda losses: (losses, {}, 0), r"returned \(.*Tracer, dict, int\): return losses"),
    "list": (lambda losses: [losses], r"returned \(list\)"),
    "nothing": (lambda _: None, r"returned \(NoneType\)"),
    "two losses": (lambda losses: (losses, losses), r"returned \(.*Tracer, .*Tracer\)"),
    "integers": (lambda losses: losses.astype(int), "the loss is int32, which has no gradient: return floats"),
}


@pytest.mark.parametrize("name", RETURNED)
def test_a_loss_that_returns_something_else_is_refused(name):
    linen, (change, said) = case("linen"), RETURNED[name]
    with pytest.raises(TypeError, match=said):
        linen.module.train_step(lambda predict, batch: change(predict(batch["x"]).sum(-1)))(linen.state(), rows())


def test_steps_are_made_of_functions_and_take_states():
    linen = case("linen")
    for make in (linen.module.train_step, linen.module.eval_step):
        with pytest.raises(TypeError, match=r"calls fn\(predict, batch\), and .* cannot be called so"):
            make(lambda batch: batch)
        with pytest.raises(TypeError, match=r"takes a function, given 'mse'"):
            make("mse")
    with pytest.raises(TypeError, match="the state is a dict: give what create_state"):
        linen.evaluate(linen.first.params, rows())
    with pytest.raises(TypeError, match=r"the metrics are a .*Tracer: return a dict"):
        linen.module.eval_step(lambda predict, batch: predict(batch["x"]).sum(-1))(linen.first, rows())


def test_a_state_of_another_framework_is_no_model(plain):
    other = case("haiku" if plain.name == "linen" else "linen")
    with pytest.raises(
        TypeError, match=rf"{plain.name}.to_model was given a state of tfjax.frameworks.{other.name}: use"
    ):
        plain.module.to_model(other.first)


def test_the_convolutions_of_small_cnn(plain):
    spec = {"image": jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)}
    state = plain.module.create_state(plain.module.small_cnn(CLASSES), OPTIMIZER, spec)
    sizes = sorted(leaf.size for leaf in jax.tree.leaves(state.params))
    assert sizes == sorted([9 * 16, 16, 9 * 16 * 32, 32, 2 * 2 * 32 * 64, 64, 64 * CLASSES, CLASSES])
