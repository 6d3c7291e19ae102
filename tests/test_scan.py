"""`scan_steps`: what single steps do, in one dispatch a stack."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

import tfjax

FRAMEWORKS = {"linen": "flax", "nnx": "flax", "equinox": "equinox", "haiku": "haiku", "keras": "keras"}
RNG = np.random.default_rng(0)
ROWS = {
    "image": RNG.normal(size=(40, 8, 8, 1)).astype(np.float32),
    "label": RNG.integers(0, 4, 40).astype(np.int32),
}
BATCHES = tfjax.from_arrays(ROWS).batch(8, "drop")
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def linear(weights, x):
    return x.reshape(len(x), -1) @ weights


def step(weights, batch):
    """Plain JAX, not jitted."""

    def loss(weights):
        return optax.softmax_cross_entropy_with_integer_labels(linear(weights, batch["image"]), batch["label"]).mean()

    value, slope = jax.value_and_grad(loss)(weights)
    return weights - 0.1 * slope, {"loss": value, "label": batch["label"]}


def first():
    return jnp.zeros((64, 4))


def run(train, state, batches):
    """The last state, and the metrics of all batches or stacks."""
    found = []
    for batch in batches.iterate(epochs=2):
        state, metrics = train(state, batch)
        found.append(metrics)
    return state, found


def close(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, **CLOSE)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, lambda f: jax.jit(f, donate_argnums=0)])
@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_it_does_what_single_steps_do(wrap, k):
    weights, alone = run(jax.jit(step), first(), BATCHES)
    scanned, stacks = run(tfjax.scan_steps(wrap(step), k), first(), BATCHES.stack(k))
    close(weights, scanned)
    assert [len(metrics["loss"]) for metrics in stacks] == 2 * ([k] * (5 // k) + [5 % k] * (5 % k > 0))
    for name in ("loss", "label"):
        close(np.stack([metrics[name] for metrics in alone]), np.concatenate([metrics[name] for metrics in stacks]))


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_train_step_of_a_framework(name):
    pytest.importorskip(FRAMEWORKS[name])
    module = importlib.import_module(f"tfjax.frameworks.{name}")
    train = module.train_step(
        lambda predict, b: optax.softmax_cross_entropy_with_integer_labels(predict(b["image"]), b["label"])
    )

    def state():
        return module.create_state(module.small_cnn(4), optax.sgd(0.05), BATCHES.spec, seed=0)

    alone, singles = run(train, state(), BATCHES)
    scanned, stacks = run(tfjax.scan_steps(train, 3), state(), BATCHES.stack(3))
    close(alone, scanned)
    close([m["loss"] for m in singles], list(np.concatenate([m["loss"] for m in stacks])))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_batches_on_a_mesh(kind):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(kind,), devices=jax.devices()[:2])
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    scanned, stacks = run(
        tfjax.scan_steps(step, 4), jax.device_put(first(), whole), BATCHES.stack(4).place(mesh, "data")
    )
    assert scanned.sharding.is_equivalent_to(whole, 2)
    assert stacks[0]["label"].sharding.is_equivalent_to(
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "data")), 2
    )
    close(run(jax.jit(step), first(), BATCHES)[0], scanned)


def test_modules_with_parts_that_are_no_arrays():
    eqx = pytest.importorskip("equinox")
    module = eqx.nn.Sequential(
        [eqx.nn.Linear(64, 4, key=jax.random.key(0)), eqx.nn.Lambda(jax.nn.tanh), eqx.nn.Dropout(0.5, inference=True)]
    )

    def update(module, batch):
        def loss(module):
            logits = jax.vmap(module)(batch["image"].reshape(8, 64))
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

        value, slope = eqx.filter_value_and_grad(loss)(module)
        return eqx.apply_updates(module, jax.tree.map(lambda g: -0.1 * g, slope)), value

    alone, _ = run(eqx.filter_jit(update), module, BATCHES)
    copy = jax.tree.map(lambda a: jnp.copy(a) if eqx.is_array(a) else a, module)
    scanned, _ = run(tfjax.scan_steps(eqx.filter_jit(update), 2), copy, BATCHES.stack(2))
    assert scanned.layers[1].fn is jax.nn.tanh and scanned.layers[2].inference is True
    close(*(eqx.filter(m, eqx.is_array) for m in (alone, scanned)))


def test_nnx_modules_as_they_are():
    nnx = pytest.importorskip("flax.nnx")

    def state():
        model = nnx.Linear(64, 4, rngs=nnx.Rngs(0))
        return model, nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)

    def update(state, batch):
        model, optimizer = state

        def loss(model):
            logits = model(batch["image"].reshape(8, 64))
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

        value, slope = nnx.value_and_grad(loss)(model)
        optimizer.update(model, slope)
        return state, value

    (alone, _), _ = run(update, state(), BATCHES)
    (scanned, optimizer), _ = run(tfjax.scan_steps(update, 5), state(), BATCHES.stack(5))
    close(alone.kernel[...], scanned.kernel[...])
    assert int(optimizer.step[...]) == 10


def test_the_state_is_donated_and_each_length_is_traced_once():
    traced = []

    def counted(weights, batch):
        traced.append(batch["label"].shape)
        return step(weights, batch)

    train, weights = tfjax.scan_steps(counted, 2), first()
    after, _ = run(train, weights, BATCHES.stack(2))
    assert weights.is_deleted() and not after.is_deleted()
    assert traced == [(8,), (8,)], "a stack of two and the last one of an epoch"


STACK = {"image": np.zeros((2, 8, 8, 8, 1), np.float32), "label": np.zeros((2, 8), np.int32)}
WRONG = {
    "one batch": ({k: v[0] for k, v in STACK.items()}, r"given \['image'\].*\['label'\]: int32\[8\]: put stack\(2\)"),
    "longer": ({k: np.concatenate([v] * 2) for k, v in STACK.items()}, r"k=2\) was given 4 batches"),
    "two lengths": ({**STACK, "label": STACK["label"][:1]}, "one number of batches for all leaves"),
    "nothing": ({}, "takes leaves of shape"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_stack(name):
    stack, message = WRONG[name]
    with pytest.raises(tfjax.SpecError, match=message):
        tfjax.scan_steps(step, 2)(first(), stack)


def test_what_is_refused():
    with pytest.raises(TypeError, match="scan_steps takes a function"):
        tfjax.scan_steps(3, 2)
    with pytest.raises(ValueError, match="scan_steps: k takes an int from 1"):
        tfjax.scan_steps(step, 0)
    state = {"weights": first(), "step": 0}

    def counting(state, batch):
        weights, metrics = step(state["weights"], batch)
        return {"weights": weights, "step": state["step"] + 1}, metrics

    with pytest.raises(TypeError, match=r"\['step'\] is 0, which step changes.*jnp.asarray"):
        tfjax.scan_steps(counting, 2)(state, STACK)
    with pytest.raises(TypeError, match="another structure"):
        tfjax.scan_steps(lambda s, b: ((s, s), step(s, b)[1]), 2)(first(), STACK)
    with pytest.raises(TypeError, match="carry"):
        tfjax.scan_steps(lambda s, b: (s.astype(jnp.bfloat16), step(s, b)[1]), 2)(first(), STACK)
    with pytest.raises(TypeError, match=r"step returned a .*Tracer: scan_steps takes steps to"):
        tfjax.scan_steps(lambda s, _: s, 2)(first(), STACK)
    with pytest.raises(TypeError, match=r"scan_steps calls fn\(state, batch\)"):
        tfjax.scan_steps(lambda s: s, 2)
    with pytest.raises(tfjax.SpecError, match="given the batch: Pipeline: put stack"):
        tfjax.scan_steps(step, 2)(first(), tfjax.from_arrays(STACK))
