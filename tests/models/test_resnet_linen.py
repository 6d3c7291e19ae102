"""`examples/models/resnet_linen.py`: the paper's shapes and parameters, one step, scanned blocks, bfloat16."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tfjax

pytest.importorskip("flax")

from flax.traverse_util import flatten_dict

from examples.models import resnet_linen
from examples.models.resnet_linen import ResNet, resnet18, resnet34, resnet50, train_step

PHOTO = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
SMALL = ResNet((1, 3), bottleneck=False, classes=5, width=4)
IMAGE = jax.random.normal(jax.random.key(0), (5, 8, 8, 3))


def shapes(model, image=PHOTO):
    """Logits and variables, and what each module returns, computed by nobody."""
    init = partial(model.init_with_output, train=False, capture_intermediates=True, mutable=True)
    return jax.eval_shape(init, jax.random.key(0), image)


def changed(old, new):
    assert np.all(np.isfinite(new))
    assert not np.array_equal(old, new)


@pytest.fixture(scope="module")
def variables():
    """Drawn by NumPy, as `init` would have to be compiled."""
    rng, found = np.random.default_rng(1), dict(shapes(SMALL, IMAGE)[1])
    return {
        "params": jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(leaf.dtype), found["params"]),
        "batch_stats": jax.tree.map(lambda leaf: rng.random(leaf.shape).astype(leaf.dtype), found["batch_stats"]),
    }


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize(("name", "last"), [("resnet18", 512), ("resnet34", 512), ("resnet50", 2048)])
def test_parameters_are_those_of_the_paper(name, last, scan):
    logits, variables = shapes(getattr(resnet_linen, name)(scan=scan))
    assert logits.shape == (2, 1000)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == resnet_linen.PUBLISHED[name]
    assert variables["params"]["head"]["kernel"].shape == (last, 1000)


@pytest.mark.parametrize(("model", "features"), [(resnet18, 64), (resnet34, 64), (resnet50, 256)])
def test_stages_have_the_sizes_of_table_1(model, features):
    outputs = shapes(model())[1]["intermediates"]
    assert outputs["stem"]["__call__"][0].shape == (2, 112, 112, 64)
    for stage, side in enumerate((56, 28, 14, 7)):
        assert outputs[f"stage{stage}_first"]["__call__"][0].shape == (2, side, side, features * 2**stage)


def test_a_step_lowers_the_loss_and_changes_every_variable(variables):
    optimizer, label = optax.sgd(1e-3), jnp.arange(5)
    once, optimizer_state, before = train_step(
        SMALL, optimizer, variables, optimizer.init(variables["params"]), IMAGE, label
    )
    *_, after = train_step(SMALL, optimizer, once, optimizer_state, IMAGE, label)
    assert after < before
    jax.tree.map(changed, variables, once)


@pytest.mark.parametrize("train", [False, True])
def test_scanned_blocks_give_the_same(variables, train):
    def stacked(collection):
        rest = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(collection[f"stage1_{i}"] for i in (1, 2)))
        return {k: v for k, v in collection.items() if k not in ("stage1_1", "stage1_2")} | {"stage1_rest": rest}

    def run(model, variables):
        apply = partial(model.apply, train=train, mutable=["batch_stats"])
        logits, changed = jax.jit(apply)(variables, IMAGE)
        return logits, changed["batch_stats"]

    logits, statistics = run(SMALL, variables)
    scanned_logits, scanned_statistics = run(SMALL.copy(scan=True), {k: stacked(v) for k, v in variables.items()})
    np.testing.assert_allclose(scanned_logits, logits, atol=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), scanned_statistics, stacked(statistics))


def test_a_scan_draws_other_parameters_for_each_block():
    @jax.jit  # of this one leaf
    def drawn(key):
        rest = SMALL.copy(scan=True).init(key, IMAGE, train=False)["params"]["stage1_rest"]
        return rest["ConvNorm_0"]["Conv_0"]["kernel"]

    kernel = drawn(jax.random.key(1))
    assert kernel.shape == (2, 3, 3, 8, 8)
    assert not np.array_equal(kernel[0], kernel[1])


@pytest.mark.parametrize("bottleneck", [False, True])
def test_zero_init_starts_the_last_scale_of_each_block_at_zero(bottleneck):
    @jax.jit  # of the scales alone
    def scales(key):
        params = SMALL.copy(zero_init=True, bottleneck=bottleneck).init(key, IMAGE, train=False)["params"]
        return {path: leaf for path, leaf in flatten_dict(params, sep="/").items() if path.endswith("scale")}

    last = f"ConvNorm_{2 if bottleneck else 1}/BatchNorm_0/scale"
    found = scales(jax.random.key(0))
    assert sum(path.endswith(last) for path in found) == 4
    for path, scale in found.items():
        np.testing.assert_array_equal(scale, 0 if path.endswith(last) else 1, err_msg=path)


@pytest.mark.parametrize("given", ["dtype", "parameters"])
def test_bfloat16_computes_in_it_and_keeps_float32(given):
    model = SMALL.copy(dtype=jnp.bfloat16 if given == "dtype" else None)
    _, variables = shapes(model, IMAGE)
    kept = {name: variables[name] for name in ("params", "batch_stats")}
    assert {leaf.dtype for leaf in jax.tree.leaves(kept)} == {jnp.dtype("float32")}
    params, image = kept["params"], IMAGE
    if given == "parameters":
        params, image = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, jnp.bfloat16), (params, image))
    apply = partial(model.apply, train=True, capture_intermediates=True, mutable=["batch_stats", "intermediates"])
    logits, changed = jax.eval_shape(apply, kept | {"params": params}, image)
    assert changed["intermediates"]["stage1_2"]["__call__"][0].dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves((changed["batch_stats"], logits))} == {jnp.dtype("float32")}


def test_tfjax_trains_it_with_its_statistics():
    from tfjax.frameworks import linen

    pipe = tfjax.from_arrays({"image": np.asarray(IMAGE), "label": np.arange(5)}).batch(5)
    state = linen.create_state(SMALL.copy(stage_sizes=(1,)), optax.sgd(1e-3), pipe.spec, seed=0)
    before = jax.tree.map(np.array, (state.params, state.model_state))
    step = linen.train_step(
        lambda predict, batch: optax.softmax_cross_entropy_with_integer_labels(predict(batch["image"]), batch["label"])
    )
    state, metrics = step(state, pipe.peek())
    assert np.all(np.isfinite(metrics["losses"]))
    jax.tree.map(changed, before, (state.params, state.model_state))
