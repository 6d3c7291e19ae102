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


OPTIMIZER = optax.adam(1e-2)


def cross_entropy(predict, batch):
    return optax.softmax_cross_entropy_with_integer_labels(predict(batch["image"]), batch["label"])


def metrics(predict, batch):
    correct = predict(batch["image"]).argmax(-1) == batch["label"]
    return {"correct": correct, "loss": cross_entropy(predict, batch)}


def data():
    """Images whose bright quadrant is their class."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, CLASSES, ROWS).astype(np.int32)
    image = rng.normal(0, 0.3, (ROWS, 8, 8, 1)).astype(np.float32)
    for row, quadrant in zip(image, label, strict=True):
        top, left = 4 * (quadrant // 2), 4 * (quadrant % 2)
        row[top : top + 4, left : left + 4] += 1
    return tfjax.from_arrays({"image": image, "label": label})


PIPE = data()
SPEC = PIPE.batch(BATCH).spec


class Case:
    """One framework, with steps that are compiled once for all tests."""

    def __init__(self, name):
        self.module = importlib.import_module(f"tfjax.frameworks.{name}")
        self.model = self.module.small_cnn(CLASSES)
        self.train_step, self.eval_step = (
            self.module.train_step(cross_entropy),
            self.module.eval_step(metrics),
        )
        self._first = self.create()

    def create(self, seed=0):
        return self.module.create_state(self.model, OPTIMIZER, SPEC, seed)

    def state(self):
        """The first state again, as steps donate theirs; rebuilt from its leaves, as a checkpoint does it."""
        return jax.tree.map(lambda a: jnp.copy(a) if isinstance(a, jax.Array) else a, self._first)

    def bits(self, state):
        return [np.array(leaf) for leaf in jax.tree.leaves(self.module.parameters(state))]


@pytest.fixture(scope="module", params=FRAMEWORKS)
def case(request):
    pytest.importorskip(FRAMEWORKS[request.param])
    return Case(request.param)


def same_bits(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_parameters_come_from_the_spec(case):
    sizes = sorted(leaf.size for leaf in case.bits(case.state()))
    assert sizes == sorted([9 * 16, 16, 9 * 16 * 32, 32, 2 * 2 * 32 * 64, 64, 64 * CLASSES, CLASSES])


def test_a_state_is_committed_where_the_batches_are(case):
    """Else the second step would be compiled anew, or refuse a batch that lies elsewhere."""
    two = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[2:4])
    last = jax.devices()[-1]
    for pipe, devices in [
        (PIPE.batch(BATCH), {jax.devices()[0]}),
        (PIPE.batch(BATCH).place(last), {last}),
        (PIPE.batch(BATCH, remainder="drop").place(two, "data"), set(two.devices.flat)),
    ]:
        state = case.module.create_state(case.model, OPTIMIZER, pipe.spec)
        arrays = [leaf for leaf in jax.tree.leaves(state) if isinstance(leaf, jax.Array)]
        assert all(a.committed and a.is_fully_replicated and a.devices() == devices for a in arrays)


def test_a_seed_is_all_that_parameters_depend_on(case):
    first = case.bits(case.state())
    assert same_bits(first, case.bits(case.create(seed=0)))
    assert not same_bits(first, case.bits(case.create(seed=4)))


def test_loss_falls(case):
    state, losses = case.state(), []
    with PIPE.shuffle(seed=0).batch(BATCH).iterate(epochs=20) as batches:
        for batch in batches:
            state, measured = case.train_step(state, batch)
            losses.append(float(measured["loss"]))
    assert losses[0] > 1
    assert np.mean(losses[-2:]) < 0.1


def test_state_is_donated_and_the_batch_is_not(case):
    batch = PIPE.batch(BATCH).peek()
    state = case.state()
    before = jax.tree.leaves(case.module.parameters(state))
    case.train_step(state, batch)
    assert all(leaf.is_deleted() for leaf in before)
    assert not any(leaf.is_deleted() for leaf in batch.values())


def test_the_same_batches_give_the_same_parameters(case):
    after = []
    for _ in range(2):
        state = case.state()
        for batch in PIPE.batch(BATCH, remainder="drop"):
            state, _ = case.train_step(state, batch)
        after.append(case.bits(state))
    assert same_bits(*after)


def test_a_checkpoint_gives_the_state_back(case, tmp_path):
    pytest.importorskip("orbax.checkpoint")
    from tfjax.tools.checkpoint import Checkpoints

    checkpoints = Checkpoints(tmp_path, training={}, resume=False)
    checkpoints.save(1, case.create(seed=4), position="{}", history={})
    restored = checkpoints.restore(case.state()).state
    checkpoints.close()
    assert jax.tree.structure(restored) == jax.tree.structure(case.state())
    assert same_bits(case.bits(restored), case.bits(case.create(seed=4)))


def test_evaluation_counts_every_row_once(case):
    state = case.state()
    whole = case.eval_step(state, PIPE.batch(ROWS).peek())
    padded = [case.eval_step(state, batch) for batch in PIPE.batch(BATCH, remainder="pad")]
    totals = {name: sum(float(sums[name]) for sums in padded) for name in whole}
    assert totals["count"] == float(whole["count"]) == ROWS
    assert totals["correct"] == float(whole["correct"])
    np.testing.assert_allclose(totals["loss"], float(whole["loss"]), rtol=1e-5)


def test_masked_rows_train_nothing(case):
    *_, last = PIPE.batch(BATCH, remainder="pad")
    other = {**last, "image": jnp.where(last["mask"][:, None, None, None], last["image"], 7.0)}
    after = []
    for batch in (last, other):
        state, measured = case.train_step(case.state(), batch)
        after.append([*case.bits(state), np.array(measured["loss"])])
    assert same_bits(*after)


def test_inputs_may_have_another_key(case):
    spec = {"picture": SPEC["image"]}
    assert case.module.create_state(case.model, OPTIMIZER, spec, x="picture")
    with pytest.raises(KeyError, match=r"no inputs 'image' .* has \['picture'\]"):
        case.module.create_state(case.model, OPTIMIZER, spec)


def test_a_spec_without_batches_is_refused(case):
    spec = {"image": jax.ShapeDtypeStruct((), jnp.float32)}
    with pytest.raises(ValueError, match=r"shape \(\) .* call \.batch\(size\)"):
        case.module.create_state(case.model, OPTIMIZER, spec)


def test_a_loss_that_is_a_mean_is_refused(case):
    state, batch = case.state(), PIPE.batch(BATCH).peek()
    step = case.module.train_step(lambda predict, batch: cross_entropy(predict, batch).mean())
    with pytest.raises(ValueError, match=r"the loss has shape \(\): return one value for each example"):
        step(state, batch)
    evaluate = case.module.eval_step(lambda predict, batch: {"mine": predict(batch["image"])})
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


def test_linen_refuses_variables_that_it_would_not_train():
    nn = pytest.importorskip("flax.linen")
    from tfjax.frameworks import linen

    class Normed(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.BatchNorm(use_running_average=True)(x)

    with pytest.raises(ValueError, match=r"Normed has variables \['batch_stats'\]"):
        linen.create_state(Normed(), optax.sgd(1e-2), SPEC)
