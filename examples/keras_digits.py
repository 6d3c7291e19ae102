"""A small CNN in Keras 3 on JAX on the built-in digits.

python examples/keras_digits.py --epochs 20
"""

import argparse
import os

os.environ["KERAS_BACKEND"] = "jax"  # before the import: later it has no effect

import jax
import jax.numpy as jnp
import keras

import tfjax


def make_model():
    """Images (batch, 8, 8, 1) to logits (batch, 10)."""
    return keras.Sequential(
        [
            keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
            keras.layers.AveragePooling2D(2),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
            keras.layers.AveragePooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def normalize(batch):
    """On the device: digits have values 0 to 16."""
    return {**batch, "image": batch["image"].astype(jnp.float32) / 16}


def main(epochs):
    """Train, then test on every digit once."""
    device = jax.devices()[0]
    train = tfjax.load("digits", split="train").shuffle(seed=0).batch(64).device_map(normalize).place(device)
    test = tfjax.load("digits", split="test").batch(64, remainder="pad").device_map(normalize).place(device)

    keras.utils.set_random_seed(0)
    model = make_model()
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-2, epochs * len(train))),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=["accuracy"],  # weighted by the mask of `test`, so that a padded row does not count
    )
    model.fit(train.to_keras(x="image", y="label"), epochs=epochs, verbose=2)

    accuracy = model.evaluate(test.to_keras(x="image", y="label"), verbose=0, return_dict=True)["accuracy"]
    print(f"keras: test accuracy {accuracy:.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    main(parser.parse_args().epochs)
