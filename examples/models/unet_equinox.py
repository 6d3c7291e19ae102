"""U-Net in Equinox: an image to a class for each of its pixels.

Olaf Ronneberger, Philipp Fischer and Thomas Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
2015 (arXiv:1505.04597). Convolutions are padded here, so a mask is as large as its image: the paper's are not, and
turn 572 x 572 pixels into 388 x 388. That changes no parameter.

The paper gives 23 convolutional layers and no number of parameters. Its figure 1, with a bias in each layer, has
31,030,658 for one channel and two classes. Other counts come from small changes: 31,037,698 is RGB with BatchNorm in
place of the biases before it; 31,031,685 has a convolution 3x3 of two features before the last one, which is to one.

>>> import equinox as eqx, jax, jax.numpy as jnp
>>> from examples.models.unet_equinox import UNet, count
>>> model, state = eqx.filter_eval_shape(eqx.nn.make_with_state(UNet), channels=1, classes=2, key=jax.random.key(0))
>>> image = jax.ShapeDtypeStruct((512, 512, 1), jnp.float32)  # height, width, channels
>>> logits, state = eqx.filter_eval_shape(eqx.nn.inference_mode(model), image, state)
>>> logits.shape, count(model)
((512, 512, 2), 31030658)

python examples/models/unet_equinox.py shows the counts, and trains a small one.
"""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

KNOWN = {"paper": 31_030_658, "RGB, BatchNorm": 31_037_698}  # parameters, 2 classes

Norm = Callable[[int], eqx.Module]
"""A number of features to a layer that normalises them."""


def batch_norm(features):
    """Over the batch, which is `jax.vmap`'s axis "batch" (Ioffe and Szegedy 2015)."""
    return eqx.nn.BatchNorm(features, axis_name="batch", mode="batch")


def group_norm(features):
    """Over groups of 16 features of one image, so a batch may be small (Wu and He 2018)."""
    return eqx.nn.GroupNorm(max(features // 16, 1), features)


class UNet(eqx.Module):
    """An image (height, width, channels) to logits (height, width, classes), and the state of its norms.

    Args:
        channels: of the image.
        classes: of a pixel.
        widths: features of each resolution; between two of them the sides are halved, then doubled again.
        norm: `batch_norm`, `group_norm`, another function of that kind, or None for no norm, as in the paper.
        dropout: rate at the end of the contracting path.
        key: of the initial weights, normal with variance 2 / inputs of a kernel, as in the paper.

    Raises:
        ValueError: a side is no multiple of 2 ** (len(widths) - 1) pixels.
    """

    down: list[eqx.nn.Sequential]
    up: list[eqx.nn.ConvTranspose2d]
    merge: list[eqx.nn.Sequential]
    head: eqx.nn.Conv2d
    pool: eqx.nn.MaxPool2d
    dropout: eqx.nn.Dropout

    def __init__(
        self,
        channels: int = 1,
        classes: int = 2,
        *,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        norm: Norm | None = None,
        dropout: float = 0.5,
        key: jax.Array,
    ):
        """See the class."""

        def conv(kind, *args, **kwargs):
            nonlocal key
            key, subkey = jax.random.split(key)
            layer = kind(*args, key=subkey, **kwargs)
            weight = jax.nn.initializers.he_normal(in_axis=1, out_axis=0)(subkey, layer.weight.shape)
            return eqx.tree_at(lambda layer: layer.weight, layer, weight)

        def twice(inputs, features):
            layers = []
            for size in (inputs, features):
                layers.append(conv(eqx.nn.Conv2d, size, features, 3, padding=1, use_bias=norm is None))
                layers += [norm(features)] if norm else []
                layers.append(eqx.nn.Lambda(jax.nn.relu))
            return eqx.nn.Sequential(layers)

        upwards = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.down = [twice(*sizes) for sizes in zip((channels, *widths), widths, strict=False)]
        self.up = [conv(eqx.nn.ConvTranspose2d, *sizes, 2, stride=2) for sizes in upwards]
        self.merge = [twice(2 * features, features) for _, features in upwards]
        self.head = conv(eqx.nn.Conv2d, widths[0], classes, 1)
        self.pool = eqx.nn.MaxPool2d(2, 2)
        self.dropout = eqx.nn.Dropout(dropout)

    def __call__(self, x, state, *, key=None):  # noqa: D102
        self._check(*x.shape[:2])
        x = jnp.moveaxis(x, -1, 0)  # Equinox's convolutions want (channels, height, width)
        seen = []
        for block in self.down:
            x, state = block(self.pool(x) if seen else x, state)
            seen.append(x)
        x = self.dropout(seen.pop(), key=key)
        for up, block in zip(self.up, self.merge, strict=True):
            x, state = block(jnp.concatenate([seen.pop(), up(x)]), state)
        return jnp.moveaxis(self.head(x), 0, -1), state

    def _check(self, height, width):
        least = 2 ** len(self.up)
        if height % least or width % least:
            fit = " x ".join(str(-(-side // least) * least) for side in (height, width))
            raise ValueError(
                f"an image of {height} x {width} pixels, and {len(self.up)} poolings halve both sides, "
                f"so they must be multiples of {least}: pad or resize it to {fit}"
            )


def count(model):
    """How many parameters are trained."""
    return sum(leaf.size for leaf in jax.tree.leaves(model) if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct))


@eqx.filter_jit
def train_step(model, state, opt_state, batch, *, optimizer, key):
    """One step: the new model, state and state of the optimizer, and the loss before it.

    Args:
        model: a UNet.
        state: of its norms.
        opt_state: of the optimizer.
        batch: "image" (batch, height, width, channels) and "label" (batch, height, width), integer classes.
        optimizer: any optax transformation.
        key: of the dropout.
    """

    @eqx.filter_value_and_grad(has_aux=True)
    def loss_fn(model):
        def apply(image, key):
            return model(image, state, key=key)

        keys = jax.random.split(key, len(batch["image"]))
        over_batch = jax.vmap(apply, axis_name="batch", out_axes=(0, None))  # one state of the norms for all images
        logits, changed = over_batch(batch["image"], keys)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean(), changed

    (loss, state), grads = loss_fn(model)
    updates, opt_state = optimizer.update(grads, opt_state, eqx.filter(model, eqx.is_inexact_array))
    return eqx.apply_updates(model, updates), state, opt_state, loss


def main():
    """Show the parameters of the large ones, then train a small one."""
    make = eqx.nn.make_with_state(UNet)
    for name, channels, norm in (("paper", 1, None), ("RGB, BatchNorm", 3, batch_norm)):
        model, state = eqx.filter_eval_shape(make, channels, norm=norm, key=jax.random.key(0))
        image = jax.ShapeDtypeStruct((256, 256, channels), jnp.float32)
        logits, _ = eqx.filter_eval_shape(eqx.nn.inference_mode(model), image, state)
        print(f"{name}: {image.shape} to {logits.shape}, {count(model):,} parameters, known {KNOWN[name]:,}")

    # Under jit the initial values are one compilation, else one for each operation.
    model, state = eqx.filter_jit(make)(3, 2, widths=(8, 16), norm=group_norm, key=jax.random.key(0))
    optimizer = optax.adam(1e-3)
    opt_state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))
    image = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))
    batch = {"image": image, "label": (image[..., 0] > 0).astype(int)}
    for key in jax.random.split(jax.random.key(2)):
        model, state, opt_state, loss = train_step(model, state, opt_state, batch, optimizer=optimizer, key=key)
        print(f"loss {loss:.4f}")


if __name__ == "__main__":
    main()
