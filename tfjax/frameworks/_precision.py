"""What a model computes in, and the loss scale that float16 needs.

Parameters, statistics and the optimizer's state stay float32. Inputs and parameters are cast before the model, and its
outputs back to float32, so that losses and metrics are computed in float32. In float16 small gradients would be 0:
the loss is multiplied by a scale, which is halved when a gradient overflows (that update is left out) and doubled after
2,000 that did not (Micikevicius et al., "Mixed Precision Training", 2018, https://arxiv.org/abs/1710.03740).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

Precision = Literal["float32", "bfloat16", "float16"]
_FIRST_SCALE, _DOUBLE_AFTER = 2.0**15, 2000


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LossScale:
    """What the loss is multiplied by, float32 (), and the updates since it changed, int32 ()."""

    scale: jax.Array
    steps: jax.Array

    def after(self, finite: jax.Array) -> LossScale:
        """The scale for the next step."""
        steps = jnp.where(finite, self.steps + 1, 0)
        double = steps >= _DOUBLE_AFTER
        up = jnp.where(double, self.scale * 2, self.scale)
        return LossScale(jnp.where(finite, up, jnp.maximum(self.scale / 2, 1.0)), jnp.where(double, 0, steps))


def first_scale() -> LossScale:
    """The scale of a new state."""
    return LossScale(jnp.asarray(_FIRST_SCALE, jnp.float32), jnp.zeros((), jnp.int32))


def require_precision(precision: str) -> None:
    """Raise ValueError for an unknown one."""
    if precision not in get_args(Precision):
        raise ValueError(f"precision={precision!r}: choose one of {', '.join(map(repr, get_args(Precision)))}")


def computing(precision: Precision, tree: Any) -> Any:
    """The floating-point leaves as a model of this precision takes them."""
    return tree if precision == "float32" else _cast(tree, precision)


def computed(precision: Precision, tree: Any) -> Any:
    """The outputs of such a model, as losses and metrics take them."""
    return tree if precision == "float32" else _cast(tree, jnp.float32)


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(jnp.result_type(a), jnp.floating) else a, tree)


def all_finite(tree: Any) -> jax.Array:
    """Whether every value is finite, bool ()."""
    leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(leaves)) if leaves else jnp.asarray(True)
