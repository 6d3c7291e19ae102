"""Process-wide settings, read when TensorFlow is first needed."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(kw_only=True)
class Settings:
    """What `configure` can change."""

    hide_tf_devices: bool = True


settings = Settings()


def configure(*, hide_tf_devices: bool) -> None:
    """Change process-wide behaviour; call it before tfjax first needs TensorFlow.

    Args:
        hide_tf_devices: hide GPUs and TPUs from TensorFlow before its first op (the default), so that JAX has
            them to itself. It holds for the whole process.

    Raises:
        RuntimeError: TensorFlow was already set up by tfjax with the other value.

    Example:
        >>> import tfjax
        >>> tfjax.configure(hide_tf_devices=True)
    """
    if not isinstance(hide_tf_devices, bool):
        raise TypeError(f"hide_tf_devices is {hide_tf_devices!r}: pass True or False")
    if "tfjax._tensorflow" in sys.modules and hide_tf_devices != settings.hide_tf_devices:
        raise RuntimeError(
            f"configure(hide_tf_devices={hide_tf_devices}) came after TensorFlow was set up with "
            f"{settings.hide_tf_devices}: call it before the first pipeline is made"
        )
    settings.hide_tf_devices = hide_tf_devices
