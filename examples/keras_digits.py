"""A small CNN in Keras 3 on JAX on the built-in digits, evaluated after each epoch.

python examples/keras_digits.py --epochs 20 --checkpoint-dir runs/keras

A run that was stopped goes on from its backup when the same command is given again.
"""

import argparse
import os
import pathlib

os.environ["KERAS_BACKEND"] = "jax"  # before the import: later it has no effect

import jax
import jax.numpy as jnp
import keras

import tfjax
from tfjax.frameworks.keras import BackupAndRestore


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


def main(epochs, checkpoint_dir):
    """Train, and evaluate on every test digit once an epoch."""
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
    # All that `fit` is to know of the data is said here: y=, sample_weight= and class_weight= too.
    data, held_out = train.to_keras(x="image", y="label"), test.to_keras(x="image", y="label")
    callbacks = [BackupAndRestore(checkpoint_dir, data)] if checkpoint_dir else []
    model.fit(data, epochs=epochs, validation_data=held_out, callbacks=callbacks, verbose=2)

    accuracy = model.evaluate(held_out, verbose=0, return_dict=True)["accuracy"]
    print(f"keras: test accuracy {accuracy:.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--checkpoint-dir", type=pathlib.Path, help="a folder for the backup of this run")
    given = parser.parse_args()
    main(given.epochs, given.checkpoint_dir)
