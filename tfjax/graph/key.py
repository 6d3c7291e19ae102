"""What the rows of a deterministic prefix depend on, as named values: the key of whatever is kept of them on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfjax._tensorflow import tf
from tfjax.graph.code import code_hash
from tfjax.graph.element import Element, describe_spec
from tfjax.graph.moment import Moment
from tfjax.graph.plan import origin_of
from tfjax.graph.rows import FAILURES, Rows
from tfjax.graph.stages import Chain, Map, named_stages

_PROBES = 8


def prefix_key(chain: Chain, element: Element, length: int) -> dict[str, Any]:
    """Values of JSON types; None for what cannot be told.

    Args:
        chain: the stages that make the rows.
        element: what a row is.
        length: how many rows there are.
    """
    source, stages = origin_of(chain).source, named_stages(chain)
    users = {name: s.fn for name, s in stages.items() if isinstance(s, Map) and s.name is None}
    return {
        "source": source.identity,
        "files": source.stamp(),
        "rows": length,
        "elements": [[path, describe_spec(s)] for path, s in element.leaves()],
        **{name: stage.describe() for name, stage in stages.items()},
        **{f"the code of {name}": code_hash(fn) for name, fn in users.items()},
    }


def some_of(rows: np.ndarray | range) -> np.ndarray:
    """Up to 8 of them, int64, from the first to the last."""
    at = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _PROBES)).astype(np.int64))
    return np.asarray(rows, np.int64)[at]


def probes(rows: Rows, positions: np.ndarray) -> list[str]:
    """Digests of some rows, which see closures, tables, decoders and data."""

    def one(position: tf.Tensor) -> list[tf.Tensor]:
        return list(rows.fetch(Moment.start(), position).leaves)

    if not len(positions):
        return []
    traced = tf.function(one, autograph=False).get_concrete_function(tf.TensorSpec((1,), tf.int64))
    found = []
    for position in positions:
        try:
            found.append(digest(traced(tf.constant([position], tf.int64))))
        except FAILURES:  # what fails is said when it is delivered
            found.append("failed")
    return found


def digest(leaves: Sequence[tf.Tensor]) -> str:
    """A digest of the values of some leaves."""
    made = hashlib.sha256()
    for leaf in leaves:
        value = leaf.to_tensor() if isinstance(leaf, tf.RaggedTensor) else leaf
        made.update(tf.io.serialize_tensor(value).numpy())
    return made.hexdigest()
