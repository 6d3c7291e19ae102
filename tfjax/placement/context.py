"""What JAX is set to on one thread, carried over to another, so that a function computes there what it would here."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax


def carried_context() -> Callable[[], contextlib.AbstractContextManager[Any]]:
    """Look at this thread's 64-bit setting, default device, matmul precision and mesh; enter them on another."""
    config: Any = jax.config
    contexts: list[Callable[[], Any]] = [
        functools.partial(jax.enable_x64, config.jax_enable_x64),
        functools.partial(jax.default_device, config.jax_default_device),
        functools.partial(jax.default_matmul_precision, config.jax_default_matmul_precision),
    ]
    mesh = jax.sharding.get_mesh()
    if not mesh.empty:
        contexts.append(functools.partial(jax.set_mesh, mesh))

    def enter() -> contextlib.AbstractContextManager[Any]:
        stack = contextlib.ExitStack()
        for context in contexts:
            stack.enter_context(context())
        return stack

    return enter
