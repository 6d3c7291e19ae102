"""A step compiled for shapes alone: what it takes of each device's memory, group by group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import jax

from tfjax.sizing.memory import bytes_of, bytes_of_tree

BATCH, OUTPUTS, TEMPORARY = "batch", "outputs", "activations and temporaries"
_SHOWN = 6  # groups of the state


@dataclass(frozen=True, kw_only=True)
class Program:
    """A compiled step.

    Attributes:
        run: takes state and batch.
        batch: what it was compiled for, a pytree of `jax.ShapeDtypeStruct`.
        groups: bytes on each device, by what they are for.
        donates: whether the state that it is given is gone afterwards.
        is_mixed: whether anything in it is computed in 16 bits.
    """

    run: Callable[[Any, Any], Any]
    batch: Any
    groups: Mapping[str, int]
    donates: bool
    is_mixed: bool

    @property
    def bytes(self) -> int:
        """On each device."""
        return sum(self.groups.values())


def compiled(step: Callable[..., Any], state: Any, batch: Any, beside: Mapping[str, int]) -> Program:
    """Compile a step for a state, and for batches as a spec describes them; nothing runs.

    Args:
        step: (state, batch) to anything, jitted or not.
        state: any pytree of arrays.
        batch: pytree of `jax.ShapeDtypeStruct`.
        beside: bytes on each device that are taken while it runs, by what they are for.

    Raises:
        ValueError: the backend does not say what a program takes.
    """
    lowered = _lowered(step, state, batch)
    program = lowered.compile()
    found = program.memory_analysis()
    if found is None:
        raise ValueError(f"{jax.default_backend()} does not say what a compiled step takes, so no size can be told")
    text = lowered.as_text()
    inputs = bytes_of_tree((state, batch))
    # Layouts that pad arguments, as those of a TPU do.
    padding = max(found.argument_size_in_bytes - inputs, 0)
    groups = {
        **_groups(state),
        BATCH: bytes_of_tree(batch),
        **beside,
        OUTPUTS: found.output_size_in_bytes - found.alias_size_in_bytes,
        TEMPORARY: found.temp_size_in_bytes + padding,
    }
    return Program(
        run=program,
        batch=batch,
        groups=groups,
        donates=any(info.donated for info in jax.tree.leaves(lowered.args_info)),
        is_mixed="xbf16>" in text or "xf16>" in text,
    )


def _lowered(step: Callable[..., Any], state: Any, batch: Any) -> jax.stages.Lowered:
    if isinstance(step, jax.stages.Wrapped):
        return step.lower(state, batch)
    traced = jax.jit(step).trace(state, batch)
    # A jitted function inside a plain one, such as that of `scan_steps`, would donate the state: so does the whole.
    if any(any(eqn.params.get("donated_invars", ())) for eqn in traced.jaxpr.eqns):
        return jax.jit(step, donate_argnums=0).lower(state, batch)
    return cast(jax.stages.Lowered, traced.lower())


def _groups(state: Any) -> dict[str, int]:
    """Bytes of a state by the first key of its leaves' paths, such as `.params`; the smallest ones together."""
    found: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        name = f"state{jax.tree_util.keystr(path[:1])}"
        found[name] = found.get(name, 0) + bytes_of(leaf)
    largest = sorted(found, key=lambda name: -found[name])
    kept = set(largest if len(largest) <= _SHOWN else largest[: _SHOWN - 1])
    groups = {name: size for name, size in found.items() if name in kept}
    rest = sum(size for name, size in found.items() if name not in kept)
    return {**groups, "rest of the state": rest} if rest else groups
