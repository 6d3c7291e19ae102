"""Several training steps in one dispatch, over the stacks of batches that `Pipeline.stack` makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from tfjax._arguments import require_call, require_count
from tfjax.errors import SpecError
from tfjax.spec import format_like

Step = Callable[[Any, Any], tuple[Any, Any]]
"""(state, batch) to (new state, metrics)."""


def scan_steps(step: Step, k: int) -> Step:
    """A jitted function of a state and a stack of batches: `step` on each, one after the other, by `jax.lax.scan`.

    Python and the dispatch are paid once a stack, which is most of the time of a small step. The parameters are those
    of k single steps to float tolerance, since XLA may fuse the body of a loop otherwise than a step alone: on CPU,
    dense layers gave the same bits, and the parameters of small convolutions differed by 3e-7 after 18 steps of Adam.
    The loop is not unrolled: that compiles for as many times longer, and was not measured faster.

    Args:
        step: (state, batch) to (new state, metrics), jitted or not, such as `tfjax.frameworks.linen.train_step(...)`.
            The state is any pytree whose arrays keep shape and dtype; leaves that are no arrays (functions, Python
            numbers) are held fixed. Metrics are arrays.
        k: the most batches of a stack, as in `pipe.stack(k)`. A shorter last one is compiled once more.

    Returns:
        A function (state, stack) to (new state, metrics), each metric with a leading dimension of the stack. The
        state that it is given is donated.

    Raises:
        SpecError: when called: leaves that are no stack of batches, or a longer one.
        TypeError: when called: `step` changes a leaf of the state that is no array, or a dtype or shape.

    Example:
        >>> import jax.numpy as jnp, numpy as np, tfjax
        >>> def step(weight, batch):
        ...     loss, slope = jax.value_and_grad(lambda w: jnp.mean((w * batch["x"] - 3) ** 2))(weight)
        ...     return weight - 0.1 * slope, {"loss": loss}
        >>> pipe = tfjax.from_arrays({"x": np.ones(64, np.float32)}).batch(4).stack(8)
        >>> train, weight = tfjax.scan_steps(step, k=8), jnp.zeros(())
        >>> for stack in pipe:
        ...     weight, metrics = train(weight, stack)
        >>> metrics["loss"].shape, round(float(weight), 1)
        ((8,), 2.9)
    """
    require_call("scan_steps", step, ("state", "batch"), "give a step of a state and a batch to both anew")
    require_count("scan_steps: k", k, least=1)

    def run(fixed: _Fixed, arrays: list[Any], stack: Any) -> tuple[list[Any], Any]:
        def one(arrays: list[Any], batch: Any) -> tuple[list[Any], Any]:
            made = step(fixed.joined(arrays), batch)
            if not isinstance(made, tuple) or len(made) != 2:
                raise TypeError(
                    f"step returned a {type(made).__name__}: scan_steps takes steps to (new state, metrics)"
                )
            return fixed.arrays(made[0]), made[1]

        return jax.lax.scan(one, arrays, stack)

    compiled = jax.jit(run, static_argnums=0, donate_argnums=1)

    def scanned(state: Any, stack: Any) -> tuple[Any, Any]:
        _require_stack(stack, k)
        fixed = _Fixed.of(state)
        arrays, metrics = compiled(fixed, fixed.arrays(state), stack)
        return fixed.joined(arrays), metrics

    return scanned


@dataclass(frozen=True)
class _Fixed:
    """What of a state is no array: its structure, and the leaves, with `_ARRAY` in place of an array."""

    structure: Any
    leaves: tuple[Any, ...]

    @classmethod
    def of(cls, state: Any) -> _Fixed:
        leaves, structure = jax.tree.flatten(state)
        return cls(structure, tuple(_ARRAY if _is_array(leaf) else leaf for leaf in leaves))

    def joined(self, arrays: list[Any]) -> Any:
        left = iter(arrays)
        return self.structure.unflatten(next(left) if leaf is _ARRAY else leaf for leaf in self.leaves)

    def arrays(self, state: Any) -> list[Any]:
        """The arrays of a state of this structure.

        Raises:
            TypeError: it has another structure, or another leaf that is no array.
        """
        pairs, structure = jax.tree_util.tree_flatten_with_path(state)
        if structure != self.structure:
            raise TypeError(f"step returns a state of another structure: {structure}, and was given {self.structure}")
        for (path, leaf), fixed in zip(pairs, self.leaves, strict=True):
            if fixed is not _ARRAY and (_is_array(leaf) or leaf != fixed):
                raise TypeError(
                    f"the state's {jax.tree_util.keystr(path) or 'only leaf'} is {fixed!r}, which step changes: only "
                    "arrays change in a scan, so make it one with jnp.asarray"
                )
        return [leaf for (_, leaf), fixed in zip(pairs, self.leaves, strict=True) if fixed is _ARRAY]


class _Array:
    """Stands for an array."""


_ARRAY = _Array()


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _require_stack(stack: Any, k: int) -> None:
    leaves = jax.tree.leaves(stack)
    if not leaves or not all(_is_array(leaf) and leaf.ndim > 1 for leaf in leaves):
        raise SpecError(
            f"scan_steps takes leaves of shape (k, batch, ...), given {_shown(stack) or stack}: put stack({k}) after "
            "batch"
        )
    lengths = {leaf.shape[0] for leaf in leaves}
    if len(lengths) > 1:
        raise SpecError(f"scan_steps takes one number of batches for all leaves, given {_shown(stack)}")
    if max(lengths) > k:
        raise SpecError(f"scan_steps(step, k={k}) was given {max(lengths)} batches ({_shown(stack)}): use stack({k})")


def _shown(stack: Any) -> str:
    """Each leaf with its path, in one line."""
    return ", ".join(
        f"{jax.tree_util.keystr(path) or 'the batch'}: {format_like(leaf) if _is_array(leaf) else type(leaf).__name__}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(stack)
    )
