"""What every framework's steps ask of a batch: the inputs that a spec describes, its weights, means and sums.

A loss or metric is written once for all frameworks, as a function of the model and the batch:

    >>> import optax
    >>> def cross_entropy(predict, batch):
    ...     return optax.softmax_cross_entropy_with_integer_labels(predict(batch["image"]), batch["label"])
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from types import MethodType
from typing import Any

import jax
import jax.numpy as jnp

from tfjax._arguments import require_call
from tfjax.errors import SpecError

Predict = Callable[[Any], Any]
"""Applies the model to a batch of inputs."""

Loss = Callable[[Predict, Any], Any]
"""(predict, batch) to one loss for each example, of shape (batch,); or to these and a dict of metrics like them."""

Metrics = Callable[[Predict, Any], Mapping[str, jax.Array]]
"""(predict, batch) to named values for each example, each of shape (batch,)."""

Keys = str | int | tuple[Any, ...] | Mapping[str, Any]
"""A key of the element, a tuple of such, or a dict of such."""

Inputs = tuple[tuple[Any, str, str], ...]
"""Of each leaf of a model's inputs its key, the path below the key, and dtype and shape of one example's."""

_TRAINING = ("train", "training", "is_training")
_NOT_TRAINING = ("deterministic", "inference")


def input_spec(spec: Any, x: Keys) -> Any:
    """The spec of one example's inputs: what `x` names in a pipeline's `spec`, dimension 0 set to 1.

    Args:
        spec: pytree of `jax.ShapeDtypeStruct`, dimension 0 the batch.
        x: the key of the model's inputs, or a tuple or dict of keys.

    Raises:
        KeyError: there is no such key.
        ValueError: a leaf has no batch dimension.
    """
    return jax.tree.map(lambda leaf: _one_example(x, leaf), pick(spec, x))


def pick(element: Any, keys: Keys, argument: str = "x") -> Any:
    """The leaf (or subtree) of one key, or a tuple or dict of them, of a batch or its spec; `argument` gave them."""
    if isinstance(keys, tuple):
        return tuple(pick(element, key, argument) for key in keys)
    if isinstance(keys, Mapping):
        return {name: pick(element, key, argument) for name, key in keys.items()}
    there: Any = type(element).__name__
    if isinstance(element, Mapping | tuple | list):
        there = sorted(element, key=str) if isinstance(element, Mapping) else list(range(len(element)))
    if isinstance(there, str) or keys not in there:
        raise KeyError(
            f"{argument}={keys!r} names nothing in the batch or its spec, which has {there}: give one of its keys"
        )
    return element[keys]


def _one_example(x: Keys, leaf: Any) -> jax.ShapeDtypeStruct:
    if not leaf.shape:
        raise ValueError(f"inputs {x!r} have shape () and so no batch dimension: call .batch(size) on the pipeline")
    return jax.ShapeDtypeStruct((1, *leaf.shape[1:]), leaf.dtype)


def zeros(inputs: Any) -> Any:
    """Inputs such as the specs say; under jit, as only their shapes count."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), inputs)


def require_inputs(batch: Any, inputs: Inputs) -> None:
    """Raise SpecError where a batch's inputs are not those that a model was created for, with both specs."""
    keys = tuple(dict.fromkeys(key for key, _, _ in inputs))
    try:
        found = described(batch, keys)
    except KeyError:
        found = described({"batch": batch}, ("batch",))
    if found != inputs:
        then, now = (", ".join(f"{key!r}{path}: {what}" for key, path, what in each) for each in (inputs, found))
        raise SpecError(
            f"the model was created for examples of {then}, and this batch has {now or 'nothing'}: give create_state "
            "the spec of the batches that it is trained on, and stacks of them to scan_steps"
        )


def described(element: Any, keys: tuple[Any, ...]) -> Inputs:
    """What `keys` name in a batch or its spec: shapes are those of one example."""
    out = []
    for key in keys:
        for path, leaf in jax.tree_util.tree_flatten_with_path(pick(element, key))[0]:
            out.append((key, jax.tree_util.keystr(path), f"{leaf.dtype}{list(leaf.shape[1:])}"))
    return tuple(out)


def keys_of(x: Keys) -> tuple[Any, ...]:
    """The keys in `x`.

    >>> keys_of({"photo": "image", "rest": ("height", "width")})
    ('image', 'height', 'width')
    """
    if isinstance(x, Mapping):
        x = tuple(x.values())
    return tuple(key for part in x for key in keys_of(part)) if isinstance(x, tuple) else (x,)


def mode_arguments(call: Callable[..., Any], *, train: bool) -> dict[str, Any]:
    """How a model's own call is told whether it is trained: by whichever of the usual arguments it has.

    >>> mode_arguments(lambda x, deterministic: x, train=True)
    {'deterministic': False}
    """
    names = inspect.signature(call).parameters
    told = {name: train for name in _TRAINING if name in names}
    return told | {name: not train for name in _NOT_TRAINING if name in names}


def require_maker(name: str, model: Any, arguments: tuple[str, ...], wanted: str) -> None:
    """Raise TypeError for a model that cannot be made so; of a class, whose metaclass may hide it, by `__init__`."""
    call = MethodType(getattr(model, "__init__"), model) if isinstance(model, type) else model  # noqa: B009 - for mypy
    require_call(name, call, arguments, f"give a function ({', '.join(arguments)}) to {wanted}")


def row_weights(batch: Any, sample_weight: str | None) -> jax.Array:
    """The weight of each row, float32 (batch,): 0 where a `mask` of shape (batch,) says that it is not real."""
    size = next(leaf.shape[0] for leaf in jax.tree.leaves(batch) if leaf.ndim)
    weights = jnp.ones(size, jnp.float32)
    if sample_weight is not None:
        weights = jnp.asarray(pick(batch, sample_weight, "sample_weight"), jnp.float32)
        if weights.shape != (size,):
            raise ValueError(f"sample_weight {sample_weight!r} has shape {weights.shape}: one weight an example")
    mask = batch.get("mask") if isinstance(batch, Mapping) else None
    return weights if mask is None or jnp.shape(mask) != (size,) else jnp.where(mask, weights, 0)


def losses_and_metrics(given: Any) -> tuple[Any, Mapping[str, Any]]:
    """What a loss function returned, as the losses and further metrics, or TypeError."""
    losses, *more = given if isinstance(given, tuple) else (given,)
    metrics = more[0] if more else {}
    if isinstance(losses, Mapping | list | tuple | None) or len(more) > 1 or not isinstance(metrics, Mapping):
        shown = ", ".join(type(part).__name__ for part in given) if isinstance(given, tuple) else type(given).__name__
        raise TypeError(f"the loss returned ({shown}): return losses (batch,), or these and a dict of metrics")
    if not jnp.issubdtype(jnp.result_type(losses), jnp.floating):
        raise TypeError(f"the loss is {jnp.result_type(losses)}, which has no gradient: return floats")
    return losses, metrics


def require_rows(what: str, values: jax.Array, weights: jax.Array) -> jax.Array:
    """Values of shape (batch,), or ValueError."""
    if jnp.shape(values) != weights.shape:
        raise ValueError(f"{what} has shape {jnp.shape(values)}: return one value for each example, {weights.shape}")
    return values


def stop_unweighted(tree: Any, weights: jax.Array) -> Any:
    """The same values, without gradient in the rows of weight 0: of a loss that is NaN there, it would be NaN too."""

    def stop(leaf: jax.Array) -> jax.Array:
        if jnp.shape(leaf)[:1] != weights.shape:
            return leaf
        counts = jnp.expand_dims(weights != 0, tuple(range(1, leaf.ndim)))
        return jnp.where(counts, leaf, jax.lax.stop_gradient(leaf))

    return jax.tree.map(stop, tree)


def weighted(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Values times weights, 0 where the weight is 0 whatever the value is."""
    return jnp.where(weights == 0, 0, values * weights)


def masked_sums(values: Mapping[str, jax.Array], weights: jax.Array, taken: Iterable[str]) -> dict[str, jax.Array]:
    """The weighted sum of each of `values` (batch,), whose names are none of those that a step gives itself."""
    if not isinstance(values, Mapping):
        raise TypeError(f"the metrics are a {type(values).__name__}: return a dict of name to values (batch,)")
    for name in taken:
        if name in values:
            raise ValueError(f"metric {name!r} has the name of one that the step gives itself: call it otherwise")
    return {
        name: jnp.sum(weighted(require_rows(f"metric {name!r}", value, weights), weights))
        for name, value in values.items()
    }
