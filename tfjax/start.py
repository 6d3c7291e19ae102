"""The start of a run: what `iterate(...)` was given, checked, and the iterator over it."""

from __future__ import annotations

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
from tfjax.graph.stream import StreamPlan
from tfjax.iterator import BatchIterator
from tfjax.state import State, check_same, fingerprint, warn_differences

_LIBRARIES = ("tfjax", "jax", "tensorflow", "tensorflow-cpu", "tensorflow-datasets")


def start(
    pipe: ChainNode, *, state: State | str | None, values: Mapping[str, float] | None, **totals: Any
) -> BatchIterator:
    """Begin or resume a run; see `Pipeline.iterate`."""
    plan = pipe._plan
    if values is not None and not isinstance(values, Mapping):
        raise TypeError(f"values is {values!r}: pass a dict of name to number")
    if values:
        raise ValueError(f"values: no op of this pipeline uses {', '.join(map(repr, values))}: leave values out")
    if isinstance(state, str):
        state = State.from_json(state)
    if state is not None and not isinstance(state, State):
        raise TypeError(f"state is a {type(state).__name__}: pass a State, or its JSON as text")
    if state is not None and state.values:
        raise StateMismatchError(f"the state has values {dict(state.values)}, and no op of this pipeline uses any")
    position = None if state is None else (state.start_epoch, state.step)
    run = run_of(plan.steps_per_epoch, position=position, endless=plan.is_endless, **totals)
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
            values={},
            versions=_versions(),
            probe=pipe._probe,
        )

    if isinstance(plan, StreamPlan) and (plan.resume == "checkpoint" or plan.marks(run)):
        delivery, checkpoint = pipe._delivery, None if state is None else state.checkpoint
        plan.check()
        reading = StreamReading(plan, run, narrow=narrows(), checkpoint=checkpoint)
        return StreamIterator(plan, delivery, run, make_state, prefetch=pipe._prefetch, reading=reading)
    return BatchIterator(plan, pipe._delivery, run, make_state, prefetch=pipe._prefetch)


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


def to_tf(pipe: ChainNode, epochs: int) -> Any:
    """The planned graph; see `Pipeline.to_tf`."""
    plan = pipe._plan
    plan.check()
    run = run_of(plan.steps_per_epoch, epochs=epochs, steps=None, forever=False, start_epoch=None, position=None)
    return structured(plan, run)


@functools.cache
def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # TensorFlow goes by two names, and some are optional
            continue
    return found
