"""EfficientNet in Keras 3, functional style.

Mingxing Tan and Quoc V. Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, 2019.

Images (batch, height, width, 3) with values from 0 to 255, uint8 or float, to logits (batch, classes). The paper's
images for B0 are 224x224; any size will do.

`count_params()` of B0 with 1000 classes is 5,330,571, as that of `keras.applications.EfficientNetB0`, and its variables
are the same in the same order. The paper's 5.3 million are the 5,288,548 that are trained; Keras adds the running means
and variances of BatchNorm, 42,016, and 7 of the layer that normalises images: 3 means, 3 variances and how many pixels
they were taken of, which are 0, 1 and none until its `adapt(images)` is called.

>>> from examples.models.efficientnet_keras import B0, efficientnet, shapes
>>> trained, counted = shapes(lambda: efficientnet(B0, classes=1000))
>>> sum(leaf.size for leaf in trained), sum(leaf.size for leaf in counted)
(5288548, 5330571)

python examples/models/efficientnet_keras.py shows B0, and trains a small one.
"""

import math
import os
from dataclasses import dataclass, replace
from functools import partial

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras
import numpy as np
from keras import layers

PUBLISHED = {"trained": 5_288_548, "all": 5_330_571}  # parameters of B0, 1000 classes


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A row of table 1 of the paper: `repeats` blocks, of which the first has the stride.

    Args:
        expand: times as many features in the depthwise convolution as the block is given.
        kernel: side of the depthwise convolution.
        stride: of the first block.
        features: that a block returns.
        repeats: number of blocks.
    """

    expand: int
    kernel: int
    stride: int
    features: int
    repeats: int


@dataclass(frozen=True, kw_only=True)
class Size:
    """A size of EfficientNet.

    Args:
        stem: features of the first convolution, which halves the image.
        stages: of blocks.
        head: features of the last convolution.
        dropout: rate before the logits.
        drop_path: rate at which a block's branch beside its shortcut is left out in training; it grows from 0 in the
            first block towards this (Gao Huang et al.: Deep Networks with Stochastic Depth, 2016).
    """

    stem: int
    stages: tuple[Stage, ...]
    head: int
    dropout: float = 0.2
    drop_path: float = 0.2


B0 = Size(
    stem=32,
    stages=(
        Stage(expand=1, kernel=3, stride=1, features=16, repeats=1),
        Stage(expand=6, kernel=3, stride=2, features=24, repeats=2),
        Stage(expand=6, kernel=5, stride=2, features=40, repeats=2),
        Stage(expand=6, kernel=3, stride=2, features=80, repeats=3),
        Stage(expand=6, kernel=5, stride=1, features=112, repeats=3),
        Stage(expand=6, kernel=5, stride=2, features=192, repeats=4),
        Stage(expand=6, kernel=3, stride=1, features=320, repeats=1),
    ),
    head=1280,
)
TINY = Size(stem=8, stages=(Stage(expand=2, kernel=3, stride=1, features=8, repeats=2),), head=16, drop_path=0.5)


def scaled(size, *, width, depth, dropout):
    """A larger or smaller `size`: compound scaling, section 3.3 of the paper.

    B1 is `scaled(B0, width=1.0, depth=1.1, dropout=0.2)` on 240x240 pixels, and B7
    `scaled(B0, width=2.0, depth=3.1, dropout=0.5)` on 600x600.

    Args:
        size: what is scaled.
        width: times as many features, rounded to multiples of 8.
        depth: times as many blocks, rounded up.
        dropout: rate before the logits.
    """

    def features(number):
        rounded = max(8, int(number * width + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * number * width else rounded

    stages = [
        replace(stage, features=features(stage.features), repeats=math.ceil(stage.repeats * depth))
        for stage in size.stages
    ]
    return replace(size, stem=features(size.stem), stages=tuple(stages), head=features(size.head), dropout=dropout)


def efficientnet(size, classes=1000):
    """The model; dropout and stochastic depth act, and BatchNorm takes a batch's statistics, with `training=True`.

    Args:
        size: a `Size`.
        classes: how many logits there are.
    """
    images = keras.Input((None, None, 3))
    x = layers.Normalization()(layers.Rescaling(1 / 255)(images))
    x = _conv_norm(x, size.stem, 3, stride=2)
    blocks = [
        replace(stage, stride=1 if repeat else stage.stride) for stage in size.stages for repeat in range(stage.repeats)
    ]
    for number, block in enumerate(blocks):
        x = _block(x, block, drop=size.drop_path * number / len(blocks))
    x = layers.GlobalAveragePooling2D()(_conv_norm(x, size.head, 1))
    uniform = keras.initializers.VarianceScaling(1 / 3, "fan_out", "uniform")
    return keras.Model(images, layers.Dense(classes, kernel_initializer=uniform)(layers.Dropout(size.dropout)(x)))


def shapes(make):
    """Shapes of the trained variables, and of all, of the model that `make()` makes: without giving them values."""

    def variables():
        model = make()
        return tuple([v.value for v in weights] for weights in (model.trainable_weights, model.weights))

    return jax.eval_shape(variables)


def _block(x, stage, *, drop):
    """An inverted residual block with squeeze and excitation (MBConv)."""
    features = x.shape[-1]
    y = _conv_norm(x, features * stage.expand, 1) if stage.expand > 1 else x
    y = layers.DepthwiseConv2D(stage.kernel, stage.stride, padding="same", use_bias=False, depthwise_initializer=_he())(
        y
    )
    y = layers.Activation("silu")(layers.BatchNormalization()(y))
    y = _excited(y, squeezed=max(1, features // 4))
    y = _conv_norm(y, stage.features, 1, activation="linear")
    if stage.stride > 1 or features != stage.features:
        return y
    return layers.Add()([x, layers.Dropout(drop, noise_shape=(None, 1, 1, 1))(y)])  # an image's whole branch


def _excited(x, squeezed):
    """Each feature times a factor from 0 to 1 that depends on the means of all (Hu, Shen and Sun 2017)."""
    factors = layers.GlobalAveragePooling2D(keepdims=True)(x)
    factors = layers.Conv2D(squeezed, 1, activation="silu", kernel_initializer=_he())(factors)
    factors = layers.Conv2D(x.shape[-1], 1, activation="sigmoid", kernel_initializer=_he())(factors)
    return layers.Multiply()([x, factors])


def _conv_norm(x, features, kernel, *, stride=1, activation="silu"):
    """A convolution without bias, BatchNorm, and the activation."""
    x = layers.Conv2D(features, kernel, stride, padding="same", use_bias=False, kernel_initializer=_he())(x)
    return layers.Activation(activation)(layers.BatchNormalization()(x))


def _he():
    return keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")


def main():
    """Show the shapes and parameters of B0, then train a small one."""
    for leaves, kind in zip(shapes(partial(efficientnet, B0)), PUBLISHED, strict=True):
        print(f"B0, {kind}: {sum(leaf.size for leaf in leaves):,} parameters, published {PUBLISHED[kind]:,}")

    model = efficientnet(TINY, classes=4)
    print(f"small: {model.input_shape} to {model.output_shape}, {model.count_params():,} parameters")
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    image = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    for _ in range(2):
        print(f"loss {model.train_on_batch(image, np.arange(4)):.4f}")


if __name__ == "__main__":
    main()
