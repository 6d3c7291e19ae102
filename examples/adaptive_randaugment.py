"""RandAugment whose magnitude follows the validation loss, epoch by epoch: a small CNN in Flax nnx on the digits.

python examples/adaptive_randaugment.py --epochs 20
"""

import argparse

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import tfjax
from tfjax.image import RandAugment, Value


class CNN(nnx.Module):
    """Images (batch, 8, 8, 1) to logits (batch, 10)."""

    def __init__(self, *, rngs):  # noqa: D107
        self.conv = nnx.Conv(1, 32, (3, 3), rngs=rngs)
        self.dense1 = nnx.Linear(4 * 4 * 32, 64, rngs=rngs)
        self.dense2 = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):  # noqa: D102
        x = nnx.avg_pool(nnx.relu(self.conv(x / 255)), (2, 2), strides=(2, 2))
        return self.dense2(nnx.relu(self.dense1(x.reshape(len(x), -1))))


def mean_loss(model, batch):
    """Over the real rows of a batch."""
    losses = optax.softmax_cross_entropy_with_integer_labels(model(batch["image"]), batch["label"])
    return jnp.mean(losses, where=batch["mask"])


@nnx.jit
def train_step(model, optimizer, batch):
    """One step of Adam, in place."""
    loss, grads = nnx.value_and_grad(mean_loss)(model, batch)
    optimizer.update(model, grads)
    return loss


@nnx.jit
def evaluate(model, batch):
    """The loss of a batch that holds all examples, and the share of right ones."""
    right = model(batch["image"]).argmax(-1) == batch["label"]
    return mean_loss(model, batch), jnp.mean(right, where=batch["mask"])


def main(epochs):
    """Train; the magnitude goes on in its direction while the validation loss falls, and turns around when it rises."""
    device = jax.devices()[0]
    # The ops expect the whole range of uint8, and digits have values 0 to 16.
    parts = tfjax.load("digits", split="train").map(lambda e: {**e, "image": e["image"] * 15})
    parts = parts.split({"train": 0.8, "validation": 0.2}, seed=0)
    augment = RandAugment(num_layers=1, magnitude=Value("magnitude", default=9))
    train = parts["train"].shuffle(seed=0).apply(augment).batch(64, remainder="pad").place(device)
    validation = parts["validation"].batch(512, remainder="pad").place(device).peek()
    test = tfjax.load("digits", split="test").map(lambda e: {**e, "image": e["image"] * 15})

    model = CNN(rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(3e-3), wrt=nnx.Param)
    magnitude, step, last = 9, 3, float("inf")
    for epoch in range(epochs):
        for batch in train.iterate(start_epoch=epoch, values={"magnitude": magnitude}):
            train_step(model, optimizer, batch)
        loss, accuracy = evaluate(model, validation)
        print(f"epoch {epoch + 1:>2}  magnitude {magnitude:>2}  validation loss {loss:.3f}, accuracy {accuracy:.1%}")
        step = step if loss < last else -step
        magnitude, last = min(max(magnitude + step, 0), 30), loss
    _, accuracy = evaluate(model, test.batch(512, remainder="pad").place(device).peek())
    print(f"adaptive_randaugment: test accuracy {accuracy:.1%} of {len(test)} digits")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    main(parser.parse_args().epochs)
