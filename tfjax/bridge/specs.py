"""Specs that a user wrote, in TensorFlow's or JAX's terms, as the flat specs of the graph."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from tfjax._tensorflow import tf
from tfjax.bridge.tree import PyTree, flatten


def flatten_specs(tree: Any, what: str) -> tuple[tuple[tf.TensorSpec, ...], PyTree]:
    """The specs of one example and their structure.

    Args:
        tree: a pytree of `tf.TensorSpec` or `jax.ShapeDtypeStruct`; strings are `tf.string`, or dtype `str`.
        what: who was given it, for messages.

    Raises:
        TypeError: a leaf is none of these, or of a dtype that TensorFlow does not have.
        ValueError: there is no leaf.

    Example:
        >>> import jax, numpy as np
        >>> flatten_specs({"x": jax.ShapeDtypeStruct((3,), np.float32)}, "spec")[0]
        (TensorSpec(shape=(3,), dtype=tf.float32, name=None),)
    """
    leaves, structure = flatten(tree)
    if not leaves:
        raise ValueError(f"{what} is {tree!r}, which has no leaf: give a tf.TensorSpec or jax.ShapeDtypeStruct a leaf")
    return tuple(_spec(x, f"{what}: {p}") for x, p in zip(leaves, structure.paths, strict=True)), structure


def _spec(leaf: Any, where: str) -> tf.TensorSpec:
    if isinstance(leaf, tf.TensorSpec):
        return tf.TensorSpec(leaf.shape, leaf.dtype)  # a name is of no use here
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        fix = "a list is one leaf, so use a tuple" if isinstance(leaf, list) else "shape and dtype of one example"
        raise TypeError(f"{where} is a {type(leaf).__name__}: give a tf.TensorSpec or a jax.ShapeDtypeStruct; {fix}")
    try:
        return tf.TensorSpec(leaf.shape, tf.string if np.dtype(leaf.dtype).kind in "SUO" else tf.as_dtype(leaf.dtype))
    except TypeError as error:
        raise TypeError(f"{where} has dtype {leaf.dtype}, which TensorFlow does not have") from error
