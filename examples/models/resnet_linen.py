"""ResNet-18, -34 and -50 in Flax linen.

Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun: Deep Residual Learning for Image Recognition, 2015. As is usual
today, a bottleneck halves its image in the 3x3 convolution and not in the first 1x1.

Images (batch, height, width, 3), floats, to logits (batch, classes), float32. The paper's images are 224x224; any
size will do.

>>> import jax, jax.numpy as jnp
>>> from examples.models.resnet_linen import resnet50
>>> image = jnp.zeros((2, 224, 224, 3))
>>> model = resnet50(classes=1000)
>>> logits, variables = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image, train=False))
>>> logits.shape, sorted(variables)
((2, 1000), ['batch_stats', 'params'])

python examples/models/resnet_linen.py shows the models, and trains a small one.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

PUBLISHED = {"resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032}  # parameters, 1000 classes


class ConvNorm(nn.Module):
    """A convolution without bias, then BatchNorm: (batch, height, width, channels) to as many `features`."""

    features: int
    kernel: int
    strides: int = 1
    train: bool = False
    dtype: Any = None
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x):  # noqa: D102
        he = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        size, padding = (self.kernel, self.kernel), self.kernel // 2
        conv = nn.Conv(
            self.features, size, self.strides, padding=padding, use_bias=False, dtype=self.dtype, kernel_init=he
        )
        norm = nn.BatchNorm(
            use_running_average=not self.train, momentum=0.9, dtype=self.dtype, scale_init=self.scale_init
        )
        return norm(conv(x))


class Block(nn.Module):
    """Two 3x3 convolutions, or a bottleneck of 1x1, 3x3 and 1x1, beside a shortcut (figure 5 of the paper)."""

    features: int
    strides: int
    bottleneck: bool
    zero_init: bool
    layer: Any

    @nn.compact
    def __call__(self, x):  # noqa: D102
        if self.bottleneck:
            *inner, last = (self.features, 1, 1), (self.features, 3, self.strides), (4 * self.features, 1, 1)
        else:
            *inner, last = (self.features, 3, self.strides), (self.features, 3, 1)
        y = x
        for size in inner:
            y = nn.relu(self.layer(*size)(y))
        y = self.layer(*last, scale_init=nn.initializers.zeros if self.zero_init else nn.initializers.ones)(y)
        if x.shape != y.shape:
            x = self.layer(y.shape[-1], 1, self.strides, name="shortcut")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Stages of blocks; each stage but the first halves the image and doubles the features.

    Args:
        stage_sizes: blocks in each stage.
        bottleneck: whether blocks are bottlenecks.
        classes: of the logits.
        width: features of the first stage.
        scan: run the equal blocks of a stage, all but its first, by `nn.scan`: compiled once, with parameters and
            statistics stacked along dimension 0.
        zero_init: the last scale of each block starts at 0, so that a block starts as its shortcut (Priya Goyal et
            al.: Accurate, Large Minibatch SGD, 2017, section 5.1).
        dtype: of the computation; that of images and parameters where it is None. Parameters are drawn in float32;
            statistics and logits stay float32.
    """

    stage_sizes: tuple[int, ...]
    bottleneck: bool
    classes: int = 1000
    width: int = 64
    scan: bool = False
    zero_init: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x, *, train):
        """Images to logits; with `train`, BatchNorm takes the statistics of this batch and moves the running ones."""
        layer = partial(ConvNorm, train=train, dtype=self.dtype)
        x = nn.relu(layer(self.width, 7, 2, name="stem")(x))
        x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for stage, size in enumerate(self.stage_sizes):
            block = partial(Block, 2**stage * self.width, bottleneck=self.bottleneck, zero_init=self.zero_init)
            x = block(strides=1 if stage == 0 else 2, layer=layer, name=f"stage{stage}_first")(x)
            if self.scan and size > 1:
                x = _scanned(block(strides=1, layer=layer, name=f"stage{stage}_rest"), x, size - 1)
            else:
                for i in range(1, size):
                    x = block(strides=1, layer=layer, name=f"stage{stage}_{i}")(x)
        return nn.Dense(self.classes, name="head")(x.mean((1, 2), dtype=jnp.float32))


def _scanned(block, x, length):
    """`length` blocks with the hyperparameters of `block`, one after the other."""
    axes = {"params": 0, "batch_stats": 0}
    body = nn.scan(lambda block, x: (block(x), None), variable_axes=axes, split_rngs={"params": True}, length=length)
    return body(block, x)[0]


resnet18 = partial(ResNet, (2, 2, 2, 2), False)
resnet34 = partial(ResNet, (3, 4, 6, 3), False)
resnet50 = partial(ResNet, (3, 4, 6, 3), True)


@partial(jax.jit, static_argnums=(0, 1))
def train_step(model, optimizer, variables, optimizer_state, image, label):
    """One step on a batch: the new variables, statistics too, the new optimizer state, and the loss before it."""

    def loss_fn(params):
        given = {**variables, "params": params}
        logits, changed = model.apply(given, image, train=True, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean(), changed

    (loss, changed), grads = jax.value_and_grad(loss_fn, has_aux=True)(variables["params"])
    updates, optimizer_state = optimizer.update(grads, optimizer_state)
    return {"params": optax.apply_updates(variables["params"], updates), **changed}, optimizer_state, loss


def main():
    """Show each model's shapes and parameters, then train a small one."""
    image = jax.random.normal(jax.random.key(0), (8, 32, 32, 3))
    label = jnp.arange(8)
    for name, model in ("resnet18", resnet18()), ("resnet34", resnet34()), ("resnet50", resnet50()):
        photo = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
        init = partial(model.init_with_output, train=False)
        logits, variables = jax.eval_shape(init, jax.random.key(0), photo)
        count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        print(f"{name}: {photo.shape} to {logits.shape}, {count:,} parameters, published {PUBLISHED[name]:,}")

    model, optimizer = ResNet((1, 1), False, classes=10, width=8), optax.adam(1e-3)
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(1), image)
    optimizer_state = optimizer.init(variables["params"])
    for _ in range(2):
        variables, optimizer_state, loss = train_step(model, optimizer, variables, optimizer_state, image, label)
        print(f"loss {loss:.4f}")


if __name__ == "__main__":
    main()
