"""Parameters over a mesh: where they lie, that they stay there, and that they train as on one device."""

import jax
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.frameworks.cases import CLASSES, FEATURES, HIDDEN, OPTIMIZER, case, loss, rows

KINDS = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}


def on_mesh(count, kind=AxisType.Auto):
    """A batch that is cut over `count` devices."""
    mesh = jax.make_mesh((count,), ("data",), axis_types=(kind,), devices=jax.devices()[:count])
    return jax.device_put(rows(), NamedSharding(mesh, PartitionSpec("data")))


def large(tree):
    """The kernel that fsdp cuts, whichever way round a framework has it, wherever it is in the tree."""
    return [leaf for leaf in jax.tree.leaves(tree) if leaf.size == FEATURES * HIDDEN]


def last_dimension(_, leaf):
    """A rule by shape, which holds in every framework."""
    return PartitionSpec(*(None,) * (leaf.ndim - 1), "data") if leaf.shape[-1] % 8 == 0 else PartitionSpec()


def trained(state, step, batch, steps=3):
    losses = []
    for _ in range(steps):
        state, measured = step(state, batch)
        losses.append(float(jax.block_until_ready((state, measured))[1]["loss"]))
    return state, losses


@pytest.mark.parametrize("kind", KINDS)
def test_fsdp_trains_as_one_device_does(full, kind):
    """Parameters and moments are cut, the step is compiled once, and the state stays where it was put."""
    _, expected = trained(full.state(), full.step(), rows())
    batch = on_mesh(2, KINDS[kind])
    state = full.create(batch, sharding="fsdp")
    shardings = [leaf.sharding for leaf in jax.tree.leaves(state)]
    step = full.module.train_step(loss, sample_weight="weight")
    first = jax.tree.leaves((state.params, state.opt_state))
    state, losses = trained(state, step, batch)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert step._cache_size() == 1
    assert all(leaf.is_deleted() for leaf in first)
    for leaf, sharding in zip(jax.tree.leaves(state), shardings, strict=True):
        assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
    cut = large((state.params, state.opt_state))
    assert len(cut) == 2
    assert all({shard.data.size for shard in leaf.addressable_shards} == {leaf.size // 2} for leaf in cut)


@pytest.mark.parametrize("kind", KINDS)
def test_data_parallel_trains_as_one_device_does(kind):
    full = case("linen", full=True)
    _, expected = trained(full.state(), full.step(), rows())
    batch = on_mesh(2, KINDS[kind])
    step = full.module.train_step(loss, sample_weight="weight")
    state, losses = trained(full.create(batch), step, batch)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert step._cache_size() == 1
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_of_a_state_that_is_cut(kind):
    linen = case("linen")
    batch = on_mesh(2, KINDS[kind])
    sums = jax.block_until_ready(linen.evaluate(linen.create(batch, sharding="fsdp"), batch))
    np.testing.assert_allclose(sums["loss"], linen.evaluate(linen.first, rows())["loss"], rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_switch_on_a_state_that_is_cut(kind):
    """In float16, whose loss scale is laid out too; in float32 the same sums come in another order."""
    linen, precision = case("linen", full=True), "float16"
    switches = {"accumulate": 2, "max_grad_norm": 0.1, "remat": True}
    _, expected = trained(linen.create(precision=precision), linen.step(**switches), rows())
    batch = on_mesh(2, KINDS[kind])
    step = linen.module.train_step(loss, sample_weight="weight", **switches)
    _, losses = trained(linen.create(batch, sharding="fsdp", precision=precision), step, batch)
    np.testing.assert_allclose(losses, expected, rtol=1e-2)
    assert step._cache_size() == 1


def test_a_rule_cuts_as_it_says(full):
    """On 8 devices, where nothing is trained."""
    batch = on_mesh(8)
    state = full.create(batch, sharding=last_dimension)
    for leaf in jax.tree.leaves(state.params):
        wanted = leaf.shape[-1] if leaf.shape[-1] % 8 else leaf.shape[-1] // 8
        assert {shard.data.shape for shard in leaf.addressable_shards} == {(*leaf.shape[:-1], wanted)}
    moments = large(state.opt_state)
    assert [m.sharding for m in moments] == [p.sharding for p in large(state.params)]
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves((state.model_state, state.step, state.key)))


def test_fsdp_on_8_devices_cuts_what_is_large(full):
    state = full.create(on_mesh(8), sharding="fsdp")
    for leaf in jax.tree.leaves(state.params):
        parts = 8 if leaf.size >= 1024 else 1
        assert {shard.data.size for shard in leaf.addressable_shards} == {leaf.size // parts}


def test_a_rule_is_given_paths_and_shapes(plain):
    seen = {}

    def rule(path, leaf):
        seen[path] = leaf.shape
        return PartitionSpec()

    state = plain.create(on_mesh(2), sharding=rule)
    paths = jax.tree_util.tree_leaves_with_path(state.params)
    assert seen == {jax.tree_util.keystr(path): leaf.shape for path, leaf in paths}


def test_a_short_spec_holds_for_the_moments_too():
    """PartitionSpec("data") says nothing of the other dimensions."""
    linen = case("linen")
    state = linen.create(on_mesh(2), sharding=lambda *_: PartitionSpec("data"))
    assert [leaf.sharding for leaf in large(state.opt_state)] == [leaf.sharding for leaf in large(state.params)]
    assert not large(state.params)[0].is_fully_replicated


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.adam(1e-3),
        optax.adafactor(1e-3, min_dim_size_to_factor=4),
        optax.masked(optax.adam(1e-3), lambda params: jax.tree.map(lambda p: p.ndim > 1, params)),
        optax.partition(
            {"train": optax.adam(1e-3), "freeze": optax.set_to_zero()},
            lambda params: jax.tree.map(lambda p: "train" if p.ndim > 1 else "freeze", params),
        ),
        optax.MultiSteps(optax.adam(1e-3), 2),
        optax.inject_hyperparams(optax.adam)(learning_rate=1e-3),
    ],
    ids=["adam", "adafactor", "masked", "partition", "MultiSteps", "inject_hyperparams"],
)
def test_moments_of_every_optimizer_are_laid_out(optimizer):
    """As the parameters where they have their shape, else whole."""
    linen = case("linen").module
    batch = on_mesh(2)
    state = linen.create_state(case("linen").model, optimizer, batch, x="x", sharding="fsdp")
    assert not large(state.params)[0].is_fully_replicated
    for leaf in jax.tree.leaves(state.opt_state):
        assert leaf.is_fully_replicated == (leaf.size != FEATURES * HIDDEN)


@pytest.mark.parametrize(
    ("sharding", "error"),
    [
        ("zero", r"sharding='zero': choose 'replicated', 'fsdp' or a function"),
        (lambda *_: PartitionSpec("model"), r"cannot be cut as P\('model',?\)"),
        (lambda *_: PartitionSpec(None, None, None), r"of shape \(\d+,?.*\) cannot be cut as"),
        (lambda *_: None, "cannot be cut as None: return a PartitionSpec"),
        (
            lambda _, leaf: PartitionSpec("data") if leaf.shape == (CLASSES,) else PartitionSpec(),
            r"\(4,\) cannot be cut",
        ),
    ],
    ids=["name", "axis", "rank", "none", "size"],
)
def test_a_layout_that_does_not_fit_is_refused(sharding, error):
    linen = case("linen")
    with pytest.raises(ValueError, match=error):
        linen.create(on_mesh(8), sharding=sharding)


def test_a_layout_needs_batches_on_a_mesh():
    linen = case("linen")
    with pytest.raises(ValueError, match=r"sharding='fsdp' needs batches on a mesh: call \.place\(mesh, axis\)"):
        linen.create(rows(), sharding="fsdp")
    assert linen.create(rows(), sharding="replicated").layout is None


def test_batches_of_another_axis():
    """The axis that the batch is cut over, of a mesh that has more."""
    mesh = jax.make_mesh((1, 2), ("model", "data"), axis_types=(AxisType.Auto,) * 2, devices=jax.devices()[:2])
    batch = jax.device_put(rows(), NamedSharding(mesh, PartitionSpec("data")))
    state = case("linen").module.create_state(case("linen").model, OPTIMIZER, batch, x="x", sharding="fsdp")
    assert large(state.params)[0].sharding.spec == PartitionSpec(None, "data")


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_of_a_first_dimension_is_compiled_once(kind):
    """Results end their specs with the dimension that is cut."""
    linen = case("linen")
    batch = on_mesh(2, KINDS[kind])
    step = linen.module.train_step(loss)
    state = linen.create(batch, sharding=lambda _, leaf: PartitionSpec("data", *(None,) * (leaf.ndim - 1)))
    trained(state, step, batch, steps=2)
    assert step._cache_size() == 1


def test_a_mesh_is_no_rule():
    with pytest.raises(TypeError, match=r"sharding calls fn\(path, leaf\), and Mesh.* cannot be called so"):
        case("linen").create(on_mesh(2), sharding=on_mesh(2)["x"].sharding.mesh)
