"""What a step takes at one batch size, put together: compiled, held beside it, on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tfjax.sizing.advice import data_advice, host_advice, step_advice
from tfjax.sizing.host import host_groups
from tfjax.sizing.memory import bytes_of_tree, devices_of
from tfjax.sizing.pipeline import bytes_beside, size_of, sized, spec_of
from tfjax.sizing.program import Program, compiled
from tfjax.sizing.report import Budget


def program_of(step: Callable[[Any, Any], Any], state: Any, pipe: Any, size: int) -> Program:
    """A step compiled for full batches of a size, and what the pipeline holds beside it."""
    batch = spec_of(pipe, size)
    return compiled(step, state, batch, bytes_beside(pipe, bytes_of_tree(batch)))


def budget_of(program: Program, state: Any, pipe: Any, size: int | None = None) -> Budget:
    """Its budget, at the pipeline's own batch size or the one that it was compiled for."""
    pipe = sized(pipe, size or size_of(pipe))
    devices = len(devices_of(program.batch, state))
    host = host_groups(pipe)
    return Budget(
        batch_size=size_of(pipe),
        device=program.groups,
        devices=devices,
        host=host,
        advice=(*data_advice(pipe), *step_advice(program, state, devices), *host_advice(sum(host.values()))),
    )
