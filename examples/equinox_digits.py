"""A small CNN in Equinox on the built-in digits, evaluated after each epoch.

python examples/equinox_digits.py --epochs 20 --checkpoint-dir runs/equinox

A run that was stopped goes on from its last checkpoint when the same command is given again.
"""

import argparse
import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import tfjax
from tfjax.frameworks.equinox import create_state, eval_step, train_step
from tfjax.training import classification, cross_entropy


def make_model(spec, key):
    """An image (8, 8, 1) to logits (10,); `spec` is that of one image."""
    keys = jax.random.split(key, 4)
    channels_first = eqx.nn.Lambda(lambda x: jnp.moveaxis(x, -1, 0))  # as Equinox's convolutions want them
    relu, pool, flatten = eqx.nn.Lambda(jax.nn.relu), eqx.nn.AvgPool2d(2, 2), eqx.nn.Lambda(jnp.ravel)
    conv1 = eqx.nn.Conv2d(spec.shape[-1], 16, 3, padding=1, key=keys[0])
    conv2 = eqx.nn.Conv2d(16, 32, 3, padding=1, key=keys[1])
    dense1 = eqx.nn.Linear(2 * 2 * 32, 64, key=keys[2])
    dense2 = eqx.nn.Linear(64, 10, key=keys[3])
    return eqx.nn.Sequential([channels_first, conv1, relu, pool, conv2, relu, pool, flatten, dense1, relu, dense2])


def normalize(batch):
    """On the device: digits have values 0 to 16."""
    return {**batch, "image": batch["image"].astype(jnp.float32) / 16}


def main(epochs, checkpoint_dir):
    """Train, and evaluate on every test digit once an epoch."""
    device = jax.devices()[0]
    train = tfjax.load("digits", split="train").shuffle(seed=0).batch(64).device_map(normalize).place(device)
    test = tfjax.load("digits", split="test").batch(64, remainder="pad").device_map(normalize).place(device)

    state = create_state(make_model, optax.adam(5e-3), train.spec, seed=0)
    step, evaluate = train_step(cross_entropy()), (eval_step(classification()), test)
    state, history = tfjax.fit(step, state, train, epochs=epochs, evaluate=evaluate, checkpoint_dir=checkpoint_dir)
    print(f"equinox: test accuracy {history.evaluations[-1]['accuracy']:.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--checkpoint-dir", type=pathlib.Path, help="a folder for the checkpoints of this run")
    given = parser.parse_args()
    main(given.epochs, given.checkpoint_dir)
