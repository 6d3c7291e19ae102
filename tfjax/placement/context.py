"""What JAX is set to where an iterator is made holds wherever and whenever it is read."""

from __future__ import annotations

import contextlib
from typing import Any

import jax


class CarriedContext:
    """This thread's 64-bit setting, default device, matmul precision and mesh, to be entered later or elsewhere.

    >>> with jax.enable_x64(True):
    ...     carried = CarriedContext()
    >>> with carried():
    ...     jax.numpy.arange(3).dtype
    dtype('int64')
    """

    def __init__(self) -> None:
        """Look at this thread."""
        self._settings = _settings()

    def __call__(self) -> contextlib.AbstractContextManager[Any]:
        """Enter it; where nothing differs, which is looked up in a microsecond, nothing is entered."""
        now = _settings()
        if now == self._settings:
            return contextlib.nullcontext()
        x64, device, precision, mesh = self._settings
        stack = contextlib.ExitStack()
        stack.enter_context(jax.enable_x64(x64))
        stack.enter_context(jax.default_device(device))
        stack.enter_context(jax.default_matmul_precision(precision))
        if mesh != now[3]:
            stack.enter_context(jax.set_mesh(mesh))
        return stack


def _settings() -> tuple[Any, ...]:
    config: Any = jax.config
    return (
        config.jax_enable_x64,
        config.jax_default_device,
        config.jax_default_matmul_precision,
        jax.sharding.get_mesh(),
    )
