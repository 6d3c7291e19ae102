"""A small CNN in Flax nnx on the built-in digits.

python examples/nnx_digits.py --epochs 20
"""

import argparse

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import tfjax


class CNN(nnx.Module):
    """Images (batch, 8, 8, 1) to logits (batch, 10)."""

    def __init__(self, *, rngs):  # noqa: D107
        self.conv1 = nnx.Conv(1, 16, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(16, 32, (3, 3), rngs=rngs)
        self.dense1 = nnx.Linear(2 * 2 * 32, 64, rngs=rngs)
        self.dense2 = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):  # noqa: D102
        x = nnx.avg_pool(nnx.relu(self.conv1(x)), (2, 2), strides=(2, 2))
        x = nnx.avg_pool(nnx.relu(self.conv2(x)), (2, 2), strides=(2, 2))
        return self.dense2(nnx.relu(self.dense1(x.reshape(len(x), -1))))


def normalize(batch):
    """On the device: digits have values 0 to 16."""
    return {**batch, "image": batch["image"].astype(jnp.float32) / 16}


@nnx.jit(donate_argnames=("model", "optimizer"))
def train_step(model, optimizer, batch):
    """One step of Adam, in place."""

    def loss_fn(model):
        logits = model(batch["image"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    loss, grads = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads)
    return loss


@nnx.jit
def count_correct(model, batch):
    """How many of the real rows are right, and how many there are."""
    predicted = model(batch["image"]).argmax(-1)
    return jnp.sum((predicted == batch["label"]) & batch["mask"]), jnp.sum(batch["mask"])


def main(epochs):
    """Train, then test on every digit once."""
    device = jax.devices()[0]
    train = tfjax.load("digits", split="train").shuffle(seed=0).batch(64).device_map(normalize).place(device)
    test = tfjax.load("digits", split="test").batch(64, remainder="pad").device_map(normalize).place(device)

    model = CNN(rngs=nnx.Rngs(0))
    schedule = optax.cosine_decay_schedule(1e-2, epochs * len(train))
    optimizer = nnx.Optimizer(model, optax.adam(schedule), wrt=nnx.Param)

    with train.iterate(epochs=epochs) as batches:
        for batch in batches:
            loss = train_step(model, optimizer, batch)
            if batches.step % len(train) == 0:
                print(f"epoch {batches.step // len(train):>2}  loss {loss:.4f}")

    correct, total = map(sum, zip(*(count_correct(model, batch) for batch in test), strict=True))
    print(f"nnx: test accuracy {correct / total:.1%} of {total} digits")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    main(parser.parse_args().epochs)
