"""Which leaves of an element become the inputs and targets of a Keras model.

>>> pick({"image": 1, "size": 2, "label": 3}, {"photo": "image", "meta": ("size",)})
{'photo': 1, 'meta': (2,)}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from tfjax.frameworks._batch import Keys as Keys


def pick(element: Any, keys: Keys) -> Any:
    """The leaf (or subtree) of one key, or a tuple or dict of them."""
    if isinstance(keys, str | int):
        return element[keys]
    if isinstance(keys, tuple):
        return tuple([pick(element, key) for key in keys])
    return {name: pick(element, key) for name, key in keys.items()}


def require_batches(spec: Any, keys: Keys) -> None:
    """Check the keys once, for `pick` to be quick.

    Raises:
        KeyError: the element has none such.
        TypeError: what is no key.
        ValueError: no keys, or a leaf without a batch dimension.
    """
    if isinstance(keys, tuple | Mapping):
        if not keys:
            raise ValueError(f"to_keras is given {keys!r}, which names nothing: give a key, or a tuple or dict of keys")
        for key in keys.values() if isinstance(keys, Mapping) else keys:
            require_batches(spec, key)
        return
    if not isinstance(keys, str | int):
        raise TypeError(f"to_keras takes a key, a tuple of keys, or a dict of them, given {keys!r}")
    there = list(spec) if isinstance(spec, Mapping) else list(range(len(spec)))
    if keys not in there:
        raise KeyError(f"no {keys!r} in the pipeline's elements, which have {there}")
    if not all(leaf.shape for leaf in jax.tree.leaves(spec[keys])):
        raise ValueError(f"Keras is fed batches, and the leaf {keys!r} has shape (): call .batch(size) on the pipeline")


def has_mask(spec: Any) -> bool:
    """Whether elements have the mask that remainder="pad" adds."""
    mask = spec.get("mask") if isinstance(spec, Mapping) else None
    return mask is not None and mask.dtype == bool and len(mask.shape) == 1
