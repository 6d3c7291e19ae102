"""User functions in pairs: what the pipeline is given, and the same thing on NumPy arrays."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tfjax import image
from tfjax._tensorflow import tf

from .tree import Tree, is_text, leaves, map_tree


@dataclass(frozen=True, repr=False)
class Function:
    """A function for the pipeline (`graph`) and its twin for the oracle (`numpy`)."""

    graph: Callable[..., Tree]
    numpy: Callable[..., Tree]

    def __repr__(self) -> str:
        """The name, as this module exports it."""
        return self.graph.__name__.upper() if hasattr(self.graph, "__name__") else repr(self.graph)

    def _repr_pretty_(self, printer: Any, _: bool) -> None:
        """What hypothesis prints."""
        printer.text(repr(self))


def opposite(x: np.ndarray) -> np.ndarray:
    """Every value replaced: `not` for bool, the lowest bit for integers, the sign else; text is left."""
    if is_text(x):
        return x
    return x ^ x.dtype.type(1) if x.dtype.kind in "biu" else -x


def opposite_tensor(x: tf.Tensor) -> tf.Tensor:
    """`opposite` in a graph."""
    if x.dtype == tf.string:
        return x
    if x.dtype == tf.bool:
        return tf.logical_not(x)
    return tf.bitwise.bitwise_xor(x, tf.ones_like(x)) if x.dtype.is_integer else tf.negative(x)


def opposite_array(x: jax.Array) -> jax.Array:
    """`opposite` on a device."""
    whole = x.dtype == bool or jnp.issubdtype(x.dtype, jnp.integer)
    return x ^ x.dtype.type(1) if whole else -x


def negate(example: Tree) -> Tree:
    """All leaves replaced, the structure kept."""
    return tf.nest.map_structure(opposite_tensor, example)


def flip(example: Tree) -> Tree:
    """All leaves reversed along their last dimension."""
    return tf.nest.map_structure(lambda x: tf.reverse(x, [-1]) if x.shape.rank else x, example)


def flip_numpy(example: Tree) -> Tree:
    """`flip` on arrays."""
    return map_tree(lambda x: x[..., ::-1] if x.ndim else x, example)


def twice(example: Tree) -> Tree:
    """A tuple: the example and its opposite."""
    return example, negate(example)


def lengths(example: Tree) -> Tree:
    """Text leaves replaced by their lengths in bytes."""
    return tf.nest.map_structure(lambda x: tf.strings.length(x) if x.dtype == tf.string else x, example)


def length_of(x: np.ndarray) -> np.ndarray:
    """`lengths` of one leaf."""
    return np.vectorize(len, otypes=[np.int32])(x)[()] if is_text(x) else x


def mark(example: dict[str, Tree]) -> dict[str, Tree]:
    """A dict with a constant more, changed in place as many user functions do."""
    example["constant"] = tf.constant([1.5, 2.5])
    return example


def checksum(example: Tree) -> int:
    """The sum of all bool and integer leaves."""
    return sum(int(x.astype(np.int64).sum()) for _, x in leaves(example) if x.dtype.kind in "biu")


def checksum_tensor(example: Tree) -> tf.Tensor:
    """`checksum` in a graph, int64."""
    whole = [x for x in tf.nest.flatten(example) if x.dtype == tf.bool or x.dtype.is_integer]
    return tf.add_n([tf.constant(0, tf.int64), *(tf.reduce_sum(tf.cast(x, tf.int64)) for x in whole)])


def unroll(example: Tree) -> Tree:
    """A leaf more whose length differs from example to example."""
    return {"example": example, "window": tf.range(checksum_tensor(example) % 5)}


def unroll_numpy(example: Tree) -> Tree:
    """`unroll` on arrays."""
    return {"example": example, "window": np.arange(checksum(example) % 5)}


def fold(example: Tree) -> Tree:
    """The leaf that `unroll` added, summed to a scalar."""
    return example | {"window": tf.reduce_sum(example["window"])}


def fold_numpy(example: Tree) -> Tree:
    """`fold` on arrays."""
    return example | {"window": example["window"].sum()}


def pad_tokens(example: dict[str, Tree]) -> dict[str, Tree]:
    """The leaf `tokens` of any length up to 4, filled up with -1."""
    tokens = example["tokens"]
    return example | {"tokens": tf.pad(tokens, [[0, 4 - tf.shape(tokens)[0]]], constant_values=-1)[:4]}


def pad_tokens_numpy(example: dict[str, Tree]) -> dict[str, Tree]:
    """`pad_tokens` on arrays."""
    tokens = example["tokens"]
    return example | {"tokens": np.pad(tokens, (0, 4 - len(tokens)), constant_values=-1)}


def fixed_tokens(example: dict[str, Tree]) -> dict[str, Tree]:
    """`pad_tokens`, with a shape that TensorFlow can see."""
    padded = pad_tokens(example)
    return padded | {"tokens": tf.ensure_shape(padded["tokens"], [4])}


def some(example: Tree) -> tf.Tensor:
    """A predicate that keeps about two of three."""
    return checksum_tensor(example) % 3 != 0


def everything(example: Tree) -> tf.Tensor:  # noqa: ARG001
    """A predicate that reads nothing."""
    return tf.constant(True)


def draw(example: Tree, seed: tf.Tensor) -> Tree:
    """Two random integers beside the example."""
    return {"example": example, "draw": tf.random.stateless_uniform([2], seed, 0, 1000, tf.int32)}


def draw_numpy(example: Tree, seed: np.ndarray) -> Tree:
    """`draw`, drawn eagerly."""
    return {"example": example, "draw": tf.random.stateless_uniform([2], seed, 0, 1000, tf.int32).numpy()}


def expose(example: Tree, seed: tf.Tensor) -> Tree:
    """The seed itself beside the example, as four int32."""
    return {"example": example, "seed": tf.bitcast(seed, tf.int32)}


def expose_numpy(example: Tree, seed: np.ndarray) -> Tree:
    """`expose` on arrays."""
    return {"example": example, "seed": seed.view(np.int32).reshape(2, 2)}


def toss(example: Tree, seed: tf.Tensor) -> Tree:
    """The example or its opposite, by the toss of a coin."""
    if tf.random.stateless_uniform([], seed) < 0.5:
        example = negate(example)
    return example


def toss_numpy(example: Tree, seed: np.ndarray) -> Tree:
    """`toss`, tossed eagerly."""
    return map_tree(opposite, example) if tf.random.stateless_uniform([], seed) < 0.5 else example


def crop_numpy(example: dict[str, Tree]) -> dict[str, Tree]:
    """`CenterCrop(3)` on arrays of 4 x 5 pixels, or of those that it made."""
    height, width, _ = example["image"].shape
    y, x = (height - 3) // 2, (width - 3) // 2
    return example | {"image": example["image"][y : y + 3, x : x + 3]}


def mirror_numpy(example: dict[str, Tree], seed: np.ndarray) -> dict[str, Tree]:
    """`RandomFlip(vertical=True)` on arrays."""
    rows, columns = tf.random.stateless_uniform([2], seed).numpy() < 0.5
    return example | {"image": example["image"][:: -1 if rows else 1, :: -1 if columns else 1]}


def brighten_numpy(example: dict[str, Tree], seed: np.ndarray) -> dict[str, Tree]:
    """`RandomBrightness((-30, 40))` on arrays."""
    share = tf.random.stateless_uniform([1], seed).numpy()
    values = np.round(example["image"] + (np.float32(-30) + share * np.float32(70)))
    return example | {"image": np.clip(values, 0, 255).astype(np.uint8)}


NEGATE = Function(negate, lambda e: map_tree(opposite, e))
FLIP = Function(flip, flip_numpy)
TWICE = Function(twice, lambda e: (e, map_tree(opposite, e)))
LENGTHS = Function(lengths, lambda e: map_tree(length_of, e))
MARK = Function(mark, lambda e: e | {"constant": np.array([1.5, 2.5], np.float32)})
UNROLL = Function(unroll, unroll_numpy)
FOLD = Function(fold, fold_numpy)
PAD_TOKENS = Function(fixed_tokens, pad_tokens_numpy)
SOME = Function(some, lambda e: checksum(e) % 3 != 0)
EVERYTHING = Function(everything, lambda _: True)
DRAW = Function(draw, draw_numpy)
EXPOSE = Function(expose, expose_numpy)
TOSS = Function(toss, toss_numpy)
CROP = Function(image.CenterCrop(3), crop_numpy)
MIRROR = Function(image.RandomFlip(vertical=True), mirror_numpy)
BRIGHTEN = Function(image.RandomBrightness((-30, 40)), brighten_numpy)
NEGATE_BATCH = Function(lambda b: jax.tree.map(opposite_array, b), lambda b: map_tree(opposite, b))
