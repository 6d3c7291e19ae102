"""A small decoder transformer in Equinox over token arrays: the bytes of Python's own library.

python examples/tokens_equinox.py --epochs 10 --checkpoint-dir runs/tokens

A run that was stopped goes on from its last checkpoint when the same command is given again.
"""

import argparse
import math
import pathlib
import sysconfig

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import tfjax
from tfjax.frameworks.equinox import create_state, eval_step, to_model, train_step

CONTEXT, VOCABULARY = 64, 256  # tokens; a token is a byte


class Block(eqx.Module):
    """Causal attention and a two-layer network, each beside a shortcut: (tokens, width) to the same."""

    norms: list[eqx.nn.LayerNorm]
    attention: eqx.nn.MultiheadAttention
    mlp: eqx.nn.MLP

    def __init__(self, width, heads, key):  # noqa: D107
        keys = jax.random.split(key)
        self.norms = [eqx.nn.LayerNorm(width), eqx.nn.LayerNorm(width)]
        self.attention = eqx.nn.MultiheadAttention(heads, width, key=keys[0])
        self.mlp = eqx.nn.MLP(width, width, 4 * width, depth=1, activation=jax.nn.gelu, key=keys[1])

    def __call__(self, x):  # noqa: D102
        y = jax.vmap(self.norms[0])(x)
        x = x + self.attention(y, y, y, mask=jnp.tril(jnp.ones((len(x), len(x)), bool)))
        return x + jax.vmap(self.mlp)(jax.vmap(self.norms[1])(x))


class Transformer(eqx.Module):
    """Tokens (n,) to the logits of the tokens that follow, (n, VOCABULARY); n is at most CONTEXT."""

    tokens: eqx.nn.Embedding
    positions: eqx.nn.Embedding
    blocks: list[Block]
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear

    def __init__(self, key, width=64, depth=2, heads=4):  # noqa: D107
        keys = jax.random.split(key, depth + 3)
        self.tokens = eqx.nn.Embedding(VOCABULARY, width, key=keys[0])
        self.positions = eqx.nn.Embedding(CONTEXT, width, key=keys[1])
        self.blocks = [Block(width, heads, k) for k in keys[3:]]
        self.norm = eqx.nn.LayerNorm(width)
        self.head = eqx.nn.Linear(width, VOCABULARY, key=keys[2])

    def __call__(self, tokens):  # noqa: D102
        x = jax.vmap(self.tokens)(tokens) + jax.vmap(self.positions)(jnp.arange(len(tokens)))
        for block in self.blocks:
            x = block(x)
        return jax.vmap(self.head)(jax.vmap(self.norm)(x))


def bits_per_byte(predict, batch):
    """What a byte costs given those before it, the mean over each row: (batch,)."""
    tokens = batch["tokens"].astype(jnp.int32)
    logits = predict(tokens[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean(-1) / math.log(2)


@eqx.filter_jit
def sample(model, prompt, key):
    """CONTEXT tokens that begin with a prompt (n,), each drawn given those before it."""

    def draw(i, tokens):
        drawn = jax.random.categorical(jax.random.fold_in(key, i), model(tokens)[i - 1] / 0.7)
        return tokens.at[i].set(drawn)

    return jax.lax.fori_loop(len(prompt), CONTEXT, draw, jnp.zeros(CONTEXT, jnp.int32).at[: len(prompt)].set(prompt))


def rows(kilobytes):
    """Windows of CONTEXT tokens and the one that follows, uint8 (rows, CONTEXT + 1)."""
    library = sorted(pathlib.Path(sysconfig.get_path("stdlib")).glob("*.py"))
    text = np.frombuffer(b"".join(path.read_bytes() for path in library)[: 1000 * kilobytes], np.uint8)
    return np.lib.stride_tricks.sliding_window_view(text, CONTEXT + 1)[::CONTEXT]


def main(epochs, kilobytes, checkpoint_dir):
    """Train, evaluate on rows that are never trained on, and write some text."""
    parts = tfjax.from_arrays({"tokens": rows(kilobytes)}).split({"train": 0.9, "test": 0.1}, seed=0)
    train = parts["train"].shuffle(seed=0).batch(64).place(jax.devices()[0])
    test = parts["test"].batch(64, remainder="pad").place(jax.devices()[0])

    optimizer = optax.adamw(optax.warmup_constant_schedule(0, 3e-3, warmup_steps=50))
    state = create_state(lambda _, key: Transformer(key), optimizer, train.spec, seed=0, x="tokens")
    step = train_step(bits_per_byte, max_grad_norm=1.0)
    evaluate = eval_step(lambda predict, batch: {"loss": bits_per_byte(predict, batch)}), test
    state, history = tfjax.fit(step, state, train, epochs=epochs, evaluate=evaluate, checkpoint_dir=checkpoint_dir)

    print(f"tokens: {history.evaluations[-1]['loss']:.3f} bits per byte")
    prompt = jnp.asarray(bytearray(b"    def "), jnp.int32)
    print(bytes(sample(to_model(state), prompt, jax.random.key(0)).tolist()).decode(errors="replace"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--kilobytes", type=int, default=500, help="of text")
    parser.add_argument("--checkpoint-dir", type=pathlib.Path, help="a folder for the checkpoints of this run")
    given = parser.parse_args()
    main(given.epochs, given.kilobytes, given.checkpoint_dir)
