"""`examples/models/transformer_linen.py`: GPT-2's parameters, a causal mask, remat, dropout, one step, bfloat16."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tfjax

pytest.importorskip("flax")

from flax import linen as nn

from examples.models import transformer_linen
from examples.models.transformer_linen import Layer, Transformer, gpt2, train_step

SMALL = Transformer(2, 16, 2, vocab_size=11, context=8)
TOKENS = jax.random.randint(jax.random.key(0), (3, 8), 0, 11)


def shapes(model, tokens):
    """Logits and variables, computed by nobody."""
    return jax.eval_shape(partial(model.init_with_output, train=False), jax.random.key(0), tokens)


def changed(old, new):
    assert np.all(np.isfinite(new))
    assert not np.array_equal(old, new)


def count(model):
    _, variables = shapes(model, jax.ShapeDtypeStruct((2, 1024), jnp.int32))
    return sum(leaf.size for leaf in jax.tree.leaves(variables))


@pytest.fixture(scope="module")
def params():
    """Drawn by NumPy, as `init` would have to be compiled."""
    rng, (_, variables) = np.random.default_rng(1), shapes(SMALL, TOKENS)
    return jax.tree.map(lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(leaf.dtype), variables["params"])


@pytest.fixture(scope="module")
def predict(params):
    return jax.jit(lambda tokens: SMALL.apply({"params": params}, tokens, train=False))


@pytest.mark.parametrize("name", ["gpt2", "gpt2_medium"])
@pytest.mark.parametrize("remat", [False, True])
def test_parameters_are_those_of_the_checkpoints(name, remat):
    assert count(getattr(transformer_linen, name)(remat=remat)) == transformer_linen.PUBLISHED[name]


def test_a_head_of_its_own_has_as_many_parameters_as_the_embedding():
    assert count(gpt2(tied=False)) == count(gpt2()) + 50257 * 768


def test_logits_stand_for_every_token():
    logits, variables = shapes(gpt2(), jax.ShapeDtypeStruct((2, 300), jnp.int32))
    assert logits.shape == (2, 300, 50257)
    assert variables["params"]["layers"]["attention"]["query"]["kernel"].shape == (12, 768, 12, 64)


def test_a_later_token_never_changes_an_earlier_logit(predict):
    logits = predict(TOKENS)
    for place in range(8):
        other = predict(TOKENS.at[:, place].set((TOKENS[:, place] + 1) % 11))
        np.testing.assert_array_equal(other[:, :place], logits[:, :place])
        assert np.all(np.any(other[:, place:] != logits[:, place:], axis=-1))


def test_layers_run_one_after_the_other(params, predict):
    """The scan against a loop over its parameters."""

    @jax.jit
    def unrolled(params):
        x = params["tokens"]["embedding"][TOKENS] + params["positions"]["embedding"]
        layer = Layer(2, 0.0, nn.initializers.zeros, train=False, dtype=jnp.float32)
        for i in range(2):
            x = layer.apply({"params": jax.tree.map(lambda p, i=i: p[i], params["layers"])}, x, jnp.tri(8, dtype=bool))
        return nn.LayerNorm(1e-5).apply({"params": params["norm"]}, x) @ params["tokens"]["embedding"].T

    np.testing.assert_allclose(unrolled(params), predict(TOKENS), atol=1e-4)


def test_each_layer_draws_its_own_parameters():
    @jax.jit  # of this one leaf
    def drawn(key):
        return SMALL.init(key, TOKENS, train=False)["params"]["layers"]["down"]["kernel"]

    first, second = drawn(jax.random.key(1))
    assert not np.array_equal(first, second)
    np.testing.assert_allclose(np.std([first, second]), 0.02 / 4**0.5, rtol=0.1)


def test_remat_gives_the_same_gradients(params):
    def loss(model, params):
        return jnp.mean(model.apply({"params": params}, TOKENS, train=True) ** 2)

    kept, remat = (jax.jit(jax.grad(partial(loss, SMALL.copy(remat=remat))))(params) for remat in (False, True))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), remat, kept)
    assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(kept)) > 1e-3


def test_dropout_takes_its_key_in_training_alone(params, predict):
    model = SMALL.copy(dropout_rate=0.5)
    training = jax.jit(lambda key: model.apply({"params": params}, TOKENS, train=True, rngs={"dropout": key}))
    one, same, other = (training(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)
    evaluated = jax.jit(partial(model.apply, train=False))({"params": params}, TOKENS)
    np.testing.assert_array_equal(evaluated, predict(TOKENS))


def test_a_step_lowers_the_loss_and_changes_every_parameter(params):
    optimizer, key = optax.adam(1e-2), jax.random.key(3)
    once, optimizer_state, before = train_step(SMALL, optimizer, params, optimizer.init(params), TOKENS, key)
    *_, after = train_step(SMALL, optimizer, once, optimizer_state, TOKENS, key)
    assert after < before
    jax.tree.map(changed, params, once)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("given", ["dtype", "parameters"])
def test_bfloat16_computes_in_it_and_keeps_float32(given, tied):
    model = SMALL.copy(dtype=jnp.bfloat16 if given == "dtype" else None, tied=tied)
    params = shapes(model, TOKENS)[1]["params"]
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    if given == "parameters":
        params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), params)
    apply = partial(model.apply, train=False, capture_intermediates=True, mutable=["intermediates"])
    logits, changed = jax.eval_shape(apply, {"params": params}, TOKENS)
    assert changed["intermediates"]["norm"]["__call__"][0].dtype == jnp.bfloat16
    assert logits.dtype == jnp.float32


def test_tfjax_trains_it_with_a_dropout_key_for_each_step():
    from tfjax.frameworks import linen

    def loss(predict, batch):
        logits, tokens = predict(batch["tokens"]), batch["tokens"]
        return optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], tokens[:, 1:]).mean(-1)

    pipe = tfjax.from_arrays({"tokens": np.asarray(TOKENS)}).batch(3)
    model = SMALL.copy(dropout_rate=0.5)
    state = linen.create_state(model, optax.adam(1e-2), pipe.spec, seed=0, x="tokens")
    before, other = jax.tree.map(np.array, state.params), jax.tree.map(jnp.copy, state)
    step, batch = linen.train_step(loss), pipe.peek()
    state, metrics = step(state, batch)
    jax.tree.map(changed, before, state.params)
    _, later = step(other.replace(step=other.step + 1), batch)
    assert np.all(metrics["losses"] != later["losses"])


def test_more_tokens_than_the_context_are_refused():
    with pytest.raises(ValueError, match="9 tokens, and the context is 8"):
        shapes(SMALL, jax.ShapeDtypeStruct((1, 9), jnp.int32))
