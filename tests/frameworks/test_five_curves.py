"""From the same weights, on the same pipeline, the five frameworks' losses agree within 1e-3 over 200 steps."""

import importlib

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import tfjax
from tfjax.frameworks import convert
from tfjax.frameworks.convert import equinox as to_equinox
from tfjax.frameworks.convert import haiku as to_haiku
from tfjax.frameworks.convert import keras as to_keras
from tfjax.frameworks.convert import linen as to_linen
from tfjax.frameworks.convert import nnx as to_nnx

NAMES = ("linen", "nnx", "equinox", "haiku", "keras")
STEPS, BATCH, TOLERANCE = 200, 32, 1e-3
OPTIMIZER = optax.adam(3e-3)
INPUTS = (jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32),)


def cross_entropy(predict, batch):
    return optax.softmax_cross_entropy_with_integer_labels(predict(batch["image"]), batch["label"])


def normalized(batch):
    return {**batch, "image": batch["image"] / 16}


def held(name, module, state):
    """The model of a training state, for `transfer`."""
    if name == "linen":
        return to_linen.Model(state.model.module, {"params": state.params}, INPUTS)
    if name == "haiku":
        return to_haiku.Model(hk.transform(state.model.function), state.params, inputs=INPUTS)
    one = {"nnx": to_nnx.Model, "equinox": to_equinox.Model, "keras": to_keras.Model}[name]
    return one(module.to_model(state))


def params_of(name, received):
    """The parameters of a training state, of what `transfer` returned."""
    return {
        "linen": lambda: received["params"],
        "nnx": lambda: nnx.to_pure_dict(nnx.state(received, nnx.Param)),
        "equinox": lambda: eqx.filter(received, eqx.is_inexact_array),
        "haiku": lambda: received,
        "keras": lambda: [jnp.copy(v.value) for v in received.trainable_variables],
    }[name]()


def curve(name, pipe, source, steps=STEPS):
    """The losses of some steps from the source's weights; its own, where there is no source."""
    module = importlib.import_module(f"tfjax.frameworks.{name}")
    state = module.create_state(module.small_cnn(10), OPTIMIZER, pipe.spec, seed=len(name))
    if source is not None:
        state = state.replace(params=params_of(name, convert.transfer(source, held(name, module, state))))
    step, losses = module.train_step(cross_entropy), []
    with pipe.iterate(steps=steps) as batches:
        for batch in batches:
            state, measured = step(state, batch)
            losses.append(measured["loss"])
    return np.array(losses)


@pytest.fixture(scope="module")
def pipe(digits_dir):
    digits = tfjax.load("digits", split="train", data_dir=str(digits_dir))
    return digits.shuffle(seed=0).batch(BATCH).device_map(normalized)


def test_the_loss_curves_agree(pipe):
    linen = importlib.import_module("tfjax.frameworks.linen")
    source = held("linen", linen, linen.create_state(linen.small_cnn(10), OPTIMIZER, pipe.spec, seed=3))
    curves = {name: curve(name, pipe, source) for name in NAMES}
    first = curves["linen"]
    assert first[0] > 2
    assert first[-10:].mean() < 0.6
    for name, losses in curves.items():
        np.testing.assert_allclose(losses, first, rtol=0, atol=TOLERANCE, err_msg=name)


def test_other_weights_give_another_curve(pipe):
    one, other = (curve(name, pipe, None, steps=10) for name in ("linen", "nnx"))
    assert np.abs(one - other).max() > 10 * TOLERANCE
