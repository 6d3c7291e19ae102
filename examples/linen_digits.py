"""A small CNN in Flax linen on the built-in digits, evaluated after each epoch.

python examples/linen_digits.py --epochs 20 --checkpoint-dir runs/linen

A run that was stopped goes on from its last checkpoint when the same command is given again.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

import tfjax
from tfjax.frameworks.linen import create_state, eval_step, train_step
from tfjax.training import classification, cross_entropy


class CNN(nn.Module):
    """Images (batch, 8, 8, 1) to logits (batch, 10)."""

    @nn.compact
    def __call__(self, x):  # noqa: D102
        for features in (16, 32):
            x = nn.relu(nn.Conv(features, (3, 3))(x))
            x = nn.avg_pool(x, (2, 2), strides=(2, 2))
        x = nn.relu(nn.Dense(64)(x.reshape(len(x), -1)))
        return nn.Dense(10)(x)


def normalize(batch):
    """On the device: digits have values 0 to 16."""
    return {**batch, "image": batch["image"].astype(jnp.float32) / 16}


def main(epochs, checkpoint_dir):
    """Train, and evaluate on every test digit once an epoch."""
    device = jax.devices()[0]
    train = tfjax.load("digits", split="train").shuffle(seed=0).batch(64).device_map(normalize).place(device)
    test = tfjax.load("digits", split="test").batch(64, remainder="pad").device_map(normalize).place(device)

    state = create_state(CNN(), optax.adam(5e-3), train.spec, seed=0)
    step, evaluate = train_step(cross_entropy()), (eval_step(classification()), test)
    state, history = tfjax.fit(step, state, train, epochs=epochs, evaluate=evaluate, checkpoint_dir=checkpoint_dir)
    print(f"linen: test accuracy {history.evaluations[-1]['accuracy']:.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--checkpoint-dir", type=pathlib.Path, help="a folder for the checkpoints of this run")
    given = parser.parse_args()
    main(given.epochs, given.checkpoint_dir)
