"""What can only be read from its beginning."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from tfjax._arguments import require_function
from tfjax._naming import function_name
from tfjax.graph.stages import Origin
from tfjax.pipeline import Pipeline

if TYPE_CHECKING:
    from tfjax._tensorflow import tf


def from_tf(
    dataset: tf.data.Dataset,
    *,
    batched: bool | None = None,
    state: Literal["replay", "checkpoint"] = "replay",
    nested: Literal["refuse", "flatten"] = "refuse",
) -> Pipeline:
    """Batches from any tf.data.Dataset, which can only be streamed.

    The order is the dataset's own. Each run begins with the first order of its shuffles, also where they reshuffle
    each iteration, so that two runs are alike; a shuffle without a seed is another one in each run.

    Args:
        dataset: any finite or infinite dataset.
        batched: whether its elements are batches. None: read it off the leading dimensions, which are all unknown, or
            all equal beside at least one leaf of rank 1; a scalar leaf means not batched.
        state: how a state is resumed. "replay": a state is under 1 KB and counts batches; resuming computes those
            before it and throws them away. "checkpoint": a state holds TensorFlow's checkpoint of the graph, with its
            shuffle buffers and the batches that were read ahead; resuming computes nothing again. `explain()`
            estimates its size, `state.size_bytes` is its size.
        nested: what becomes of a Dataset inside of each element, as `window` and RLDS have it: it is refused, or each
            of its elements takes its place, and the other leaves are repeated for each.

    Raises:
        TypeError: no tf.data.Dataset.
        ValueError: the leading dimensions do not tell whether elements are batches; or `state="checkpoint"` and an op
            of the graph has a state outside of the graph (the message names it).
        SpecError: a leaf is a Dataset, or two leaves are with `nested="flatten"`.

    Example:
        >>> import tensorflow as tf, tfjax
        >>> pipe = tfjax.from_tf(tf.data.Dataset.range(6).batch(3))
        >>> [batch.tolist() for batch in pipe]
        [[0, 1, 2], [3, 4, 5]]
    """
    from tfjax._tensorflow import tf
    from tfjax.bridge.tree import flatten
    from tfjax.graph.stream_state import refuse_stateful
    from tfjax.sources.foreign import Foreign
    from tfjax.sources.nested import without_nested

    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(f"from_tf takes a tf.data.Dataset, given {type(dataset).__name__}: see from_arrays for arrays")
    if state not in ("replay", "checkpoint"):
        raise ValueError(f"from_tf: state={state!r}: choose 'replay' or 'checkpoint'")
    name = f"from_tf({type(dataset).__name__})"
    dataset = without_nested(dataset, flatten_leaves=flatten, nested=nested)
    if state == "checkpoint":
        refuse_stateful(dataset, "the dataset")
    specs, structure = flatten(dataset.element_spec)
    source = Foreign(dataset, specs, structure.paths, lambda tree: flatten(tree)[0], batched=batched, resume=state)
    return Pipeline(Origin(name=name, source=source, structure=structure))


def from_generator(function: Callable[..., Iterable[Any]], spec: Any, *, batched: bool = False) -> Pipeline:
    """Elements that a Python function yields, which can only be streamed.

    Each element is checked against `spec`. The function runs in this process while batches are made, one element at a
    time, and holds the interpreter lock. A generator is closed at the end of its epoch, or with the iterator, so that
    its `finally` blocks run. Resuming pulls the elements before a state again, as Python has no checkpoint; where
    examples have an index, `from_source` resumes at once.

    Args:
        function: returns a new iterator, or is a generator function. It is called for each epoch, with the number of
            the epoch where it requires one argument.
        spec: one element: a pytree of `jax.ShapeDtypeStruct` or `tf.TensorSpec`, whose dimensions may be None.
        batched: whether elements are batches.

    Raises:
        SpecError: while iterating: an element of another structure, shape or dtype; names it, with both specs.
        TfjaxError: while iterating: the function raised; names the element, and has the exception as its cause.
        TypeError: no function, or a leaf of `spec` is no spec.

    Example:
        >>> import jax, numpy as np, tfjax
        >>> def count(epoch):
        ...     yield from ({"x": np.float32(10 * epoch + i)} for i in range(4))
        >>> pipe = tfjax.from_generator(count, {"x": jax.ShapeDtypeStruct((), np.float32)}).batch(2)
        >>> [batch["x"].tolist() for batch in pipe.iterate(epochs=2)]
        [[0.0, 1.0], [2.0, 3.0], [10.0, 11.0], [12.0, 13.0]]
    """
    from tfjax.bridge.specs import flatten_specs
    from tfjax.bridge.tree import leaves_like
    from tfjax.sources.generator import Generated

    require_function("from_generator", function)
    if not isinstance(batched, bool):
        raise TypeError(f"from_generator: batched is {batched!r}: pass True or False")
    specs, structure = flatten_specs(spec, "from_generator: spec")
    name = f"from_generator({function_name(function)})"
    source = Generated(function, specs, structure.paths, leaves_like(structure), name=name, batched=batched)
    return Pipeline(Origin(name=name, source=source, structure=structure))
