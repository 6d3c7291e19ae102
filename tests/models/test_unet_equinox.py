"""U-Net of examples/models: what the paper says of it, and that it trains."""

import math
from functools import partial

import pytest

eqx = pytest.importorskip("equinox")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

import tfjax  # noqa: E402
from examples.models.unet_equinox import KNOWN, UNet, batch_norm, count, group_norm, train_step  # noqa: E402

MAKE = eqx.nn.make_with_state(UNet)
SMALL = eqx.filter_jit(partial(MAKE, 3, 2, widths=(4, 8), norm=batch_norm))
KEY = jax.random.key(0)
OPTIMIZER = optax.adam(1e-2)


def on_noise():
    image = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    return {"image": image, "label": (image[..., 0] > 0).astype(np.int32)}


@pytest.fixture(scope="module")
def trained():
    """(model, state, loss before) at the start and after each of 5 steps on one batch; small, with BatchNorm."""
    model, state = SMALL(key=KEY)
    opt_state = OPTIMIZER.init(eqx.filter(model, eqx.is_inexact_array))
    seen = [(model, state, math.inf)]
    for _ in range(5):
        model, state, opt_state, loss = train_step(model, state, opt_state, on_noise(), optimizer=OPTIMIZER, key=KEY)
        seen.append((model, state, float(loss)))
    return seen


@pytest.mark.parametrize(
    ("channels", "norm", "parameters"),
    [
        (1, None, KNOWN["paper"]),
        (3, batch_norm, KNOWN["RGB, BatchNorm"]),
        (3, group_norm, KNOWN["RGB, BatchNorm"]),  # a scale and an offset for each feature in both
    ],
)
def test_parameters_and_shapes_are_those_of_the_paper(channels, norm, parameters):
    model, state = eqx.filter_eval_shape(MAKE, channels, norm=norm, key=KEY)
    assert count(model) == parameters

    convolution = (eqx.nn.Conv, eqx.nn.ConvTranspose)
    layers = jax.tree.leaves(model, is_leaf=lambda node: isinstance(node, convolution))
    assert sum(isinstance(layer, convolution) for layer in layers) == 23

    image = jax.ShapeDtypeStruct((64, 96, channels), jnp.float32)
    assert eqx.filter_eval_shape(eqx.nn.inference_mode(model), image, state)[0].shape == (64, 96, 2)


def test_an_odd_size_is_refused_with_one_that_fits():
    model, state = eqx.filter_eval_shape(MAKE, 1, key=KEY)
    with pytest.raises(ValueError, match=r"250 x 256 pixels.* multiples of 16: pad or resize it to 256 x 256"):
        eqx.filter_eval_shape(model, jax.ShapeDtypeStruct((250, 256, 1), jnp.float32), state, key=KEY)


def test_a_step_changes_every_parameter_and_the_loss_falls(trained):
    leaves = [jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)) for model, _, _ in trained]
    assert all(np.isfinite(leaf).all() for leaf in leaves[-1])
    assert all((before != after).any() for before, after in zip(leaves[0], leaves[1], strict=True))
    losses = [loss for _, _, loss in trained]
    assert losses[5] < losses[2] < losses[1]


def test_dropout_and_running_statistics_are_of_training_alone(trained):
    (model, state, _), (_, moved, loss) = trained[:2]
    opt_state = OPTIMIZER.init(eqx.filter(model, eqx.is_inexact_array))
    other = train_step(model, state, opt_state, on_noise(), optimizer=OPTIMIZER, key=jax.random.key(1))[-1]
    assert float(other) != loss
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(moved), strict=True))

    logits = eqx.filter_jit(eqx.nn.inference_mode(model))
    image = on_noise()["image"][0]
    one, same = logits(image, moved)
    np.testing.assert_array_equal(one, logits(image, moved, key=jax.random.key(1))[0])
    jax.tree.map(np.testing.assert_array_equal, same, moved)


def test_trains_through_tfjax():
    from tfjax.frameworks import equinox

    def loss(predict, batch):
        pixels = optax.softmax_cross_entropy_with_integer_labels(predict(batch["image"]), batch["label"])
        return pixels.mean((1, 2))

    pipe = tfjax.from_arrays(on_noise()).batch(2)
    state = equinox.create_state(lambda _, key: SMALL(key=key), OPTIMIZER, pipe.spec)
    step, losses = equinox.train_step(loss), []
    for batch in pipe.iterate(epochs=4):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0]
    assert int(state.step) == 4
