"""Process-wide settings, read when TensorFlow is first needed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any


@dataclass(kw_only=True)
class Settings:
    """What `configure` can change."""

    hide_tf_devices: bool = True
    stall_timeout_s: float | None = None


settings = Settings()


class _Unchanged:
    """The default of an argument that was not given."""

    def __repr__(self) -> str:
        return "unchanged"


_UNCHANGED: Any = _Unchanged()


def configure(*, hide_tf_devices: bool = _UNCHANGED, stall_timeout_s: float | None = _UNCHANGED) -> None:
    """Change process-wide behaviour; what is not given stays as it is.

    Args:
        hide_tf_devices: hide GPUs and TPUs from TensorFlow before its first op (the default), so that JAX has
            them to itself. It holds for the whole process; call it before tfjax first needs TensorFlow.
        stall_timeout_s: seconds that `next` waits for a batch before it raises StalledPipelineError; None (the
            default) waits for ever, and warns once after a minute. It holds where a thread makes batches ahead; what
            is made on the caller's own thread (prefetch=0) takes the time that it takes.

    Raises:
        RuntimeError: TensorFlow was already set up by tfjax with the other value of `hide_tf_devices`.

    Example:
        >>> import tfjax
        >>> tfjax.configure(hide_tf_devices=True, stall_timeout_s=None)
    """
    if hide_tf_devices is not _UNCHANGED:
        _hide(hide_tf_devices)
    if stall_timeout_s is not _UNCHANGED:
        _limit(stall_timeout_s)


def _limit(stall_timeout_s: Any) -> None:
    is_number = isinstance(stall_timeout_s, int | float) and not isinstance(stall_timeout_s, bool)
    if stall_timeout_s is not None and not (is_number and 0 < stall_timeout_s < float("inf")):
        raise TypeError(f"stall_timeout_s is {stall_timeout_s!r}: pass seconds above 0, or None")
    settings.stall_timeout_s = stall_timeout_s


def _hide(hide_tf_devices: Any) -> None:
    if not isinstance(hide_tf_devices, bool):
        raise TypeError(f"hide_tf_devices is {hide_tf_devices!r}: pass True or False")
    if "tfjax._tensorflow" in sys.modules and hide_tf_devices != settings.hide_tf_devices:
        raise RuntimeError(
            f"configure(hide_tf_devices={hide_tf_devices}) came after TensorFlow was set up with "
            f"{settings.hide_tf_devices}: call it before the first pipeline is made"
        )
    settings.hide_tf_devices = hide_tf_devices
