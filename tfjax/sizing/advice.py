"""What would take less memory, said where it would matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from tfjax.bridge.leaf import Leaf, leaves_of
from tfjax.sizing.host import leaf_bytes
from tfjax.sizing.memory import bytes_of_tree
from tfjax.sizing.program import OUTPUTS, TEMPORARY, Program
from tfjax.spec import format_bytes
from tfjax.tools.doctor.machine import available_bytes

_MUCH = 1 / 4  # of all that a device holds, or of a batch


def data_advice(pipe: Any) -> list[str]:
    """About the dtypes of batches on the host."""
    leaves = leaves_of(pipe._plan)
    total = sum(map(leaf_bytes, leaves)) or 1
    large = [leaf for leaf in leaves if leaf_bytes(leaf) / total >= _MUCH]
    images = [
        f"{leaf.path} are {leaf.dtype.name} on the host: leave images in uint8 there and normalise them in device_map "
        f"(tfjax.on_device.normalize), which takes {leaf.dtype.itemsize}x less of host memory, caches and transfers"
        for leaf in large
        if _are_images(leaf) and leaf.dtype.itemsize > 1
    ]
    wide = [
        f"{leaf.path} is {leaf.was} until it leaves the graph as {leaf.dtype.name}: cast it in map, for half of its "
        "bytes in caches and in the graph"
        for leaf in large
        if leaf.was
    ]
    return images + wide


def _are_images(leaf: Leaf) -> bool:
    return len(leaf.shape) - leaf.stacked == 4 and leaf.shape[-1] in (1, 3, 4)


def host_advice(needed: int) -> list[str]:
    """About what the pipeline may take of the host."""
    there = available_bytes()
    if there is None or needed <= there:
        return []
    return [
        f"the host has {format_bytes(there)} left, and the pipeline may take {format_bytes(needed)}: "
        "options(parallel_calls=, prefetch_batches=) or options(ram_budget_bytes=) lower it"
    ]


def step_advice(program: Program, state: Any, devices: int) -> list[str]:
    """About what the compiled step takes of each device."""
    held, temporary, total = bytes_of_tree(state), program.groups[TEMPORARY], program.bytes
    lines = []
    if temporary >= _MUCH * total and not program.is_mixed and _is_float32(state):
        lines.append(
            "all is computed in float32: bfloat16 halves the activations (create_state(..., precision='bfloat16'))"
        )
    if program.donates and temporary >= total / 2:
        lines.append(
            f"activations and temporaries are {temporary / total:.0%}: train_step(..., remat=True) computes them "
            "again, accumulate=k takes a batch in k parts"
        )
    if not program.donates and program.groups[OUTPUTS] >= held > _MUCH * total:
        lines.append(
            f"the state is not donated: where the step returns a new one, jax.jit(step, donate_argnums=0) saves "
            f"{format_bytes(held)}"
        )
    if devices > 1 and held > total / 2 and all(_is_whole(leaf) for leaf in jax.tree.leaves(state)):
        lines.append(
            f"each of {devices} devices holds the whole state, {held / total:.0%}: create_state(..., sharding='fsdp') "
            "cuts it"
        )
    return lines


def refusal(program: Program | None, size: int, parts: int, limit: int, lines: Sequence[str]) -> str:
    """What to say where not even the smallest size fits, or runs."""
    each = "" if parts == 1 else f", one row on each of {parts} devices,"
    taken = "more than XLA finds room for" if program is None else _shown(program)
    fix = "; ".join(lines) or "take a smaller model, devices with more memory, or a larger memory_fraction"
    return f"not even a batch of {size}{each} fits: it takes {taken}, and {format_bytes(limit)} may be taken: {fix}"


def _shown(program: Program) -> str:
    groups = sorted(program.groups.items(), key=lambda group: -group[1])
    shown = ", ".join(f"{name} {format_bytes(size)}" for name, size in groups if size)
    return f"{format_bytes(program.bytes)} of each device ({shown})"


def _is_float32(state: Any) -> bool:
    return any(getattr(leaf, "dtype", None) == "float32" for leaf in jax.tree.leaves(state))


def _is_whole(leaf: Any) -> bool:
    return not isinstance(leaf, jax.Array) or leaf.sharding.is_fully_replicated
