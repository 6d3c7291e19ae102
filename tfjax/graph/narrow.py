"""64-bit leaves to 32 bits, as JAX has them by default: in the graph, shown by `copy_report`, and checked."""

from __future__ import annotations

import re

from tfjax._tensorflow import tf
from tfjax.errors import SpecError
from tfjax.graph.element import NARROW, Element

_MARK = "tfjax:narrow:"


def narrowed(element: Element, leaf: int, *, narrow: bool) -> tf.DType:
    """The dtype that a leaf is delivered with."""
    dtype = element.specs[leaf].dtype
    return NARROW.get(dtype, dtype) if narrow and not element.on_host(leaf) else dtype


def narrow_leaves(element: Element, leaves: list[tf.Tensor], *, narrow: bool) -> list[tf.Tensor]:
    """Cast 64-bit leaves to 32 bits, and fail where a value does not fit."""
    dtypes = [narrowed(element, i, narrow=narrow) for i in range(len(leaves))]
    return [
        leaf if leaf.dtype == dtype else _checked_cast(leaf, dtype, i)
        for i, (leaf, dtype) in enumerate(zip(leaves, dtypes, strict=True))
    ]


def _checked_cast(leaf: tf.Tensor, dtype: tf.DType, number: int) -> tf.Tensor:
    cast = tf.cast(leaf, dtype)
    with tf.control_dependencies([tf.debugging.Assert(fits(leaf, cast), [f"{_MARK}{number}"])]):
        return tf.identity(cast)


def fits(wide: tf.Tensor, slim: tf.Tensor) -> tf.Tensor:
    """Whether no integer has wrapped, and no finite number has become infinite, on the way from `wide` to `slim`."""
    if wide.dtype.is_integer:
        return tf.reduce_all(tf.equal(tf.cast(slim, wide.dtype), wide))
    if wide.dtype.is_complex:
        return fits(tf.math.real(wide), tf.math.real(slim)) & fits(tf.math.imag(wide), tf.math.imag(slim))
    return tf.reduce_all(tf.math.is_finite(slim) | ~tf.math.is_finite(wide))


def narrowing_error(element: Element, error: Exception) -> SpecError | None:
    """The SpecError that a failed check of the graph stands for; None for any other failure."""
    found = re.search(rf"{_MARK}(\d+)", str(error))
    if found is None:
        return None
    leaf = int(found[1])
    path, wide = element.structure.paths[leaf], element.specs[leaf].dtype
    return SpecError(
        f"{path} holds a value of {wide.name} that does not fit {NARROW[wide].name}, to which JAX narrows it: "
        "set jax_enable_x64, cast or clip it in map, or keep_on_host it"
    )
