"""MLP-Mixer in Haiku: an image to a class by MLPs alone, in turn over its patches and over its features.

Ilya Tolstikhin, Neil Houlsby, Alexander Kolesnikov, Lucas Beyer and others: MLP-Mixer: An all-MLP Architecture for
Vision, 2021.

Images (batch, height, width, channels), floats, to logits (batch, classes). The number of patches, and so the size of
the images, is part of the weights: 224x224 in the paper.

>>> import haiku as hk, jax, jax.numpy as jnp
>>> from functools import partial
>>> from examples.models.mixer_haiku import B16, count, mixer
>>> model, image = hk.transform(mixer(B16, classes=1000)), jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
>>> params = jax.eval_shape(partial(model.init, is_training=False), jax.random.key(0), image)
>>> logits = jax.eval_shape(partial(model.apply, is_training=False), params, None, image)
>>> logits.shape, count(params)
((2, 1000), 59880472)

python examples/models/mixer_haiku.py shows the sizes, and trains a small one.
"""

from dataclasses import dataclass
from functools import partial

import haiku as hk
import jax
import jax.numpy as jnp
import optax


@dataclass(frozen=True, kw_only=True)
class Size:
    """A size of table 1 of the paper.

    Args:
        blocks: one after the other.
        patch: side of a patch, in pixels.
        features: of a patch.
        token_hidden: width of the MLP over patches.
        channel_hidden: width of the MLP over features.
        drop: rate at which the last block's branches are left out in training; it grows from 0, block by block
            (Gao Huang et al.: Deep Networks with Stochastic Depth, 2016).
    """

    blocks: int
    patch: int
    features: int
    token_hidden: int
    channel_hidden: int
    drop: float = 0.1


S32 = Size(blocks=8, patch=32, features=512, token_hidden=256, channel_hidden=2048)
S16 = Size(blocks=8, patch=16, features=512, token_hidden=256, channel_hidden=2048)
B16 = Size(blocks=12, patch=16, features=768, token_hidden=384, channel_hidden=3072)
TINY = Size(blocks=2, patch=8, features=16, token_hidden=8, channel_hidden=32, drop=0.5)

# Parameters of each for 1000 classes and 224x224 pixels, which the paper rounds to 19, 18 and 59 million.
PAPER = {"S/32": (S32, 19_104_624), "S/16": (S16, 18_528_264), "B/16": (B16, 59_880_472)}


class Mlp(hk.Module):
    """Over the last dimension: to `hidden`, GELU, and back to as many features as came in."""

    def __init__(self, hidden, name=None):
        """See the class."""
        super().__init__(name=name)
        self.hidden = hidden

    def __call__(self, x):  # noqa: D102
        hidden = jax.nn.gelu(hk.Linear(self.hidden)(x))
        return hk.Linear(x.shape[-1])(hidden)


class MixerBlock(hk.Module):
    """Mixes patches, then features, each beside a shortcut: (batch, patches, features) to the same."""

    def __init__(self, size, drop, name=None):
        """See the class; `drop` is the rate in training, 0 for none."""
        super().__init__(name=name)
        self.size, self.drop = size, drop

    def __call__(self, x):  # noqa: D102
        patches = Mlp(self.size.token_hidden, name="token_mixing")
        x = x + self._kept(patches(_norm()(x).mT).mT)
        return x + self._kept(Mlp(self.size.channel_hidden, name="channel_mixing")(_norm()(x)))

    def _kept(self, branch):
        """`branch`, left out for some of the images, and scaled so that its mean stays."""
        if not self.drop:
            return branch
        kept = jax.random.bernoulli(hk.next_rng_key(), 1 - self.drop, (len(branch), 1, 1))
        return jnp.where(kept, branch / (1 - self.drop), 0)


def _norm():
    return hk.LayerNorm(axis=-1, create_scale=True, create_offset=True)


def mixer(size, classes):
    """The function (images, is_training) to logits, for `hk.transform`; without training it needs no random key.

    Args:
        size: a `Size`.
        classes: how many logits there are.
    """

    def forward(images, is_training):
        _, height, width, _ = images.shape
        if height % size.patch or width % size.patch:
            raise ValueError(
                f"images of {height} x {width} pixels do not divide into patches of {size.patch} x {size.patch}: "
                f"resize them to multiples of {size.patch}"
            )
        x = hk.Conv2D(size.features, size.patch, stride=size.patch, padding="VALID", name="patches")(images)
        x = x.reshape(len(x), -1, size.features)
        for block in range(size.blocks):
            drop = size.drop * block / max(size.blocks - 1, 1) if is_training else 0.0
            x = MixerBlock(size, drop)(x)
        return hk.Linear(classes, name="head")(_norm()(x).mean(1))

    return forward


def count(params):
    """How many parameters there are."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@partial(jax.jit, static_argnames=("model", "optimizer"))
def train_step(model, optimizer, params, opt_state, key, image, label):
    """One step on a batch: the new parameters, the new optimizer state, and the loss before it."""

    def loss_fn(params):
        logits = model.apply(params, key, image, is_training=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

    loss, grads = jax.value_and_grad(loss_fn)(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss


def main():
    """Show each size's shapes and parameters, then train a small one."""
    for name, (size, published) in PAPER.items():
        model, photo = hk.transform(mixer(size, classes=1000)), jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
        params = jax.eval_shape(partial(model.init, is_training=False), jax.random.key(0), photo)
        logits = jax.eval_shape(partial(model.apply, is_training=False), params, None, photo)
        print(f"Mixer-{name}: {photo.shape} to {logits.shape}, {count(params):,} parameters, known {published:,}")

    model, optimizer = hk.transform(mixer(TINY, classes=4)), optax.adam(1e-3)
    image, label = jax.random.normal(jax.random.key(0), (4, 16, 16, 3)), jnp.arange(4)
    params = jax.jit(partial(model.init, is_training=False))(jax.random.key(1), image)
    opt_state = optimizer.init(params)
    for key in jax.random.split(jax.random.key(2)):
        params, opt_state, loss = train_step(model, optimizer, params, opt_state, key, image, label)
        print(f"loss {loss:.4f}")


if __name__ == "__main__":
    main()
