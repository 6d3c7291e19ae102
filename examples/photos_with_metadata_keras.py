"""Photos with two inputs in Keras: the image, and what its file says of it (height, width and bytes).

python examples/photos_with_metadata_keras.py --photos DIR --epochs 40 --backup runs/photos

DIR has a subfolder of JPEG files for each class, as TensorFlow's flower_photos. A run that was stopped goes on from its
backup, which holds the model, the optimizer and the position of the data.
"""

import argparse
import os
import pathlib

os.environ["KERAS_BACKEND"] = "jax"  # before the import: later it has no effect

import jax
import keras
import tensorflow as tf
from keras import layers

import tfjax
from tfjax import image, on_device
from tfjax.frameworks.keras import BackupAndRestore

MEAN, STD = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)  # of ImageNet
INPUTS = {"image": "image", "metadata": "metadata"}  # input of the model: leaf of the element


def with_metadata(photo):
    """Adds the logarithms of height and width in 256 pixels, and of the file in 32 KB: about 0."""
    size = tf.image.extract_jpeg_shape(photo["image"])[:2] / 256
    length = tf.strings.length(photo["image"]) / 2**15
    metadata = tf.math.log(tf.concat([size, length[None]], axis=0))
    return {**photo, "metadata": tf.cast(metadata, tf.float32)}


def pipelines(photos, side, batch_size):
    """Training, augmented, and validation, which never is; each photo is in one of them."""
    parts, device = photos.map(with_metadata).split({"train": 0.8, "val": 0.2}, seed=0), jax.devices()[0]
    normalize = on_device.normalize("image", MEAN, STD)
    train = (
        parts["train"]
        .shuffle(seed=0)
        .apply(image.Decode(), image.RandomResizedCrop(side, scale=(0.25, 1)), image.RandomFlip())
        .batch(batch_size)
        .device_map(normalize)
        .place(device)
    )
    val = (
        parts["val"]
        .apply(image.Decode(min_short_side=side), image.ResizeShortSide(side), image.CenterCrop(side))
        .cache("memory")  # decoded once for the evaluations of all epochs
        .batch(batch_size, remainder="pad")
        .device_map(normalize)
        .place(device)
    )
    return train, val


def make_model(classes, side):
    """Images (batch, side, side, 3) and metadata (batch, 3) to logits (batch, classes)."""
    photo, metadata = keras.Input((side, side, 3), name="image"), keras.Input((3,), name="metadata")
    x = photo
    for features in (16, 32, 64):
        x = layers.Conv2D(features, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.Dense(16, activation="relu")(metadata)])
    return keras.Model({"image": photo, "metadata": metadata}, layers.Dense(classes)(layers.Dropout(0.2)(x)))


def main(args):
    """Train, evaluate after each epoch, and keep a backup."""
    photos = tfjax.from_folder(args.photos, ignore="*.md")
    train, val = pipelines(photos, args.side, args.batch_size)
    keras.utils.set_random_seed(0)
    model = make_model(len(photos.info.classes), args.side)
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, args.epochs * len(train))),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=["accuracy"],  # weighted by the mask of `val`, so that a padded row does not count
    )
    data, test = train.to_keras(x=INPUTS, y="label"), val.to_keras(x=INPUTS, y="label")
    callbacks = [BackupAndRestore(args.backup, data)] if args.backup else []
    print(f"{', '.join(photos.info.classes)}: {len(train)} batches an epoch")
    model.fit(data, epochs=args.epochs, validation_data=test, callbacks=callbacks, verbose=2)

    accuracy = model.evaluate(test, verbose=0, return_dict=True)["accuracy"]
    print(f"photos: validation accuracy {accuracy:.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=pathlib.Path, required=True, help="a folder with a subfolder for each class")
    parser.add_argument(
        "--backup", type=pathlib.Path, help="a folder for the backup, written after each epoch and removed at the end"
    )
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--side", type=int, default=64, help="pixels")
    parser.add_argument("--batch-size", type=int, default=32)
    given = parser.parse_args()
    if not given.photos.is_dir():
        parser.error(f"--photos {given.photos}: there is no such folder")
    main(given)
