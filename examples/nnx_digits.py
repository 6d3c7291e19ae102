"""A small CNN in Flax nnx on the built-in digits, evaluated after each epoch.

python examples/nnx_digits.py --epochs 20 --checkpoint-dir runs/nnx

A run that was stopped goes on from its last checkpoint when the same command is given again.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import tfjax
from tfjax.frameworks.nnx import create_state, eval_step, train_step
from tfjax.training import classification, cross_entropy


class CNN(nnx.Module):
    """Images (batch, 8, 8, 1) to logits (batch, 10)."""

    def __init__(self, *, rngs):  # noqa: D107
        self.conv1 = nnx.Conv(1, 16, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(16, 32, (3, 3), rngs=rngs)
        self.dense1 = nnx.Linear(2 * 2 * 32, 64, rngs=rngs)
        self.dense2 = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):  # noqa: D102
        for conv in (self.conv1, self.conv2):
            x = nnx.avg_pool(nnx.relu(conv(x)), (2, 2), strides=(2, 2))
        return self.dense2(nnx.relu(self.dense1(x.reshape(len(x), -1))))


def normalize(batch):
    """On the device: digits have values 0 to 16."""
    return {**batch, "image": batch["image"].astype(jnp.float32) / 16}


def main(epochs, checkpoint_dir):
    """Train, and evaluate on every test digit once an epoch."""
    device = jax.devices()[0]
    train = tfjax.load("digits", split="train").shuffle(seed=0).batch(64).device_map(normalize).place(device)
    test = tfjax.load("digits", split="test").batch(64, remainder="pad").device_map(normalize).place(device)

    state = create_state(lambda _, rngs: CNN(rngs=rngs), optax.adam(5e-3), train.spec, seed=0)
    step, evaluate = train_step(cross_entropy()), (eval_step(classification()), test)
    state, history = tfjax.fit(step, state, train, epochs=epochs, evaluate=evaluate, checkpoint_dir=checkpoint_dir)
    print(f"nnx: test accuracy {history.evaluations[-1]['accuracy']:.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--checkpoint-dir", type=pathlib.Path, help="a folder for the checkpoints of this run")
    given = parser.parse_args()
    main(given.epochs, given.checkpoint_dir)
