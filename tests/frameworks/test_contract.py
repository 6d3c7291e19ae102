"""One suite over all frameworks: the same functions, with the same behaviour."""

import importlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tfjax

FRAMEWORKS = {"linen": "flax", "nnx": "flax", "equinox": "equinox", "haiku": "haiku", "keras": "keras"}
ROWS, CLASSES, BATCH = 22, 4, 8


@pytest.fixture(params=FRAMEWORKS)
def framework(request):
    """The module of one framework."""
    pytest.importorskip(FRAMEWORKS[request.param])
    return importlib.import_module(f"tfjax.frameworks.{request.param}")


@pytest.fixture(scope="module")
def pipe():
    """Images whose bright quadrant is their class."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, CLASSES, ROWS).astype(np.int32)
    image = rng.normal(0, 0.3, (ROWS, 8, 8, 1)).astype(np.float32)
    for row, quadrant in zip(image, label, strict=True):
        top, left = 4 * (quadrant // 2), 4 * (quadrant % 2)
        row[top : top + 4, left : left + 4] += 1
    return tfjax.from_arrays({"image": image, "label": label})


def cross_entropy(predict, batch):
    return optax.softmax_cross_entropy_with_integer_labels(predict(batch["image"]), batch["label"])


def metrics(predict, batch):
    correct = predict(batch["image"]).argmax(-1) == batch["label"]
    return {"correct": correct, "loss": cross_entropy(predict, batch)}


def new_state(framework, spec, seed=0):
    return framework.create_state(framework.small_cnn(CLASSES), optax.adam(1e-2), spec, seed)


def bits(framework, state):
    """The parameters, copied, as the state may be donated."""
    return [np.array(leaf) for leaf in jax.tree.leaves(framework.parameters(state))]


def same_bits(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_parameters_come_from_the_spec(framework, pipe):
    state = new_state(framework, pipe.batch(BATCH).spec)
    sizes = sorted(leaf.size for leaf in bits(framework, state))
    assert sizes == sorted([9 * 16, 16, 9 * 16 * 32, 32, 2 * 2 * 32 * 64, 64, 64 * CLASSES, CLASSES])


def test_a_seed_is_all_that_parameters_depend_on(framework, pipe):
    spec = pipe.batch(BATCH).spec
    first = bits(framework, new_state(framework, spec, seed=3))
    assert same_bits(first, bits(framework, new_state(framework, spec, seed=3)))
    assert not same_bits(first, bits(framework, new_state(framework, spec, seed=4)))


def test_loss_falls(framework, pipe):
    training = pipe.shuffle(seed=0).batch(BATCH)
    state, step = new_state(framework, training.spec), framework.train_step(cross_entropy)
    losses = []
    for batch in training.iterate(epochs=20):
        state, measured = step(state, batch)
        losses.append(float(measured["loss"]))
    assert losses[0] > 1
    assert np.mean(losses[-2:]) < 0.1


def test_state_is_donated_and_the_batch_is_not(framework, pipe):
    batch = pipe.batch(BATCH).peek()
    state = new_state(framework, pipe.batch(BATCH).spec)
    before = jax.tree.leaves(framework.parameters(state))
    framework.train_step(cross_entropy)(state, batch)
    assert all(leaf.is_deleted() for leaf in before)
    assert not any(leaf.is_deleted() for leaf in batch.values())


def test_a_state_rebuilt_from_its_leaves_trains_the_same(framework, pipe):
    training = pipe.batch(BATCH, remainder="drop")
    state, step = new_state(framework, training.spec), framework.train_step(cross_entropy)
    copied = jax.tree.map(jnp.copy, state)  # what a checkpoint does
    for batch in training:
        state, _ = step(state, batch)
    for batch in training:
        copied, _ = step(copied, batch)
    assert same_bits(bits(framework, state), bits(framework, copied))


def test_evaluation_counts_every_row_once(framework, pipe):
    state = new_state(framework, pipe.batch(BATCH).spec)
    evaluate = framework.eval_step(metrics)
    whole = evaluate(state, pipe.batch(ROWS).peek())
    padded = [evaluate(state, batch) for batch in pipe.batch(BATCH, remainder="pad")]
    totals = {name: sum(float(sums[name]) for sums in padded) for name in whole}
    assert totals["count"] == float(whole["count"]) == ROWS
    assert totals["correct"] == float(whole["correct"])
    np.testing.assert_allclose(totals["loss"], float(whole["loss"]), rtol=1e-5)


def test_masked_rows_train_nothing(framework, pipe):
    *_, last = pipe.batch(BATCH, remainder="pad")
    other = {**last, "image": jnp.where(last["mask"][:, None, None, None], last["image"], 7.0)}
    step, after = framework.train_step(cross_entropy), []
    for batch in (last, other):
        state, measured = step(new_state(framework, pipe.batch(BATCH).spec), batch)
        after.append([*bits(framework, state), np.array(measured["loss"])])
    assert same_bits(*after)


def test_inputs_may_have_another_key(framework, pipe):
    spec = pipe.map(lambda e: {"picture": e["image"]}).batch(BATCH).spec
    build = framework.small_cnn(CLASSES)
    assert framework.create_state(build, optax.sgd(1e-2), spec, x="picture")
    with pytest.raises(KeyError, match=r"no inputs 'image' .* has \['picture'\]"):
        framework.create_state(build, optax.sgd(1e-2), spec)


def test_a_spec_without_batches_is_refused(framework):
    with pytest.raises(ValueError, match=r"shape \(\) .* call \.batch\(size\)"):
        new_state(framework, {"image": jax.ShapeDtypeStruct((), jnp.float32)})


def test_a_loss_that_is_a_mean_is_refused(framework, pipe):
    state, batch = new_state(framework, pipe.batch(BATCH).spec), pipe.batch(BATCH).peek()
    step = framework.train_step(lambda predict, batch: cross_entropy(predict, batch).mean())
    with pytest.raises(ValueError, match=r"the loss has shape \(\): return one value for each example"):
        step(state, batch)
    evaluate = framework.eval_step(lambda predict, batch: {"mine": predict(batch["image"])})
    with pytest.raises(ValueError, match=r"metric 'mine' has shape \(8, 4\)"):
        evaluate(state, batch)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_missing_library_names_the_extra(name, monkeypatch):
    library = FRAMEWORKS[name]
    for module in [m for m in sys.modules if m.startswith("tfjax.frameworks.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf"tfjax\.frameworks\.{name} needs .*pip install 'tfjax\[{library}\]'"):
        importlib.import_module(f"tfjax.frameworks.{name}")


def test_linen_refuses_variables_that_it_would_not_train(pipe):
    nn = pytest.importorskip("flax.linen")
    from tfjax.frameworks import linen

    class Normed(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.BatchNorm(use_running_average=True)(x)

    with pytest.raises(ValueError, match=r"Normed has variables \['batch_stats'\]"):
        linen.create_state(Normed(), optax.sgd(1e-2), pipe.batch(BATCH).spec)
