"""`find_batch_size` and `memory_budget`: of a step, over a pipeline."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from tfjax._arguments import require_call, require_count
from tfjax.sizing.advice import refusal, step_advice
from tfjax.sizing.budget import budget_of, program_of
from tfjax.sizing.memory import bytes_of_tree, devices_of, free_bytes, is_out_of_memory
from tfjax.sizing.pipeline import device_cache_bytes, parts_of, require_batched, size_of, spec_of, tiled, usable_rows
from tfjax.sizing.program import Program
from tfjax.sizing.report import Attempt, BatchSize, Budget
from tfjax.sizing.search import Sizes, largest
from tfjax.spec import format_bytes

Step = Callable[[Any, Any], Any]
"""(state, batch) to anything."""


def find_batch_size(
    step: Step,
    state: Any,
    pipe: Any,
    *,
    memory_fraction: float = 0.9,
    memory_bytes: int | None = None,
    multiple_of: int = 8,
) -> BatchSize:
    """The largest batch size with which a step fits into the memory of its devices.

    The step is compiled for shapes alone at a few sizes. The largest that fits by XLA's account is then run once, on a
    copy of the state and the first batch's rows, repeated; where memory runs out, the next lower one by an eighth is.

    Args:
        step: (state, batch) to anything: a train step, which may donate the state, or a forward function. A function
            that is not jitted is jitted here.
        state: any pytree of arrays, on the devices that it is trained on. It is not donated.
        pipe: a batched pipeline, whose batch size is the first that is compiled. Its placement says how batches are
            cut, and how many of them lie ready on the devices, which counts.
        memory_fraction: of each device's memory, what may be taken. The rest is for what is not counted: batches of
            steps that were dispatched ahead, fragments, other programs.
        memory_bytes: of each device, whatever is in use there, for planning; where it is not given, what JAX says is
            free, and what the state takes.
        multiple_of: what the rows on each device are a multiple of; where that does not fit, they are a power of two.

    Returns:
        A `BatchSize`, an int wherever one is taken, at most the examples of an epoch. `print` it for the sizes that
        were looked at, what the one that was found takes, by what it is for, and advice about dtypes.

    Raises:
        ValueError: not one row on each device fits: what it takes, and what would take less; a pipeline without
            `batch`; a number out of range; or the memory of a device is not known.
        TypeError: no function, no pipeline, or text in its batches.

    Example:
        >>> import jax.numpy as jnp, numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"x": np.zeros((4096, 256), np.float32)}).batch(32)
        >>> weights, forward = jnp.zeros((256, 256)), lambda weights, batch: jnp.tanh(batch["x"] @ weights)
        >>> found = tfjax.find_batch_size(forward, weights, pipe, memory_bytes=4 * 2**20)
        >>> found.batch_size % 8, found.budget.device_bytes <= 0.9 * 4 * 2**20
        (0, True)
        >>> pipe = tfjax.from_arrays({"x": np.zeros((4096, 256), np.float32)}).batch(found)
    """
    require_call("find_batch_size", step, ("state", "batch"), "give a step of a state and a batch")
    require_batched(pipe)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if isinstance(leaf, jax.Array) and leaf.is_deleted():
            name = jax.tree_util.keystr(path) or "array"
            raise ValueError(f"the state's {name} is gone, donated to a step: give the state that the step returned")
    if isinstance(memory_fraction, bool) or not isinstance(memory_fraction, float | int):
        raise TypeError(f"find_batch_size: memory_fraction is {memory_fraction!r}: pass a number above 0, at most 1")
    if not 0 < memory_fraction <= 1:
        raise ValueError(f"find_batch_size: memory_fraction is {memory_fraction}: pass a number above 0, at most 1")
    if memory_bytes is not None:
        memory_bytes = require_count("find_batch_size: memory_bytes", memory_bytes, least=1)
    multiple_of = require_count("find_batch_size: multiple_of", multiple_of, least=1)
    sizes = Sizes(parts=parts_of(pipe), multiple_of=multiple_of, most=usable_rows(pipe))
    if sizes.most is not None and sizes.most < sizes.parts:
        raise ValueError(f"{sizes.most} examples in an epoch are no batch for {sizes.parts} devices: use fewer devices")
    first = jax.tree.map(np.asarray, pipe.peek())  # also fills a cache on the devices, before they are asked
    free = free_bytes(devices_of(spec_of(pipe, sizes.parts), state))
    if memory_bytes is None and free is None:
        raise ValueError("the devices do not say how much memory they have: give memory_bytes=")
    there = memory_bytes or (free or 0) + bytes_of_tree(state) + device_cache_bytes(pipe)
    search = _Search(step=step, state=state, pipe=pipe, first=first, free=free, limit=int(there * memory_fraction))
    return search.run(sizes, f"memory ({memory_fraction:g} of {format_bytes(there)})")


def memory_budget(step: Step, state: Any, pipe: Any) -> Budget:
    """What a step takes of devices and host, by what it is for, at the pipeline's own batch size; nothing is run.

    Args:
        step: as in `find_batch_size`.
        state: any pytree of arrays.
        pipe: a batched pipeline.

    Returns:
        A `Budget`; `print` it for a table, with advice.

    Raises:
        ValueError: a pipeline without `batch`.
        TypeError: no function, no pipeline, or text in its batches.

    Example:
        >>> import jax.numpy as jnp, numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"x": np.zeros((512, 256), np.float32)}).batch(128)
        >>> weights, forward = jnp.zeros((256, 256)), lambda weights, batch: jnp.tanh(batch["x"] @ weights)
        >>> tfjax.memory_budget(forward, weights, pipe).device
        {'state': 262144, 'batch': 131072, 'prefetched batches (2)': 262144, 'outputs': 131072, ...}
    """
    require_call("memory_budget", step, ("state", "batch"), "give a step of a state and a batch")
    require_batched(pipe)
    return budget_of(program_of(step, state, pipe, size_of(pipe)), state, pipe, size_of(pipe))


@dataclass(kw_only=True)
class _Search:
    """One call of `find_batch_size`."""

    step: Step
    state: Any
    pipe: Any
    first: Any
    free: int | None
    limit: int
    attempts: dict[int, Attempt] = field(default_factory=dict)
    programs: dict[int, Program] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def run(self, sizes: Sizes, limited_by: str) -> BatchSize:
        """The size that was found.

        Raises:
            ValueError: none fits.
        """
        found = largest(self._measure, self.limit, sizes, size_of(self.pipe), expected=self._expect)
        if not found:
            raise ValueError(self._refusal(sizes.parts, self.limit))
        if sizes.most is not None and found == sizes.at_most(sizes.most):
            limited_by = f"an epoch, which fills no batch over {sizes.most}"
        while not self._runs(found):
            limited_by = "what ran"
            found = sizes.at_most(found * 7 // 8) or sizes.below(found)
            if not found:
                raise ValueError(self._refusal(sizes.parts, self.limit))
            if found not in self.programs:
                self._measure(found)
        return BatchSize(
            batch_size=found,
            limit_bytes=self.limit,
            limited_by=limited_by,
            attempts=tuple(self.attempts.values()),
            budget=budget_of(self.programs[found], self.state, self.pipe, found),
            notes=tuple(self.notes),
        )

    def _expect(self, size: int, predicted: float | None) -> None:
        expected = None if predicted is None else int(predicted)
        self.attempts[size] = Attempt(size=size, predicted=expected, compiled=None, fits=False)

    def _measure(self, size: int) -> float:
        """Bytes on each device at a size; infinite where XLA finds while compiling that it is too much."""
        attempt = self.attempts.get(size) or Attempt(size=size, predicted=None, compiled=None, fits=False)
        self.attempts[size] = attempt
        try:
            found = self.programs[size] = program_of(self.step, self.state, self.pipe, size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return math.inf
        self.attempts[size] = replace(attempt, compiled=found.bytes, fits=found.bytes <= self.limit)
        return found.bytes

    def _runs(self, size: int) -> bool:
        """Whether one step runs at a size; True too where this machine has not the memory to find out."""
        program = self.programs[size]
        held, batch = bytes_of_tree(self.state), bytes_of_tree(program.batch)
        # The caller's state and cached rows are there already; the state that a step donates is a copy.
        ahead = self.pipe._prefetch
        needs = program.bytes - device_cache_bytes(self.pipe) - ahead * batch - (0 if program.donates else held)
        if self.free is not None and needs > self.free:
            left = f"{format_bytes(needs)} of each device, and {format_bytes(self.free)} are free"
            self.notes.append(f"not run: with a copy of the state that takes {left}")
            return True
        if self.free is not None and batch:
            ahead = min(ahead, (self.free - needs) // batch)
        try:
            jax.block_until_ready(self._run(program, ahead))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self.attempts[size] = replace(self.attempts[size], trial="out of memory")
            return False
        self.attempts[size] = replace(self.attempts[size], trial="ran")
        return True

    def _run(self, program: Program, ahead: int) -> Any:
        """One step, beside as many batches as are held ready for the next ones."""
        batch, *held = (tiled(self.first, program.batch) for _ in range(1 + ahead))
        state = jax.tree.map(_copy, self.state) if program.donates else self.state
        out = jax.block_until_ready(program.run(state, batch))
        del held
        return out

    def _refusal(self, parts: int, limit: int) -> str:
        size = min(self.attempts)
        program = self.programs.get(size)
        devices = len(devices_of(program.batch, self.state)) if program else parts
        lines = step_advice(program, self.state, devices) if program else []
        return refusal(program, size, parts, limit, lines)


def _copy(leaf: Any) -> Any:
    return jax.device_put(leaf, leaf.sharding, may_alias=False) if isinstance(leaf, jax.Array) else leaf
