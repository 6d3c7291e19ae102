"""Objects of the user's that can be asked for examples by index."""

from __future__ import annotations

import functools
from typing import Any

from tfjax.graph.stages import Origin
from tfjax.pipeline import Pipeline


def from_source(source: Any) -> Pipeline:
    """Examples from an object of your own with four members: `__len__`, `spec`, `identity` and `fetch`.

    Args:
        source: has

            - `__len__()`: how many examples there are, at least 1;
            - `spec`: one example, a pytree of `tf.TensorSpec` or `jax.ShapeDtypeStruct` of known shapes;
            - `identity`: a dict of JSON types that tells this source from another in a state: names, sizes and counts,
              never absolute paths;
            - `fetch(indices)`: a pytree like `spec` of tensors (n, ...), for an int64 tensor of shape (n,), with
              TensorFlow ops; or instead `read(indices)`, the same in NumPy, which is called from several threads.

            Both are pure: the same indices give the same rows. Either may return `tfjax.sources.base.Raw(rows, ok)`,
            where `ok`, bool (n,), says which examples could be read. `tfjax.sources.base.Source` is the whole protocol;
            its members `describe`, `locate`, `stamp` and `check` may be left out. TensorFlow does not keep the object
            alive, the pipeline does.

    Raises:
        TypeError: a member is missing or of the wrong kind, or the identity is not of JSON types.
        ValueError: the length is 0, the identity holds an absolute path, or `fetch` holds a stateful random op or
            writes a variable.
        SpecError: `fetch` does not return what `spec` says; of `read` this is said when a batch is read.
        TfjaxError: `fetch` raised.

    Example:
        >>> import numpy as np, tensorflow as tf, tfjax
        >>> class Squares:
        ...     spec = {"x": tf.TensorSpec((), tf.int64), "wave": tf.TensorSpec((16,), tf.float32)}
        ...     identity = {"name": "squares", "version": 1}
        ...
        ...     def __len__(self):
        ...         return 1000
        ...
        ...     def read(self, indices):
        ...         phase = np.arange(16) / 16 * indices[:, None]
        ...         return {"x": indices**2, "wave": np.sin(phase).astype(np.float32)}
        >>> pipe = tfjax.from_source(Squares()).shuffle(seed=0).batch(8)
        >>> pipe.peek()["wave"].shape
        (8, 16)
    """
    from tfjax.bridge.specs import flatten_specs
    from tfjax.graph.functions import operations_of, refuse_state
    from tfjax.sources.user import UserSource, require_members

    require_members(source)
    kind = type(source).__name__
    specs, structure = flatten_specs(source.spec, f"from_source: {kind}.spec")
    made = UserSource(source, specs, structure, name=f"from_source: {kind}")
    if made.graph is not None:
        refuse_state(f"from_source: {kind}.fetch", operations_of(made.graph))
    return Pipeline(Origin(name=f"from_source({kind}, {len(made)} examples)", source=made, structure=structure))


def from_grain(dataset: Any, *, batched: bool | None = None) -> Pipeline:
    """Examples from a Grain MapDataset, which is indexed, or from an IterDataset or DataLoader, which stream.

    Of a MapDataset, example i is `dataset[i]`; elements are read several at a time, in one Python call a batch, from
    several threads. Shuffle, batch and repeat here rather than in Grain: then the order is one of all rows each epoch,
    and a state resumes at any step. The others are iterated over from their beginning for each epoch, as
    `from_generator` does it.

    Args:
        dataset: a finite `grain.MapDataset`, a `grain.IterDataset` or a `grain.DataLoader` whose elements are pytrees
            of numbers, strings and arrays. The first element is read for the structure, shapes and dtypes that every
            element has. Of a MapDataset up to eight elements, from the first to the last, are read here: a digest of
            them tells another seed, other arguments and other data apart in a state, so `dataset[i]` has to be the same
            in every process.
        batched: whether the elements of an IterDataset or DataLoader are batches, whose number of rows may then vary.
            None: read it off the first, which is a batch where all leading dimensions are equal beside at least one
            leaf of rank 1; a scalar leaf means not batched.

    Raises:
        TypeError: another kind of object, or a leaf that is no number, string or array.
        ValueError: the dataset is empty; a MapDataset repeats for ever, has a filter, or is given `batched`; or the
            leading dimensions do not tell whether elements are batches.
        SpecError: when it is read: an element of another structure, shape or dtype; names both.
        ImportError: Grain is missing; names the extra.

    Example:
        >>> import grain, numpy as np, tfjax
        >>> dataset = grain.MapDataset.source(range(10)).map(lambda i: {"x": np.full(3, i)})
        >>> [batch["x"].shape for batch in tfjax.from_grain(dataset).shuffle(seed=0).batch(4)]
        [(4, 3), (4, 3)]
    """
    from tfjax.sources.grain import import_grain

    grain, kind = import_grain(), type(dataset).__name__
    if isinstance(dataset, grain.IterDataset | grain.DataLoader):
        return _streamed(dataset, kind, batched)
    if not isinstance(dataset, grain.MapDataset):
        of_a_run = (
            "the dataset that it iterates over" if isinstance(dataset, grain.DatasetIterator) else "from_examples"
        )
        raise TypeError(f"from_grain takes a MapDataset, an IterDataset or a DataLoader, given {kind}: use {of_a_run}")
    if batched is not None:
        raise ValueError("from_grain: the elements of a MapDataset are examples, so leave batched out; batch here")
    return _mapped(dataset, kind)


def _mapped(dataset: Any, kind: str) -> Pipeline:
    from tfjax.bridge.tree import flatten, flatten_arrays
    from tfjax.sources.grain import MapRows
    from tfjax.sources.user import UserSource

    rows = MapRows(dataset, flatten_arrays)
    _, flat = flatten(tuple(range(len(rows.spec))))
    source = UserSource(rows, rows.spec, flat, name=f"from_grain: {kind}")
    return Pipeline(Origin(name=f"from_grain({kind}, {len(rows)} elements)", source=source, structure=rows.structure))


def _streamed(dataset: Any, kind: str, batched: bool | None) -> Pipeline:
    from tfjax.bridge.tree import flatten_arrays
    from tfjax.sources.generator import Generated
    from tfjax.sources.grain import elements, stream_specs

    first = next(elements(dataset), None)
    if first is None:
        raise ValueError(f"from_grain: the {kind} is empty")
    leaves, structure = flatten_arrays(first)
    specs, batched = stream_specs(leaves, structure.paths, batched)

    def like_the_first(element: Any) -> list[Any]:
        found, other = flatten_arrays(element)
        if other.treedef != structure.treedef:
            raise ValueError(f"it has the leaves {', '.join(other.paths)}, the first has {', '.join(structure.paths)}")
        return found

    name = f"from_grain({kind})"
    read = functools.partial(elements, dataset)
    source = Generated(read, specs, structure.paths, like_the_first, name=name, batched=batched)
    return Pipeline(Origin(name=name, source=source, structure=structure))
