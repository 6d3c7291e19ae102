"""TensorFlow, imported once, with its accelerators hidden before its first op.

Every file that uses TensorFlow gets it from here:

    >>> from tfjax._tensorflow import tf
    >>> tf.config.get_visible_devices("GPU")
    []
"""

from __future__ import annotations

import os
import warnings

from tfjax._quiet import without_import_noise
from tfjax._settings import settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # hides information, as JAX sets it; warnings stay
try:
    with without_import_noise():
        import tensorflow as tf
except ImportError as error:
    raise ImportError(
        f"this part of tfjax needs TensorFlow, which could not be imported ({error}): pip install 'tfjax[tf]'"
    ) from error

__all__ = ["tf"]


def _hide_accelerators() -> None:
    """Hide GPUs and TPUs from TensorFlow and verify it; warn when TensorFlow was initialised earlier."""
    for kind in ("GPU", "TPU"):
        try:
            tf.config.set_visible_devices([], kind)
        except RuntimeError:  # TensorFlow's devices are initialised already
            pass
        visible = tf.config.get_visible_devices(kind)
        if visible:
            warnings.warn(
                f"TensorFlow was initialised before tfjax and sees {len(visible)} {kind} device(s), whose memory "
                f"JAX will miss: call tf.config.set_visible_devices([], {kind!r}) before TensorFlow's first op, "
                "or make the first tfjax pipeline earlier",
                RuntimeWarning,
                stacklevel=2,
            )


if settings.hide_tf_devices:
    _hide_accelerators()
