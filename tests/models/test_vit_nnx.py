"""`examples/models/vit_nnx.py`: the published parameters, dropout, one step, bfloat16."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tfjax

pytest.importorskip("flax")

from flax import nnx

from examples.models import vit_nnx
from examples.models.vit_nnx import ViT, train_step, vit_b16, vit_s16

IMAGE = jax.random.normal(jax.random.key(0), (5, 8, 8, 3))
small = partial(ViT, 2, 16, 2, patch_size=4, image_size=8, classes=5)


def shape(make, **given):
    """A model without its values."""
    return nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0), **given))


def outputs(model, image):
    """What the model returns, computed by nobody."""
    return nnx.eval_shape(lambda model, image: model(image), model, image)


def changed(old, new):
    assert np.all(np.isfinite(new))
    assert not np.array_equal(old, new)


@nnx.jit
def new():
    """With dropout, on; the logits are those of a head that is not 0."""
    model = small(dropout_rate=0.2, rngs=nnx.Rngs(params=1, dropout=2))
    model.head.kernel[...] = jnp.eye(16, 5)
    return model


@pytest.mark.parametrize("name", ["vit_s16", "vit_b16"])
def test_parameters_are_the_published_ones(name):
    params = nnx.state(shape(getattr(vit_nnx, name)), nnx.Param)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == vit_nnx.PUBLISHED[name]


@pytest.mark.parametrize("make", [vit_s16, vit_b16])
def test_images_give_logits(make):
    assert outputs(shape(make, classes=7), jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)).shape == (2, 7)


def test_dropout_is_off_in_evaluation():
    model, call = new(), nnx.jit(lambda model: model(IMAGE))
    assert not np.allclose(call(model), call(model))
    model.eval()
    np.testing.assert_array_equal(call(model), call(model))
    model.train()
    assert not np.allclose(call(model), call(model))


def test_a_step_lowers_the_loss_changes_every_parameter_and_draws_dropout_keys():
    model, label = new(), jnp.arange(5)
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
    before = jax.tree.map(jnp.copy, nnx.state(model, nnx.Param))
    drawn = int(model.blocks[0].dropout.rngs.count[...])
    losses = [train_step(model, optimizer, IMAGE, label) for _ in range(3)]
    assert losses[0] > losses[-1]
    assert int(model.blocks[0].dropout.rngs.count[...]) == drawn + 3 * len(losses)
    jax.tree.map(changed, before, nnx.state(model, nnx.Param))


@pytest.mark.parametrize("given", ["dtype", "parameters"])
def test_bfloat16_computes_in_it_and_keeps_float32(given):
    model, image = shape(small, dtype=jnp.bfloat16 if given == "dtype" else None), IMAGE
    params = nnx.state(model, nnx.Param)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    if given == "parameters":
        cast = partial(jax.tree.map, lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16))
        nnx.update(model, cast(params))
        image = cast(image)
    assert outputs(model.patches, image).dtype == jnp.bfloat16
    assert outputs(model.blocks[0], jax.ShapeDtypeStruct((2, 5, 16), jnp.bfloat16)).dtype == jnp.bfloat16
    assert outputs(model, image).dtype == jnp.float32


def test_tfjax_trains_it_with_its_dropout_keys():
    from tfjax.frameworks import nnx as frameworks_nnx

    def make(inputs, rngs):
        return small(image_size=inputs.shape[1], dropout_rate=0.2, rngs=rngs)

    def loss(predict, batch):
        return optax.softmax_cross_entropy_with_integer_labels(predict(batch["image"]), batch["label"])

    pipe = tfjax.from_arrays({"image": np.asarray(IMAGE), "label": np.arange(5)}).batch(5)
    state = frameworks_nnx.create_state(make, optax.adam(1e-2), pipe.spec, seed=0)
    step, batch = frameworks_nnx.train_step(loss), pipe.peek()
    before, model = jax.tree.map(np.array, state.params), frameworks_nnx.to_model(state)
    for _ in range(2):  # the head starts at 0, and nothing below it learns in the first step
        state, metrics = step(state, batch)
    assert np.all(np.isfinite(metrics["losses"]))
    jax.tree.map(changed, before, state.params)
    drawn, before = (int(m.blocks[0].dropout.rngs.count[...]) for m in (frameworks_nnx.to_model(state), model))
    assert drawn == before + 2 * 3


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="image_size=10 is no multiple of patch_size=4"):
        shape(small, image_size=10)
    with pytest.raises(ValueError, match=r"images of shape \(1, 8, 12, 3\), and image_size=8"):
        outputs(shape(small), jnp.zeros((1, 8, 12, 3)))
