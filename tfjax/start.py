"""The start of a run: what `iterate(...)` was given, checked, and the iterator over it."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
from collections.abc import Mapping
from typing import Any

from tfjax._chain import ChainNode
from tfjax._streaming import StreamIterator
from tfjax.bridge.reader import structured
from tfjax.bridge.stream_reader import StreamReading
from tfjax.bridge.tensor import narrows
from tfjax.errors import StateMismatchError
from tfjax.graph.plan import Plan
from tfjax.graph.run import run_of
from tfjax.graph.stages import Map
from tfjax.graph.stream import StreamPlan
from tfjax.iterator import BatchIterator
from tfjax.ops.strength import Value, is_number
from tfjax.state import State, check_same, fingerprint, warn_differences

_LIBRARIES = ("tfjax", "jax", "tensorflow", "tensorflow-cpu", "tensorflow-datasets")


def start(
    pipe: ChainNode, *, state: State | str | None, values: Mapping[str, float] | None, **totals: Any
) -> BatchIterator:
    """Begin or resume a run; see `Pipeline.iterate`."""
    plan = pipe._plan
    if isinstance(state, str):
        state = State.from_json(state)
    if state is not None and not isinstance(state, State):
        raise TypeError(f"state is a {type(state).__name__}: pass a State, or its JSON as text")
    numbers = _values(pipe, values, state)
    position = None if state is None else (state.start_epoch, state.step)
    run = run_of(plan.steps_per_epoch, position=position, endless=plan.is_endless, **totals)
    run = dataclasses.replace(run, values=numbers)
    if plan.steps_per_epoch == 0:
        raise ValueError(f"{pipe!r} has nothing to iterate over: an epoch has 0 steps")
    parts = functools.cache(lambda: fingerprint(pipe._parts))
    if state is not None:
        _check_kind(state, plan)
        check_same(state, parts(), pipe._parts)
        warn_differences(state, _versions(), pipe._probe)

    def make_state(step: int) -> State:
        return State(
            step=step,
            start_epoch=run.start_epoch,
            parts=parts(),
            values=numbers,
            versions=_versions(),
            probe=pipe._probe,
        )

    if isinstance(plan, StreamPlan) and (plan.resume == "checkpoint" or plan.marks(run)):
        delivery, checkpoint = pipe._delivery, None if state is None else state.checkpoint
        plan.check()
        reading = StreamReading(plan, run, narrow=narrows(), checkpoint=checkpoint)
        return StreamIterator(plan, delivery, run, make_state, prefetch=pipe._prefetch, reading=reading)
    return BatchIterator(plan, pipe._delivery, run, make_state, prefetch=pipe._prefetch)


def _values(pipe: ChainNode, values: Mapping[str, float] | None, state: State | None) -> dict[str, float]:
    """The named numbers of a run: those given, else those of the state that it resumes from.

    Raises:
        StateMismatchError: a state holds one that no op uses.
        TypeError: no mapping, or what is no number.
        ValueError: one that no op uses.
    """
    if values is not None and not isinstance(values, Mapping):
        raise TypeError(f"values is {values!r}: pass a dict of name to number")
    used = {s.name for stage in pipe._chain if isinstance(stage, Map) for s in stage.strengths if isinstance(s, Value)}
    kept = {} if state is None else dict(state.values)
    if unknown := kept.keys() - used:
        raise StateMismatchError(f"the state has a value {min(unknown)!r}, which no op of this pipeline uses")
    for name, number in (values or {}).items():
        if name not in used:
            there = f"those used are {', '.join(map(repr, sorted(used)))}" if used else "leave values out"
            raise ValueError(f"values: no op of this pipeline uses {name!r}: {there}")
        if not is_number(number) and not hasattr(number, "__float__"):
            raise TypeError(f"values: {name!r} is {number!r}: pass a number")
    return kept | {name: float(number) for name, number in (values or {}).items()}


def _check_kind(state: State, plan: Plan) -> None:
    """Raise StateMismatchError where a state has a checkpoint that the pipeline has no use for, or lacks one."""
    checkpoints = isinstance(plan, StreamPlan) and plan.resume == "checkpoint"
    if checkpoints and state.checkpoint is None:
        raise StateMismatchError(
            "the state holds no checkpoint, and this pipeline is from_tf(..., state='checkpoint'): resume it with "
            "state='replay', as the pipeline that the state came from"
        )
    if not checkpoints and state.checkpoint is not None:
        raise StateMismatchError(
            f"the state holds a checkpoint of {len(state.checkpoint)} bytes, which this pipeline has no use for: "
            "resume it with from_tf(..., state='checkpoint'), as the pipeline that the state came from"
        )


def to_tf(pipe: ChainNode, epochs: int, values: Mapping[str, float] | None) -> Any:
    """The planned graph; see `Pipeline.to_tf`."""
    plan, numbers = pipe._plan.on_host, _values(pipe, values, None)
    plan.check()
    run = run_of(plan.steps_per_epoch, epochs=epochs, steps=None, forever=False, start_epoch=None, position=None)
    return structured(plan, dataclasses.replace(run, values=numbers))


@functools.cache
def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # TensorFlow goes by two names, and some are optional
            continue
    return found
