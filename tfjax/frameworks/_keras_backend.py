"""Imports Keras with the JAX backend, or says why that cannot be."""

import os
import sys

if "keras" not in sys.modules:
    os.environ.setdefault("KERAS_BACKEND", "jax")

try:
    import keras as keras
except ImportError as e:
    raise ImportError(f"tfjax.frameworks.keras needs {e.name!r}: pip install 'tfjax[keras]'") from e

if keras.backend.backend() != "jax":  # changed after the import it would have no effect, and no error either
    raise ImportError(
        f"Keras was imported with the backend {keras.backend.backend()!r}, and tfjax hands over jax.Arrays: "
        "set KERAS_BACKEND=jax in the environment before anything imports keras"
    )
