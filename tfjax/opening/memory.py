"""Arrays and Python sequences in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfjax.graph.stages import Map, Origin
from tfjax.opening.common import raw_rows
from tfjax.pipeline import Pipeline


def from_arrays(arrays: Any) -> Pipeline:
    """Examples from arrays in memory: row i of every leaf is example i.

    Args:
        arrays: a pytree of arrays of shape (examples, ...); string arrays may be used inside the graph. They are copied
            once.

    Raises:
        ValueError: no leaf, a scalar, or leading dimensions that differ.
        TypeError: a leaf of Python objects.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"image": np.zeros((10, 8, 8), np.uint8), "label": np.arange(10)})
        >>> len(pipe), int(pipe[3]["label"])
        (10, 3)
    """
    from tfjax.bridge.tree import flatten_arrays
    from tfjax.sources.arrays import Arrays

    leaves, structure = flatten_arrays(arrays)
    source = Arrays(leaves, structure.paths)
    return Pipeline(Origin(name=f"from_arrays({len(source)} rows)", source=source, structure=structure))


def from_examples(examples: Sequence[Any]) -> Pipeline:
    """Examples from any Python sequence: strings, numbers, and arrays whose shapes may vary.

    Args:
        examples: pytrees of one structure; a leaf has one dtype and one rank. They are copied once, as one array of
            values a leaf.

    Raises:
        ValueError: no example, or structures or ranks that differ.
        TypeError: no sequence, or a leaf that is no string, number or array.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_examples([{"x": np.arange(n, dtype=np.float32)} for n in (2, 3)])
        >>> [example["x"].tolist() for example in pipe]
        [[0.0, 1.0], [0.0, 1.0, 2.0]]
    """
    from tfjax.bridge.tree import flatten_arrays
    from tfjax.sources.examples import Examples

    if (
        not hasattr(examples, "__getitem__")
        or not hasattr(examples, "__len__")
        or isinstance(examples, str | bytes | dict)
    ):
        raise TypeError(f"from_examples takes a sequence of examples, given {type(examples).__name__}: pass list(...)")
    if not len(examples):
        raise ValueError("from_examples: the sequence is empty")
    flat = [flatten_arrays(examples[i]) for i in range(len(examples))]
    structure = flat[0][1]
    if not structure.paths:
        raise ValueError(f"from_examples: example 0 is {examples[0]!r}, which has no leaf")
    odd = next((i for i, (_, other) in enumerate(flat) if other.treedef != structure.treedef), None)
    if odd is not None:
        raise ValueError(
            f"from_examples: example {odd} has the leaves {flat[odd][1].paths}, example 0 has {structure.paths}: "
            "every example has one structure"
        )
    source = Examples(list(zip(*(leaves for leaves, _ in flat), strict=True)), structure.paths)
    name = f"from_examples({len(source)} examples)"
    if source.is_fixed:
        return Pipeline(Origin(name=name, source=source, structure=structure))
    return raw_rows(name, source)._append(
        Map(fn=lambda raw: structure.unflatten(source.restore(raw)), name="restore shapes")
    )
