"""Whether a run can be stopped anywhere and resumed exactly."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tfjax._arguments import require_count
from tfjax.pipeline import Pipeline
from tfjax.state import State
from tfjax.testing._checks import require_pipeline
from tfjax.testing.exact import exact

_EVERY_STEP_UP_TO = 24
_EVENLY = 9


_END = object()


@dataclass(frozen=True)
class _Record:
    """An uninterrupted run: what it delivered, and the epoch before each batch and at the end, None if unknown."""

    batches: list[Any]
    epochs: list[int | None]


def assert_resumes_anywhere(
    pipe: Pipeline,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    at: Iterable[int] | None = None,
    compare: Callable[[Any, Any], None] = exact,
) -> None:
    """A run that is stopped and resumed through JSON delivers what the uninterrupted one does, to its end.

    It is run twice, and then resumed from states of the second run. The batches of a run are held at once: test a
    pipeline of large batches with few `steps`.

    Args:
        pipe: any pipeline, indexed or streaming. A shuffle without a seed inside of a `tf.data.Dataset` is found to be
            another one in each run.
        epochs: total epochs of the run; 2 where neither it nor `steps` is given.
        steps: total batches of the run instead, e.g. for a stream without an end.
        at: the steps to resume from, batches delivered before. None: every one of a run of up to 24 batches; of a
            longer one the first and last two, those around the end of its first epoch, and some between.
        compare: called with the expected and the delivered batch; raises AssertionError where they differ.

    Raises:
        AssertionError: a batch, or the number of batches, or a counter differs; names the step at which the run was
            resumed, the step that differs, the key path and the first value.
        ValueError: a step of `at` lies outside of the run, `at` is empty, or both `epochs` and `steps` are given.
        TypeError: no Pipeline.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"x": np.arange(10)}).shuffle(seed=0).batch(3)
        >>> tfjax.testing.assert_resumes_anywhere(pipe, epochs=3)
    """
    require_pipeline("assert_resumes_anywhere", pipe, "iterate")
    if epochs is not None and steps is not None:
        raise ValueError(f"assert_resumes_anywhere takes epochs or steps, given epochs={epochs!r} and steps={steps!r}")
    at = None if at is None else list(at)
    if at == []:
        raise ValueError("assert_resumes_anywhere: at is empty, so that nothing would be tested: leave it out")
    total: dict[str, Any] = {"epochs": 2 if epochs is None else epochs} if steps is None else {"steps": steps}
    record = _uninterrupted(pipe, total)
    asked = _sample(record) if at is None else {require_count("assert_resumes_anywhere: at", s, least=0) for s in at}
    if max(asked) > len(record.batches):
        raise ValueError(f"assert_resumes_anywhere: at holds {max(asked)}: the run has {len(record.batches)} batches")
    with _told("run a second time"), pipe.iterate(**total) as run:
        states = _check_rest(run, record, compare, asked)
    for step, text in states.items():
        with _told(f"resumed at step {step} of {len(record.batches)}"), pipe.iterate(**total, state=text) as run:
            _check_same_state(run.state, State.from_json(text))
            _check_rest(run, record, compare)


def _uninterrupted(pipe: Pipeline, total: dict[str, Any]) -> _Record:
    record = _Record([], [])
    with pipe.iterate(**total) as run:
        while True:
            record.epochs.append(_epoch(run))
            batch = next(run, _END)
            if batch is _END:
                return record
            record.batches.append(batch)


def _sample(record: _Record) -> set[int]:
    """The steps to resume from."""
    count, epochs = len(record.batches), record.epochs
    if count <= _EVERY_STEP_UP_TO:
        return set(range(count + 1))
    end = next((i for i, e in enumerate(epochs) if e != epochs[0]), count)
    evenly = (count * i // _EVENLY for i in range(_EVENLY))
    return {s for s in (0, 1, end - 1, end, end + 1, count - 1, count, *evenly) if s <= count}


@contextlib.contextmanager
def _told(when: str) -> Iterator[None]:
    """Say in the message of an AssertionError when it came up."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{when}: {error}") from error


def _check_same_state(given: State, expected: State) -> None:
    names = ("step", "start_epoch", "parts")
    if any(getattr(given, name) != getattr(expected, name) for name in names):
        raise AssertionError(f"the state is {given.to_json()}, expected {expected.to_json()}")


def _check_rest(
    run: Any, record: _Record, compare: Callable[[Any, Any], None], asked: Container[int] = ()
) -> dict[int, str]:
    """The batches of a run, to its end, and the counters before each; returns the states at the steps asked for."""
    count, states = len(record.batches), {}
    for step in range(run.step, count + 1):
        _check_counters(run, step, record.epochs[step])
        if step in asked:
            states[step] = run.state.to_json()
        batch = next(run, _END)
        if (batch is _END) != (step == count):
            raise AssertionError(f"the run {'ended' if batch is _END else 'went on'} after {step} of {count} batches")
        if step < count:
            with _told(f"batch {step}"):
                compare(record.batches[step], batch)
    return states


def _check_counters(run: Any, step: int, epoch: int | None) -> None:
    given = (run.step, _epoch(run))
    if given != (step, epoch):
        raise AssertionError(f"step and epoch are {given[0]} and {given[1]}, expected {step} and {epoch}")


def _epoch(run: Any) -> int | None:
    try:
        return run.epoch  # type: ignore[no-any-return]
    except TypeError:  # a stream whose epochs are of unknown length
        return None
