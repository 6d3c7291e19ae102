"""The state of training, the same for every framework: what a checkpoint holds and a step takes and gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import jax
import jax.numpy as jnp
import optax

from tfjax._arguments import require_seed
from tfjax.frameworks._batch import Inputs, Keys, described, input_spec, keys_of
from tfjax.frameworks._layout import Layout, Rule, constrained, laid_out
from tfjax.frameworks._precision import LossScale, Precision, first_scale, require_precision


class Functional(Protocol):
    """A framework's model as a pure function of its values. Equal ones share a compiled step."""

    def apply(self, params: Any, model_state: Any, x: Any, key: jax.Array | None, *, train: bool) -> tuple[Any, Any]:
        """The outputs for a batch of inputs, and the model's new state; `key` is given where it is trained."""
        ...

    def __hash__(self) -> int:
        """It is a static part of the state."""
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class TrainState:
    """Everything that training changes, as one pytree; what it does not change is static.

    Args:
        params: the trained parameters, in the framework's own structure.
        model_state: what the model changes itself: batch statistics, random streams, caches; empty where there is none.
        opt_state: the optimizer's.
        step: updates so far, int32 ().
        key: uint32 (2,): with the step, where the random keys of a step (dropout) come from.
        scale: the loss scale of float16; None for other precisions.
        model: the model as a function of `params` and `model_state`.
        optimizer: any optax transformation.
        precision: what the model computes in.
        inputs: keys, dtypes and shapes of the inputs that the model was created for.
        layout: where each leaf lies, where that is a mesh.
    """

    params: Any
    model_state: Any
    opt_state: optax.OptState
    step: jax.Array
    key: jax.Array
    scale: LossScale | None = None
    model: Functional = field(metadata={"static": True})
    optimizer: optax.GradientTransformation = field(metadata={"static": True})
    precision: Precision = field(default="float32", metadata={"static": True})
    inputs: Inputs = field(default=(), metadata={"static": True})
    layout: Layout | None = field(default=None, metadata={"static": True})

    def replace(self, **changes: Any) -> Self:
        """The same with other values, such as parameters that were trained before."""
        return replace(self, **changes)

    def apply_gradients(self, grads: Any) -> Self:
        """The state after one update of the optimizer; call it under jit."""
        updates, opt_state = self.optimizer.update(grads, self.opt_state, self.params)
        params = optax.apply_updates(self.params, updates)
        new: Self = constrained(self.replace(params=params, opt_state=opt_state, step=self.step + 1))
        return new


Make = Callable[[Any, jax.Array], tuple[Functional, Any, Any]]
"""(spec of a batch of one example's inputs, PRNG key) to the model and its first values."""


def require_state(state: Any) -> None:
    """Raise TypeError for anything but a `TrainState`."""
    if not isinstance(state, TrainState):
        raise TypeError(f"the state is a {type(state).__name__}: give what create_state or a train step returned")


def model_of(state: Any, kind: type) -> Any:
    """The model of a framework's state, or TypeError where it is another's, or no state."""
    require_state(state)
    if not isinstance(state.model, kind):
        here, there = (name.__module__ for name in (kind, type(state.model)))
        raise TypeError(f"{here}.to_model was given a state of {there}: use {there}.to_model")
    return state.model


def create(
    make: Make,
    optimizer: optax.GradientTransformation,
    spec: Any,
    seed: int,
    *,
    x: Keys,
    precision: Precision = "float32",
    sharding: str | Rule | None = None,
) -> TrainState:
    """What each framework's `create_state` does with the model that it made.

    Raises:
        KeyError: `x` is no key of `spec`.
        TypeError: no optax transformation, no integer seed, or a pipeline in place of its spec.
        ValueError: `spec` has no batch dimension, or an unknown precision or sharding.
    """
    require_precision(precision)
    seed = require_seed("create_state", seed)
    if isinstance(optimizer, type) or not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(f"optimizer is {optimizer!r}: give an optax transformation, such as optax.adam(1e-3)")
    if hasattr(spec, "spec"):
        raise TypeError(f"spec is a {type(spec).__name__}: give its .spec")
    if not keys_of(x):
        raise ValueError(f"x={x!r} names no inputs: give a key of the batch, or a tuple or dict of keys")
    inputs = input_spec(spec, x)
    try:
        model, params, model_state = make(inputs, jax.random.key(seed))
    except Exception as error:
        shown = ", ".join(f"{key!r}{path}: {what}" for key, path, what in described(spec, keys_of(x)))
        error.add_note(
            f"raised while create_state made the model for examples of {shown}; of a pipeline that stacks or does not "
            "batch, give the spec of the batches themselves"
        )
        raise
    if not jax.tree.leaves(params):
        raise ValueError("the model has no parameters, so there is nothing to train: give one whose layers make some")
    state = TrainState(
        params=params,
        model_state=model_state,
        opt_state=optimizer.init(jax.tree.map(jnp.copy, params)),  # some keep them, and a step donates both
        step=jnp.zeros((), jnp.int32),  # with an int the first step would be compiled twice
        key=jax.random.key_data(jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), 1)),
        scale=first_scale() if precision == "float16" else None,
        model=model,
        optimizer=optimizer,
        precision=precision,
        inputs=described(spec, keys_of(x)),
    )
    placed: TrainState = laid_out(state, spec, sharding)
    return placed
