"""A small CNN in Flax linen on the built-in digits.

python examples/linen_digits.py --epochs 20
"""

import argparse
from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.training.train_state import TrainState

import tfjax


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


@partial(jax.jit, donate_argnames="state")
def train_step(state, batch):
    """One step of Adam; the old values are donated."""

    def loss_fn(params):
        logits = state.apply_fn({"params": params}, batch["image"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    return state.apply_gradients(grads=grads), loss


@jax.jit
def count_correct(state, batch):
    """How many of the real rows are right, and how many there are."""
    predicted = state.apply_fn({"params": state.params}, batch["image"]).argmax(-1)
    return jnp.sum((predicted == batch["label"]) & batch["mask"]), jnp.sum(batch["mask"])


def main(epochs):
    """Train, then test on every digit once."""
    device = jax.devices()[0]
    train = tfjax.load("digits", split="train").shuffle(seed=0).batch(64).device_map(normalize).place(device)
    test = tfjax.load("digits", split="test").batch(64, remainder="pad").device_map(normalize).place(device)

    model = CNN()
    params = model.lazy_init(jax.random.key(0), train.spec["image"])["params"]
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, epochs * len(train)))
    state = TrainState.create(apply_fn=model.apply, params=params, tx=optimizer)

    with train.iterate(epochs=epochs) as batches:
        for batch in batches:
            state, loss = train_step(state, batch)
            if batches.step % len(train) == 0:
                print(f"epoch {batches.step // len(train):>2}  loss {loss:.4f}")

    correct, total = map(sum, zip(*(count_correct(state, batch) for batch in test), strict=True))
    print(f"linen: test accuracy {correct / total:.1%} of {total} digits")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    main(parser.parse_args().epochs)
