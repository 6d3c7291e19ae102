"""Imports Keras with the JAX backend, or says why that cannot be."""

import os
import sys

_FIX = "set KERAS_BACKEND=jax in the environment before anything imports keras"

if "keras" not in sys.modules and os.environ.setdefault("KERAS_BACKEND", "jax") != "jax":
    raise ImportError(f"KERAS_BACKEND is {os.environ['KERAS_BACKEND']!r}, and tfjax hands over jax.Arrays: {_FIX}")

try:
    import keras as keras
except ImportError as e:
    raise ImportError(f"tfjax.frameworks.keras needs {e.name!r}: pip install 'tfjax[keras]'") from e

if keras.backend.backend() != "jax":  # changed after the import, the variable has no effect and raises no error
    raise ImportError(
        f"Keras was imported with the backend {keras.backend.backend()!r}, and tfjax hands over jax.Arrays: {_FIX}"
    )
