"""Augmentation by a Pallas kernel, example by example, that resumes with the same bits.

python examples/pallas_augment.py --epochs 2
"""

import argparse
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

import tfjax


def kernel(gain_ref, noise_ref, image_ref, out_ref):
    """Light and noise of one image; digits have values 0 to 16."""
    image = image_ref[...].astype(jnp.float32)
    out_ref[...] = jnp.clip(image * gain_ref[0] + noise_ref[...], 0, 16)


def augment(example, key):
    """A function of one example and its own key, as `random_device_map(per_example=True)` takes it."""
    to_gain, to_noise = jax.random.split(key)
    image = example["image"]
    gain = jax.random.uniform(to_gain, (1,), minval=0.7, maxval=1.3)
    noise = 0.5 * jax.random.normal(to_noise, image.shape)
    call = pl.pallas_call(
        kernel,
        out_shape=jax.ShapeDtypeStruct(image.shape, jnp.float32),
        interpret=jax.default_backend() == "cpu",  # compiled on an accelerator
    )
    return {**example, "image": call(gain, noise, image)}


def digest(batches):
    """A hash of all the pixels that come."""
    pixels = hashlib.sha256()
    for batch in batches:
        pixels.update(np.asarray(batch["image"]).tobytes())
    return pixels.hexdigest()[:16]


def main(epochs):
    """Draw from the middle of the run to its end, then resume in the middle, and compare."""
    pipe = tfjax.load("digits", split="train").shuffle(seed=0).batch(64).random_device_map(augment, per_example=True)
    half = epochs * len(pipe) // 2
    with pipe.iterate(epochs=epochs) as batches:
        for _ in range(half):
            batch = next(batches)
        state = batches.state.to_json()
        rest = digest(batches)
    print(f"augmented: {batch['image'].dtype}{batch['image'].shape}, mean {batch['image'].mean():.3f}")

    with pipe.iterate(epochs=epochs, state=state) as batches:
        resumed = digest(batches)
    print(f"pixels from batch {half} on: {rest}; resumed there: {resumed}")
    if rest != resumed:
        raise SystemExit("the resumed run differs")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=2)
    main(parser.parse_args().epochs)
