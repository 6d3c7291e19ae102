"""A loss that is not finite: which step, which examples, and what becomes of the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from tfjax.errors import TfjaxError
from tfjax.training.step import Step, loss_of, require_pair

NonFinite = Literal["raise", "skip", "stop"]


class NonFiniteLossError(TfjaxError, FloatingPointError):
    """The loss of a step is NaN or infinite.

    Args:
        step: of the run, counted from 1: the update of the parameters that would have been.
        examples: the indices in their source of the examples whose own loss is not finite, or of the whole batch where
            the step returned no "losses"; None for a streaming pipeline, whose examples have no index.
        text: the message.
    """

    def __init__(self, text: str, *, step: int, examples: Sequence[int] | None) -> None:
        """See the class."""
        super().__init__(text)
        self.step, self.examples = step, examples


def require_policy(policy: str) -> None:
    """Raise ValueError for an unknown one."""
    if policy not in get_args(NonFinite):
        raise ValueError(f"nonfinite={policy!r}: choose one of {', '.join(map(repr, get_args(NonFinite)))}")


def guarded(step: Step, policy: NonFinite) -> Step:
    """A jitted step that gives back the state as it was where the loss is not finite."""

    def kept(state: Any, batch: Any) -> tuple[Any, Any]:
        returned = step(state, batch)
        require_pair(returned, state)
        new, metrics = returned
        finite = jnp.all(jnp.isfinite(loss_of(metrics)))
        return jax.tree.map(lambda after, before: jnp.where(finite, after, before), new, state), metrics

    compiled: Step = jax.jit(kept, donate_argnums=0)

    def guard(state: Any, batch: Any) -> tuple[Any, Any]:
        try:
            return compiled(state, batch)
        except TypeError as error:
            error.add_note(
                f"nonfinite={policy!r} runs the step under jax.jit: it is traced, and its state is of arrays"
            )
            raise

    return guard


def error_at(step: int, loss: float, losses: np.ndarray | None, examples: np.ndarray | None) -> Exception:
    """The error for a loss that is not finite.

    Args:
        step: of the run, counted from 1.
        loss: of the batch.
        losses: those of its rows, one or several each; or None. Others say nothing of examples.
        examples: (batch,) the indices of its examples, -1 for padding; or None.
    """
    if losses is not None and examples is not None and (losses.size == 0 or losses.size % examples.size):
        losses = None
    which, shown = "which examples is not known, as this pipeline streams", None
    if examples is not None:
        real = examples >= 0
        bad = real if losses is None else real & ~np.isfinite(losses).reshape(len(real), -1).all(axis=1)
        whose = "whose own loss is not finite" if losses is not None and bad.any() else "of its batch"
        shown = examples[bad if bad.any() else real].tolist()
        few = ", ".join(map(str, shown[:8])) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")
        which = f"the examples {whose} have the indices {few}"
        if losses is not None and (bad == real).all():
            which += " (all of the batch: the parameters are not finite already; the learning rate may be too high)"
    text = (
        f"the loss of step {step} is {loss}: {which}. Look at them with pipe[i] before shuffle and batch; or give fit "
        "nonfinite='skip', which leaves such updates out, or 'stop'"
    )
    return NonFiniteLossError(text, step=step, examples=shown)
