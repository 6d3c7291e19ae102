"""A small CNN in Equinox on the built-in digits.

python examples/equinox_digits.py --epochs 20
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import tfjax


def make_model(key):
    """An image (8, 8, 1) to logits (10,)."""
    keys = jax.random.split(key, 4)
    channels_first = eqx.nn.Lambda(lambda x: jnp.moveaxis(x, -1, 0))  # as Equinox's convolutions want them
    relu, pool, flatten = eqx.nn.Lambda(jax.nn.relu), eqx.nn.AvgPool2d(2, 2), eqx.nn.Lambda(jnp.ravel)
    conv1 = eqx.nn.Conv2d(1, 16, 3, padding=1, key=keys[0])
    conv2 = eqx.nn.Conv2d(16, 32, 3, padding=1, key=keys[1])
    dense1 = eqx.nn.Linear(2 * 2 * 32, 64, key=keys[2])
    dense2 = eqx.nn.Linear(64, 10, key=keys[3])
    return eqx.nn.Sequential([channels_first, conv1, relu, pool, conv2, relu, pool, flatten, dense1, relu, dense2])


def normalize(batch):
    """On the device: digits have values 0 to 16."""
    return {**batch, "image": batch["image"].astype(jnp.float32) / 16}


@eqx.filter_value_and_grad
def loss_and_grads(model, batch):
    """Mean cross-entropy of a batch."""
    logits = jax.vmap(model)(batch["image"])
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()


@eqx.filter_jit(donate="all-except-first")
def train_step(batch, model, optimizer_state, optimizer):
    """One step of Adam; the old values are donated."""
    loss, grads = loss_and_grads(model, batch)
    updates, optimizer_state = optimizer.update(grads, optimizer_state)
    return eqx.apply_updates(model, updates), optimizer_state, loss


@eqx.filter_jit
def count_correct(model, batch):
    """How many of the real rows are right, and how many there are."""
    predicted = jax.vmap(model)(batch["image"]).argmax(-1)
    return jnp.sum((predicted == batch["label"]) & batch["mask"]), jnp.sum(batch["mask"])


def main(epochs):
    """Train, then test on every digit once."""
    device = jax.devices()[0]
    train = tfjax.load("digits", split="train").shuffle(seed=0).batch(64).device_map(normalize).place(device)
    test = tfjax.load("digits", split="test").batch(64, remainder="pad").device_map(normalize).place(device)

    model = make_model(jax.random.key(0))
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, epochs * len(train)))
    optimizer_state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))

    with train.iterate(epochs=epochs) as batches:
        for batch in batches:
            model, optimizer_state, loss = train_step(batch, model, optimizer_state, optimizer)
            if batches.step % len(train) == 0:
                print(f"epoch {batches.step // len(train):>2}  loss {loss:.4f}")

    correct, total = map(sum, zip(*(count_correct(model, batch) for batch in test), strict=True))
    print(f"equinox: test accuracy {correct / total:.1%} of {total} digits")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    main(parser.parse_args().epochs)
