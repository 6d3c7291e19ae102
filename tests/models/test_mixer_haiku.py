"""MLP-Mixer of examples/models: what the paper says of it, and that it trains."""

from functools import partial

import pytest

hk = pytest.importorskip("haiku")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

import tfjax  # noqa: E402
from examples.models.mixer_haiku import B16, PAPER, TINY, count, mixer, train_step  # noqa: E402

KEY = jax.random.key(0)
MODEL, OPTIMIZER = hk.transform(mixer(TINY, classes=4)), optax.adam(1e-2)
IMAGE = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)
LABEL = np.arange(4)


@pytest.fixture(scope="module")
def params():
    """Drawn by NumPy, as `init` would have to be compiled."""
    rng, shapes = np.random.default_rng(1), jax.eval_shape(partial(MODEL.init, is_training=False), KEY, IMAGE)
    return jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(leaf.dtype), shapes)


@pytest.fixture(scope="module")
def logits():
    apply = jax.jit(partial(MODEL.apply, is_training=False))
    return lambda params, image=IMAGE: apply(params, None, image)


@pytest.mark.parametrize("name", PAPER)
def test_parameters_and_shapes_are_those_of_the_paper(name):
    size, parameters = PAPER[name]
    model, photo = hk.transform(mixer(size, classes=1000)), jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    params = jax.eval_shape(partial(model.init, is_training=True), KEY, photo)
    assert count(params) == parameters
    assert jax.eval_shape(partial(model.apply, is_training=False), params, None, photo).shape == (2, 1000)


def test_an_image_that_does_not_divide_into_patches_is_refused():
    model = hk.transform(mixer(B16, classes=10))
    with pytest.raises(ValueError, match=r"224 x 230 pixels .* 16 x 16: resize them to multiples of 16"):
        model.init(KEY, jnp.zeros((1, 224, 230, 3)), is_training=False)


def test_the_order_of_patches_counts_and_is_in_the_token_mixing_weights(params, logits):
    turned = IMAGE.reshape(4, 2, 8, 2, 8, 3)[:, ::-1, :, ::-1].reshape(IMAGE.shape)  # the 4 patches, last one first
    assert (abs(logits(params, turned) - logits(params)) > 1e-3).any()

    def permuted(module, name, value):
        if "token_mixing/linear" not in module:
            return value
        if module.endswith("linear"):  # from patches to hidden
            return value[::-1] if name == "w" else value
        return value[..., ::-1]  # from hidden to patches

    moved = hk.data_structures.map(permuted, params)
    np.testing.assert_allclose(logits(moved, turned), logits(params), atol=1e-5)


def test_a_step_changes_every_parameter_and_the_loss_falls(params):
    seen, losses, opt_state = [params], [], OPTIMIZER.init(params)
    for _ in range(5):
        changed, opt_state, loss = train_step(MODEL, OPTIMIZER, seen[-1], opt_state, KEY, IMAGE, LABEL)
        seen.append(changed)
        losses.append(float(loss))
    first, last = jax.tree.leaves(seen[1]), jax.tree.leaves(seen[-1])
    assert all((before != after).any() for before, after in zip(jax.tree.leaves(params), first, strict=True))
    assert all(np.isfinite(leaf).all() for leaf in last)
    assert losses[-1] < losses[0]


def test_keys_leave_branches_out_in_training_alone(params, logits):
    losses = {
        float(train_step(MODEL, OPTIMIZER, params, OPTIMIZER.init(params), jax.random.key(seed), IMAGE, LABEL)[-1])
        for seed in range(4)
    }
    assert len(losses) > 1
    np.testing.assert_array_equal(logits(params), logits(params))
    with pytest.raises(ValueError, match="must pass a non-None PRNGKey"):
        jax.eval_shape(partial(MODEL.apply, is_training=True), params, None, IMAGE)


def test_trains_through_tfjax():
    from tfjax.frameworks import haiku

    def loss(predict, batch):
        return optax.softmax_cross_entropy_with_integer_labels(predict(batch["image"]), batch["label"])

    pipe = tfjax.from_arrays({"image": IMAGE, "label": LABEL}).batch(4)
    state = haiku.create_state(mixer(TINY, classes=4), OPTIMIZER, pipe.spec)
    step, losses = haiku.train_step(loss), []
    for batch in pipe.iterate(epochs=4):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0]
    assert int(state.step) == 4
