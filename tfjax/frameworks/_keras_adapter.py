"""A tfjax pipeline as data for `fit`, `evaluate` and `predict` of Keras 3 on JAX."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import jax

import tfjax.frameworks._keras_backend  # noqa: F401 - sets and checks the backend before Keras is used
from tfjax._arguments import require_count
from tfjax.state import State

from keras.src.trainers.data_adapters.data_adapter import DataAdapter  # isort: skip  # it has no public name

Keys = str | int | tuple[Any, ...] | Mapping[str, Any]
"""A key of the element, a tuple of such, or a dict of such."""


class PipelineAdapter(DataAdapter):  # type: ignore[misc]  # Keras ships no types
    """What `Pipeline.to_keras` returns: give it to `fit`, `evaluate`, `predict` or as `validation_data`.

    Batches are the pipeline's own jax.Arrays, not copied. The n-th epoch of a `fit` is the pipeline's epoch
    `start_epoch + n`; each `fit` and `evaluate` starts at `start_epoch` again.

    A boolean leaf `mask` of shape (batch,), as `batch(remainder="pad")` adds it, becomes the sample weight, or
    multiplies `sample_weight`. Keras weights the loss and `weighted_metrics` by it but not `metrics`, and divides
    the loss by the batch size all the same: name what is to be exact on a padded tail in `weighted_metrics`.
    `predict` returns padded rows too.

    Use one adapter for `fit` and another as its `validation_data`. Keras ignores, without a word, `y=`,
    `sample_weight=` and `class_weight=` that `fit` is given beside an adapter.

    Args:
        pipe: a pipeline of batches.
        x: the inputs: a key of the element, a tuple of keys, or a dict {name of an input: key}.
        y: the targets, likewise; None for `predict`.
        sample_weight: the key of a leaf of shape (batch,).
        start_epoch: the pipeline's epoch that the first epoch of a `fit` takes.
        state: a position to go on from: the adapter then holds the rest of the epoch in which it stands, for
            one epoch of `fit`.

    Raises:
        KeyError: a key that the element does not have.
        ValueError: elements without a batch dimension, or both `start_epoch` and `state`.

    Example:
        >>> import keras, numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"x": np.zeros((6, 3), np.float32), "y": np.zeros(6, np.float32)})
        >>> model = keras.Sequential([keras.layers.Dense(1)])
        >>> model.compile(optimizer="sgd", loss="mse")
        >>> data = PipelineAdapter(pipe.shuffle(seed=0).batch(2), x="x", y="y")
        >>> model.fit(data, epochs=2, verbose=0).history["loss"]
        [0.0, 0.0]
    """

    def __init__(
        self,
        pipe: Any,
        *,
        x: Keys,
        y: Keys | None = None,
        sample_weight: str | int | None = None,
        start_epoch: int = 0,
        state: Any = None,
    ) -> None:
        """See the class."""
        state = State.from_json(state) if isinstance(state, str) else state
        require_count("start_epoch", start_epoch, least=0)
        if state is not None and start_epoch:
            raise ValueError(f"start_epoch={start_epoch} beside a state, which has its own: give one of them")
        self._spec = pipe.spec
        for keys in (x, y, sample_weight):
            if keys is not None:
                jax.tree.map(_check_batched, _pick(self._spec, keys))
        self._pipe, self._x, self._y, self._weight = pipe, x, y, sample_weight
        self._start_epoch, self._resume_at = start_epoch, state
        self._masked = _has_mask(self._spec)
        self._num_batches = _steps(pipe, state)
        self._epoch = -1  # of the running fit
        self._starting_over = False
        self._states: deque[tuple[int, Any]] = deque(maxlen=2)
        self._batches: Any = None  # of the pass that was begun last

    def state_after(self, batches: int) -> Any:
        """The pipeline's state when `batches` batches of the current epoch have been trained on.

        Keras draws up to one batch ahead of the step, so the count says which: `batch + 1` in
        `on_train_batch_end(batch)`.

        Raises:
            ValueError: not among the last two batches drawn.
        """
        for drawn, state in self._states:
            if drawn == batches:
                return state
        raise ValueError(f"no state after {batches} batches: known are those after {[n for n, _ in self._states]}")

    @property
    def wait_s(self) -> float:
        """Seconds that the current epoch has waited for data."""
        return 0.0 if self._batches is None else float(self._batches.stats.wait_s)

    def get_jax_iterator(self) -> Iterator[tuple[Any, ...]]:
        """One pass, opened with its first batch: Keras asks for iterators that it never uses."""
        if self._resume_at is not None:
            where = {"state": self._resume_at}
        else:
            where = {"epochs": 1, "start_epoch": self._start_epoch + max(self._epoch, 0)}
        with self._pipe.iterate(**where) as batches:
            self._batches = batches
            for drawn, batch in enumerate(batches, 1):
                self._starting_over = False
                self._states.append((drawn, batches.state))
                yield self._select(batch)

    def get_numpy_iterator(self) -> Iterator[tuple[Any, ...]]:
        """The same as `get_jax_iterator`."""
        return self.get_jax_iterator()

    def _select(self, batch: Any) -> tuple[Any, ...]:
        data = [_pick(batch, keys) for keys in (self._x, self._y) if keys is not None]
        weight = None if self._weight is None else batch[self._weight]
        if self._masked:
            weight = batch["mask"] if weight is None else weight * batch["mask"]
        if weight is None:
            return tuple(data)
        return (*data, weight) if self._y is not None else (*data, None, weight)

    @property
    def num_batches(self) -> int | None:
        """Batches in an epoch; None where the pipeline does not know."""
        # Keras asks for this right before the on_epoch_end() with which it starts over, and at the end of no
        # real epoch. (EpochIterator.reset in Keras 3.15, called before each fit and evaluate; by then the
        # symbolic build of a new model has begun an epoch, for the sake of one batch.)
        self._starting_over = True
        return self._num_batches

    @property
    def batch_size(self) -> int | None:
        """Examples in a batch; None where the last one is shorter."""
        size: int | None = jax.tree.leaves(_pick(self._spec, self._x))[0].shape[0]
        return size

    @property
    def has_partial_batch(self) -> bool:
        """Whether the last batch of an epoch may be shorter."""
        return self.batch_size is None

    @property
    def partial_batch_size(self) -> int | None:
        """Not known."""
        return None

    def on_epoch_begin(self) -> None:
        """Counts the epochs of a fit (iterators opened would count too many)."""
        self._starting_over = False
        self._epoch += 1
        if self._resume_at is not None and self._epoch > 0:
            raise RuntimeError(
                "to_keras(state=...) holds the rest of one epoch, and Keras asked for a second one: "
                "fit one epoch with it, and those after it with to_keras(start_epoch=...)"
            )

    def on_epoch_end(self) -> None:
        """The end of an epoch, or Keras starting over."""
        if self._starting_over:
            self._epoch = -1


def _pick(element: Any, keys: Keys) -> Any:
    """The leaf (or subtree) of one key, or a tuple or dict of them."""
    if isinstance(keys, tuple):
        return tuple(_pick(element, key) for key in keys)
    if isinstance(keys, Mapping):
        return {name: _pick(element, key) for name, key in keys.items()}
    there = list(element) if isinstance(element, Mapping) else list(range(len(element)))
    if keys not in there:
        raise KeyError(f"no {keys!r} in the pipeline's elements, which have {there}")
    return element[keys]


def _check_batched(leaf: Any) -> None:
    if not leaf.shape:
        raise ValueError("Keras is fed batches, and a chosen leaf has shape (): call .batch(size) on the pipeline")


def _has_mask(spec: Any) -> bool:
    mask = spec.get("mask") if isinstance(spec, Mapping) else None
    return mask is not None and mask.dtype == bool and len(mask.shape) == 1


def _steps(pipe: Any, state: Any) -> int | None:
    """Batches of one epoch, or those of the epoch that `state` stands in that are left."""
    try:
        steps = len(pipe)
    except TypeError:
        return None
    return steps if state is None else steps - state.step % steps
