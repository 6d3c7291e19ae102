"""A tfjax pipeline as data for `fit`, `evaluate` and `predict` of Keras 3 on JAX."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from tfjax._arguments import require_bool, require_count
from tfjax._random_stages import require_deterministic
from tfjax.frameworks._keras_backend import keras
from tfjax.frameworks._keras_calls import Call, current_call, is_drawn_ahead
from tfjax.frameworks._keras_keys import Keys, has_mask, pick, require_batches
from tfjax.frameworks._keras_place import has_explicit_axes, placed_for, refuse_split, with_auto_axes
from tfjax.frameworks._keras_weights import ClassWeights, Weights
from tfjax.state import State

from keras.src.trainers.data_adapters.data_adapter import DataAdapter  # isort: skip  # it has no public name


class PipelineAdapter(DataAdapter):  # type: ignore[misc]  # Keras ships no types
    """What `Pipeline.to_keras` returns, and says all about: data for `fit`, `evaluate`, `predict`, `validation_data`.

    Args:
        pipe: a pipeline of batches.
        x: the inputs: a key of the element, a tuple of keys, or a dict {name of an input: key}.
        y: the targets, likewise; None for `predict`.
        options: the other arguments of `to_keras`.

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
        class_weight: Mapping[int, float] | None = None,
        start_epoch: int = 0,
        state: State | str | None = None,
        values: Mapping[str, float] | None = None,
        allow_random: bool = False,
    ) -> None:
        """See `Pipeline.to_keras`."""
        state = State.from_json(state) if isinstance(state, str) else state
        if state is not None and not isinstance(state, State):
            raise TypeError(f"state is a {type(state).__name__}: give a tfjax.State, or the text of its to_json()")
        require_count("start_epoch", start_epoch, least=0)
        require_bool("allow_random", allow_random)
        if state is not None and start_epoch:
            raise ValueError(f"start_epoch={start_epoch} beside a state, which has its own: give one of them")
        if class_weight is not None and not isinstance(y, str | int):
            raise ValueError(
                f"class_weight weights the classes of one target, and y is {y!r}: name one, such as 'label'"
            )
        refuse_split(pipe)
        self._spec = pipe.spec
        require_batches(self._spec, x)
        for keys in (y, sample_weight):
            if keys is not None:
                require_batches(self._spec, keys)
        if isinstance(sample_weight, tuple | Mapping):
            raise TypeError(f"sample_weight={sample_weight!r}: give one key, of a leaf of weights")
        self._pipe, self._x, self._y, self._values = pipe, x, y, values
        self._weights = Weights(
            leaf=sample_weight,
            target=y,
            classes=None if class_weight is None else ClassWeights(class_weight),
            masked=has_mask(self._spec),
        )
        self._start_epoch, self._state, self._allow_random = start_epoch, state, allow_random
        self._explicit = has_explicit_axes(self._spec)
        self._steps = _length(pipe)
        self._placed: tuple[Any, Any] = (None, pipe)
        self._call = Call()
        self._begin_fit()

    def _begin_fit(self) -> None:
        self._epoch = -1  # of the running fit
        self._from: State | None = self._state  # where its first epoch begins; None for `start_epoch`
        self._run: Callable[[], Any] = _no_run  # what its passes draw from: with the last of them it ends
        self._ahead = False  # whether Keras has drawn a batch that it has not trained on
        self._waited_before_s = 0.0  # in the epochs before

    @property
    def is_resumed(self) -> bool:
        """Whether it was given a `state`."""
        return self._state is not None

    def go_on_from(self, state: State) -> None:
        """Let the `fit` that is about to begin go on from a position; called in `on_train_begin`."""
        self._from = state

    @property
    def state(self) -> State:
        """The position after the last batch that `fit` has trained on; in a callback it belongs to the weights.

        Raises:
            ValueError: no `fit` is drawing from this adapter, or the state holds a checkpoint and Keras, which draws
                one batch ahead on accelerators, is past it.
        """
        run = self._run()
        if run is None:
            raise ValueError("no fit is drawing from this adapter: ask in a callback, the adapter that fit is given")
        state: State = run.state
        if state.checkpoint is not None and self._ahead:
            raise ValueError(
                "Keras has drawn one batch ahead, and a stream with state='checkpoint' has no position before it: ask "
                "at the end of an epoch, or use from_tf(..., state='replay')"
            )
        if state.checkpoint is not None or not self._steps:
            return dataclasses.replace(state, step=state.step - self._ahead)
        # Counted from the beginning of the epoch that its last batch is of.
        step = state.step - self._ahead
        before = max(step - 1, 0) // self._steps
        return dataclasses.replace(state, start_epoch=state.start_epoch + before, step=step - before * self._steps)

    @property
    def wait_s(self) -> float:
        """Seconds that the current epoch of `fit` has waited for data."""
        run = self._run()
        return 0.0 if run is None else float(run.wait_s) - self._waited_before_s

    def get_jax_iterator(self) -> Iterator[tuple[Any, ...]]:
        """One pass, opened with its first batch: Keras asks for iterators that it never uses."""
        return _Pass(self, self._run())

    def _begin(self, run: Any, *, ahead: bool) -> tuple[Any, Iterator[tuple[Any, ...]]]:
        """The run of a pass, the one before where it stands right, and what the pass draws from it."""
        where, fitting = self._where(), self._call.method == "fit"
        if run is None or not fitting or not self._stands_at(run, where):
            run = self._pipe_to_draw_from().iterate(**where, values=self._values)
        if not fitting:
            return run, map(functools.partial(self._select, scale=self._scale()), run)
        self._run, self._ahead, self._waited_before_s = weakref.ref(run), ahead, run.wait_s
        left = self._steps - run.step % self._steps if self._steps and not self._call.steps_per_epoch else None
        return run, map(self._select, itertools.islice(run, left))

    def _end(self, run: Any) -> None:
        """The end of a pass, which Keras comes to where it draws ahead."""
        if run is self._run():
            self._ahead = False

    def _stands_at(self, run: Any, where: Mapping[str, Any]) -> bool:
        """Whether a run that is open stands where a pass is to begin."""
        return bool(self._steps and run.step % self._steps == 0 and run.epoch == where.get("start_epoch"))

    def get_numpy_iterator(self) -> Iterator[tuple[Any, ...]]:
        """The same as `get_jax_iterator`."""
        return self.get_jax_iterator()

    def _where(self) -> dict[str, Any]:
        """What `iterate` is told for the pass that begins.

        A run that can be opened anywhere goes on through the epochs of a `fit`: opening one takes tens of milliseconds.
        """
        fitting, counted = self._call.method == "fit", self._call.steps_per_epoch
        at, epoch = (self._from, max(self._epoch, 0)) if fitting else (self._state, 0)
        going_on = counted or (fitting and self._pipe._plan.kind == "indexed")
        total = {"forever": True} if going_on else {}
        if at is None:
            return {**total, "start_epoch": self._start_epoch + (0 if counted else epoch)}
        if counted or not epoch:
            return {**total, "state": at}
        return {**total, "start_epoch": at.start_epoch + at.step // (self._steps or 1) + epoch}

    def _scale(self) -> float:
        """What the weights are multiplied by in `evaluate`: Keras divides a loss by all rows, padded ones too."""
        plan, steps = self._pipe._plan, self._steps
        if self._call.method != "evaluate" or not self._weights.masked or not steps or plan.kind != "indexed":
            return 1.0
        drawn = min(self._call.steps_per_epoch or steps, steps) * plan.batch_size
        real = plan.rows.length - plan.batches.left_out(plan.rows.length)
        return float(drawn / min(drawn, real))

    def _pipe_to_draw_from(self) -> Any:
        """The pipeline, placed as the distribution says that Keras is set to, which then has nothing left to move."""
        distribution = keras.distribution.distribution()
        if distribution is None:
            return self._pipe
        if self._placed[0] is not distribution:
            self._placed = (distribution, placed_for(self._pipe, self._spec, distribution))
        return self._placed[1]

    def _select(self, batch: Any, scale: float = 1.0) -> tuple[Any, ...]:
        batch = with_auto_axes(batch) if self._explicit else batch
        data = [pick(batch, keys) for keys in (self._x, self._y) if keys is not None]
        weight = self._weights(batch, scale)
        if weight is None:
            return tuple(data)
        return (*data, weight) if self._y is not None else (*data, None, weight)

    @property
    def num_batches(self) -> int | None:
        """Batches in an epoch; None where the pipeline does not know, and where `fit` was given `steps_per_epoch`."""
        call = current_call()
        if call.method == "fit" and call.steps_per_epoch:
            return None  # or Keras would stop at the end of an epoch of the pipeline, where the data goes on
        if self._steps is None or self._state is None:
            return self._steps
        return self._steps - self._state.step % self._steps

    @property
    def batch_size(self) -> int | None:
        """Examples in a batch; None where the last one is shorter."""
        size: int | None = jax.tree.leaves(pick(self._spec, self._x))[0].shape[0]
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
        self._call = call = current_call()
        if call.method in ("evaluate", "predict") and not self._allow_random:
            require_deterministic(self._pipe, call.method)
        if call.method != "fit":
            return
        self._epoch += 1
        if self._epoch and self._from is not None and self._from is self._state and not call.steps_per_epoch:
            raise RuntimeError(
                "to_keras(state=...) holds the rest of one epoch, and Keras asked for a second one: "
                "fit one epoch with it, and those after it with to_keras(start_epoch=...)"
            )

    def on_epoch_end(self) -> None:
        """The end of an epoch, or Keras starting over."""
        call = current_call()
        if call.starts and call.method == "fit":
            self._begin_fit()


class _Pass(Iterator[tuple[Any, ...]]):
    """What Keras iterates over.

    It holds the run of its `fit`. Keras asks for another pass at the end of an epoch, before it lets go of the last, so
    that the run goes on through the epochs, and ends with the `fit`.
    """

    def __init__(self, adapter: PipelineAdapter, run: Any) -> None:
        """Hold the run that is open; what is drawn, and from where, is settled with the first batch."""
        self._adapter, self._run = adapter, run
        self._batches: Iterator[tuple[Any, ...]] | None = None

    def __next__(self) -> tuple[Any, ...]:
        """The next batch."""
        if self._batches is None:
            self._run, self._batches = self._adapter._begin(self._run, ahead=is_drawn_ahead())
        try:
            return next(self._batches)
        except StopIteration:
            self._adapter._end(self._run)
            raise


def _no_run() -> None:
    return None


def _length(pipe: Any) -> int | None:
    """Batches of one epoch, where that is known."""
    try:
        return len(pipe)
    except TypeError:
        return None
