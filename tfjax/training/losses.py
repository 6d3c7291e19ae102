"""The loss and the metric of classification, for `train_step` and `eval_step` of every framework.

A loss is a function of (predict, batch) to one value for each example; these make one for the keys of a pipeline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tfjax.frameworks._batch import pick


def cross_entropy(x: Any = "image", y: str = "label") -> Callable[[Any, Any], jax.Array]:
    """The softmax cross-entropy of logits (batch, classes) with integer labels (batch,), or shares (batch, classes).

    A label that is no class gives NaN, which `fit` reports with the example; optax would take the last class for -1.

    Args:
        x: the key of the inputs, or a tuple or dict of keys.
        y: the key of the labels.

    Raises:
        TypeError: when called: labels that are neither.
        KeyError: when called: a key that the batch does not have.

    Example:
        >>> import jax.numpy as jnp
        >>> loss = cross_entropy("image", "label")
        >>> predict = lambda image: jnp.zeros((len(image), 4))
        >>> loss(predict, {"image": jnp.ones((3, 8)), "label": jnp.array([0, 3, 4])}).round(3)
        Array([1.386, 1.386,   nan], dtype=float32)
    """

    def loss(predict: Any, batch: Any) -> jax.Array:
        logits, labels = predict(pick(batch, x)), pick(batch, y, "y")
        if labels.ndim == logits.ndim:
            return jnp.asarray(optax.softmax_cross_entropy(logits, labels))
        if not jnp.issubdtype(labels.dtype, jnp.integer):
            raise TypeError(
                f"cross_entropy: {y!r} is {labels.dtype}{list(labels.shape)}, and labels are integers (batch,) or "
                "shares (batch, classes): cast them, or write a loss of your own for a regression"
            )
        inside = (labels >= 0) & (labels < logits.shape[-1])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(inside, labels, 0))
        return jnp.where(inside, losses, jnp.nan)

    return loss


def classification(x: Any = "image", y: str = "label") -> Callable[[Any, Any], dict[str, jax.Array]]:
    """The metrics "loss" and "accuracy" of a classifier, for `eval_step`; see `cross_entropy`."""

    def metrics(predict: Any, batch: Any) -> dict[str, jax.Array]:
        logits = predict(pick(batch, x))
        loss = cross_entropy(x, y)(lambda _: logits, batch)
        labels = batch[y] if batch[y].ndim < logits.ndim else batch[y].argmax(-1)
        return {"loss": loss, "accuracy": logits.argmax(-1) == labels}

    return metrics
