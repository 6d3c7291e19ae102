"""A small CNN in Haiku on the built-in digits.

python examples/haiku_digits.py --epochs 20
"""

import argparse
from functools import partial

import haiku as hk
import jax
import jax.numpy as jnp
import optax

import tfjax


@hk.without_apply_rng
@hk.transform
def cnn(x):
    """Images (batch, 8, 8, 1) to logits (batch, 10)."""
    for features in (16, 32):
        x = jax.nn.relu(hk.Conv2D(features, 3)(x))
        x = hk.avg_pool(x, (2, 2, 1), (2, 2, 1), "VALID")
    x = jax.nn.relu(hk.Linear(64)(hk.Flatten()(x)))
    return hk.Linear(10)(x)


def normalize(batch):
    """On the device: digits have values 0 to 16."""
    return {**batch, "image": batch["image"].astype(jnp.float32) / 16}


@partial(jax.jit, static_argnames="optimizer", donate_argnames=("params", "optimizer_state"))
def train_step(params, optimizer_state, batch, optimizer):
    """One step of Adam; the old values are donated."""

    def loss_fn(params):
        logits = cnn.apply(params, batch["image"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    loss, grads = jax.value_and_grad(loss_fn)(params)
    updates, optimizer_state = optimizer.update(grads, optimizer_state)
    return optax.apply_updates(params, updates), optimizer_state, loss


@jax.jit
def count_correct(params, batch):
    """How many of the real rows are right, and how many there are."""
    predicted = cnn.apply(params, batch["image"]).argmax(-1)
    return jnp.sum((predicted == batch["label"]) & batch["mask"]), jnp.sum(batch["mask"])


def main(epochs):
    """Train, then test on every digit once."""
    device = jax.devices()[0]
    train = tfjax.load("digits", split="train").shuffle(seed=0).batch(64).device_map(normalize).place(device)
    test = tfjax.load("digits", split="test").batch(64, remainder="pad").device_map(normalize).place(device)

    params = cnn.init(jax.random.key(0), train.peek()["image"])
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, epochs * len(train)))
    optimizer_state = optimizer.init(params)

    with train.iterate(epochs=epochs) as batches:
        for batch in batches:
            params, optimizer_state, loss = train_step(params, optimizer_state, batch, optimizer)
            if batches.step % len(train) == 0:
                print(f"epoch {batches.step // len(train):>2}  loss {loss:.4f}")

    correct, total = map(sum, zip(*(count_correct(params, batch) for batch in test), strict=True))
    print(f"haiku: test accuracy {correct / total:.1%} of {total} digits")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    main(parser.parse_args().epochs)
