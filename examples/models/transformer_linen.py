"""A decoder-only transformer in Flax linen: the architecture of GPT-2.

Alec Radford, Jeffrey Wu, Rewon Child, David Luan, Dario Amodei, Ilya Sutskever: Language Models are Unsupervised
Multitask Learners, 2019. The paper states too few parameters; those here are the released checkpoints'.

Tokens (batch, length), integers, to logits of the token after each (batch, length, vocab_size), float32. A token sees
itself and those before it. All layers are one, compiled once and run by `nn.scan`; their parameters are stacked along
dimension 0.

>>> import jax, jax.numpy as jnp
>>> from examples.models.transformer_linen import gpt2
>>> tokens = jnp.zeros((2, 1024), jnp.int32)
>>> model = gpt2(remat=True)
>>> logits, variables = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), tokens, train=False))
>>> logits.shape
(2, 1024, 50257)
>>> variables["params"]["layers"]["up"]["kernel"].shape
(12, 768, 3072)

python examples/models/transformer_linen.py shows the models, and trains a small one.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

PUBLISHED = {"gpt2": 124_439_808, "gpt2_medium": 354_823_168}  # parameters, embedding tied


class Layer(nn.Module):
    """Attention, then two dense layers, each with LayerNorm before it and a shortcut around it."""

    num_heads: int
    dropout_rate: float
    out_init: nn.initializers.Initializer
    train: bool
    dtype: Any

    @nn.compact
    def __call__(self, x, mask):  # noqa: D102
        features, init = x.shape[-1], nn.initializers.normal(0.02)
        dropout = nn.Dropout(self.dropout_rate, deterministic=not self.train)
        attention = nn.MultiHeadDotProductAttention(
            self.num_heads,
            dropout_rate=self.dropout_rate,
            broadcast_dropout=False,
            deterministic=not self.train,
            kernel_init=init,
            out_kernel_init=self.out_init,
            dtype=self.dtype,
            name="attention",
        )
        y = nn.LayerNorm(1e-5, dtype=self.dtype, name="attention_norm")(x)
        x = x + dropout(attention(y, mask=mask))
        y = nn.LayerNorm(1e-5, dtype=self.dtype, name="dense_norm")(x)
        y = nn.gelu(nn.Dense(4 * features, dtype=self.dtype, kernel_init=init, name="up")(y))
        return x + dropout(nn.Dense(features, dtype=self.dtype, kernel_init=self.out_init, name="down")(y))


class Transformer(nn.Module):
    """Embedding of tokens and learned positions, layers, LayerNorm, logits.

    Args:
        num_layers: of the transformer.
        features: of the embedding and of each layer.
        num_heads: of attention; divides `features`.
        vocab_size: how many tokens there are.
        context: the longest sequence.
        tied: whether the logits are products with the embedding, or of a dense layer of their own, without bias.
        remat: whether a layer's activations are computed again in the backward pass, to save their memory.
        dropout_rate: of the embedding, of attention and of what is added to a shortcut; the paper's is 0.1. In
            training it needs `rngs={"dropout": key}`.
        dtype: of the computation; that of the parameters where it is None. Parameters are drawn in float32; logits are
            float32.
    """

    num_layers: int
    features: int
    num_heads: int
    vocab_size: int = 50257
    context: int = 1024
    tied: bool = True
    remat: bool = False
    dropout_rate: float = 0.0
    dtype: Any = None

    @nn.compact
    def __call__(self, tokens, *, train):
        """Tokens to logits; with `train`, dropout is on."""
        length = tokens.shape[1]
        if length > self.context:
            raise ValueError(f"{length} tokens, and the context is {self.context}: give shorter ones or more context")
        init = nn.initializers.normal(0.02)
        embedding = nn.Embed(self.vocab_size, self.features, embedding_init=init, dtype=self.dtype, name="tokens")
        positions = nn.Embed(self.context, self.features, embedding_init=init, dtype=self.dtype, name="positions")
        x = embedding(tokens) + positions(jnp.arange(length))
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        x = self._layers(x, train)
        x = nn.LayerNorm(1e-5, dtype=self.dtype, name="norm")(x)
        if self.tied:
            logits = embedding.attend(x)
        else:
            logits = nn.Dense(self.vocab_size, use_bias=False, dtype=self.dtype, kernel_init=init, name="head")(x)
        return logits.astype(jnp.float32)

    def _layers(self, x, train):
        """All layers, by one scan; what is added to the shortcuts starts smaller the more layers add to them."""
        out_init = nn.initializers.normal(0.02 / (2 * self.num_layers) ** 0.5)
        # Inside a scan the compiler cannot merge what is computed again with what was computed first.
        layer_type = nn.remat(Layer, prevent_cse=False) if self.remat else Layer
        layer = layer_type(self.num_heads, self.dropout_rate, out_init, train, self.dtype, name="layers")
        scan = nn.scan(
            lambda layer, x, mask: (layer(x, mask), None),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=nn.broadcast,
            length=self.num_layers,
        )
        return scan(layer, x, nn.make_causal_mask(x[:1, :, 0], dtype=bool))[0]


gpt2 = partial(Transformer, 12, 768, 12)
gpt2_medium = partial(Transformer, 24, 1024, 16)


@partial(jax.jit, static_argnums=(0, 1))
def train_step(model, optimizer, params, optimizer_state, tokens, key):
    """One step on tokens (batch, length + 1): the new parameters and optimizer state, and the loss before it."""

    def loss_fn(params):
        logits = model.apply({"params": params}, tokens[:, :-1], train=True, rngs={"dropout": key})
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    loss, grads = jax.value_and_grad(loss_fn)(params)
    updates, optimizer_state = optimizer.update(grads, optimizer_state)
    return optax.apply_updates(params, updates), optimizer_state, loss


def main():
    """Show each model's shapes and parameters, then train a small one."""
    for name, model in ("gpt2", gpt2()), ("gpt2_medium", gpt2_medium()):
        tokens = jax.ShapeDtypeStruct((1, 1024), jnp.int32)
        init = partial(model.init_with_output, train=False)
        logits, variables = jax.eval_shape(init, jax.random.key(0), tokens)
        count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        print(f"{name}: {tokens.shape} to {logits.shape}, {count:,} parameters, published {PUBLISHED[name]:,}")

    model = Transformer(2, 32, 4, vocab_size=64, context=16, remat=True)
    tokens = jax.random.randint(jax.random.key(0), (8, 17), 0, 64)
    params = jax.jit(partial(model.init, train=False))(jax.random.key(1), tokens[:, :-1])["params"]
    optimizer = optax.adam(1e-2)
    optimizer_state = optimizer.init(params)
    for key in jax.random.split(jax.random.key(2)):
        params, optimizer_state, loss = train_step(model, optimizer, params, optimizer_state, tokens, key)
        print(f"loss {loss:.4f}")


if __name__ == "__main__":
    main()
