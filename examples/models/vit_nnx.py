"""The Vision Transformer, ViT-S/16 and ViT-B/16, in Flax nnx.

Alexey Dosovitskiy, Lucas Beyer, Alexander Kolesnikov, Dirk Weissenborn, Xiaohua Zhai, Thomas Unterthiner, Mostafa
Dehghani, Matthias Minderer, Georg Heigold, Sylvain Gelly, Jakob Uszkoreit, Neil Houlsby: An Image is Worth 16x16
Words: Transformers for Image Recognition at Scale, 2020. ViT-S is of Hugo Touvron et al.: Training Data-Efficient Image
Transformers & Distillation through Attention, 2020, where it is called DeiT-S.

Images (batch, image_size, image_size, 3), floats, to logits (batch, classes), float32.

>>> import jax, jax.numpy as jnp
>>> from flax import nnx
>>> from examples.models.vit_nnx import vit_b16
>>> model = nnx.eval_shape(lambda: vit_b16(classes=1000, rngs=nnx.Rngs(0)))
>>> nnx.eval_shape(lambda model, image: model(image), model, jnp.zeros((2, 224, 224, 3))).shape
(2, 1000)
>>> model.positions.shape  # of 14 x 14 patches and the class token
(1, 197, 768)

python examples/models/vit_nnx.py shows the models, and trains a small one.
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import nnx

PUBLISHED = {"vit_s16": 22_050_664, "vit_b16": 86_567_656}  # parameters, 1000 classes, images 224x224


class Block(nnx.Module):
    """Attention, then two dense layers, each with LayerNorm before it and a shortcut around it."""

    def __init__(self, features, num_heads, *, dropout_rate, dtype, rngs):
        """Random streams: `params`, and `dropout` for the steps to come."""
        norm = partial(nnx.LayerNorm, features, epsilon=1e-6, dtype=dtype, rngs=rngs)
        self.attention_norm, self.dense_norm = norm(), norm()
        self.attention = nnx.MultiHeadAttention(num_heads, features, dtype=dtype, decode=False, rngs=rngs)
        self.up = nnx.Linear(features, 4 * features, dtype=dtype, rngs=rngs)
        self.down = nnx.Linear(4 * features, features, dtype=dtype, rngs=rngs)
        self.dropout = nnx.Dropout(dropout_rate, rngs=rngs)

    def __call__(self, x):
        """(batch, tokens, features) to the same."""
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        y = self.dropout(nnx.gelu(self.up(self.dense_norm(x)), approximate=False))
        return x + self.dropout(self.down(y))


class ViT(nnx.Module):
    """Patches and a class token through transformer blocks; logits are a dense layer of the class token.

    `model.train()` turns dropout on, as it is in a new model, and `model.eval()` off.

    Args:
        num_blocks: of the transformer.
        features: of each token.
        num_heads: of attention; divides `features`.
        patch_size: side of a patch in pixels; divides `image_size`.
        image_size: side of an image in pixels.
        classes: of the logits.
        dropout_rate: after the embedding and each dense layer but those before attention (appendix B.1).
        dtype: of the computation; that of images and parameters where it is None. Parameters are drawn in float32;
            logits are float32.
        rngs: random streams: `params`, and `dropout` for the steps to come.
    """

    def __init__(
        self,
        num_blocks,
        features,
        num_heads,
        *,
        patch_size=16,
        image_size=224,
        classes=1000,
        dropout_rate=0.0,
        dtype=None,
        rngs,
    ):
        """See the class."""
        if image_size % patch_size:
            raise ValueError(f"image_size={image_size} is no multiple of patch_size={patch_size}")
        tokens, patch = 1 + (image_size // patch_size) ** 2, (patch_size, patch_size)
        self.image_size = image_size
        self.patches = nnx.Conv(3, features, patch, strides=patch, padding="VALID", dtype=dtype, rngs=rngs)
        self.class_token = nnx.Param(jnp.zeros((1, 1, features)))
        self.positions = nnx.Param(0.02 * rngs.params.normal((1, tokens, features)))
        self.dropout = nnx.Dropout(dropout_rate, rngs=rngs)
        block = partial(Block, features, num_heads, dropout_rate=dropout_rate, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List([block() for _ in range(num_blocks)])
        self.norm = nnx.LayerNorm(features, epsilon=1e-6, dtype=dtype, rngs=rngs)
        # Zero, as the paper's for fine-tuning (section 3.2): the first loss is log(classes).
        self.head = nnx.Linear(features, classes, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, image):
        """Images to logits."""
        if image.shape[1:3] != (self.image_size, self.image_size):
            raise ValueError(f"images of shape {image.shape}, and image_size={self.image_size}: resize them")
        x = self.patches(image)
        x = x.reshape(len(x), -1, x.shape[-1])
        first = jnp.broadcast_to(self.class_token[...].astype(x.dtype), (len(x), 1, x.shape[-1]))
        x = jnp.concatenate([first, x], axis=1) + self.positions[...].astype(x.dtype)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]).astype(jnp.float32))


vit_s16 = partial(ViT, 12, 384, 6)
vit_b16 = partial(ViT, 12, 768, 12)


@nnx.jit
def train_step(model, optimizer, image, label):
    """One step on a batch, in place: the loss before it."""

    def loss_fn(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(image), label).mean()

    loss, grads = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads)
    return loss


def main():
    """Show each model's shapes and parameters, then train a small one."""
    photo = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    for name, make in ("vit_s16", vit_s16), ("vit_b16", vit_b16):
        model = nnx.eval_shape(lambda make=make: make(rngs=nnx.Rngs(0)))
        logits = nnx.eval_shape(lambda model, image: model(image), model, photo)
        count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
        print(f"{name}: {photo.shape} to {logits.shape}, {count:,} parameters, published {PUBLISHED[name]:,}")

    image, label = jax.random.normal(jax.random.key(0), (8, 16, 16, 3)), jnp.arange(8)
    small = partial(ViT, 2, 32, 4, patch_size=8, image_size=16, classes=10, dropout_rate=0.1)
    model = nnx.jit(lambda: small(rngs=nnx.Rngs(params=1, dropout=2)))()
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
    for _ in range(2):
        print(f"loss {train_step(model, optimizer, image, label):.4f}")


if __name__ == "__main__":
    main()
