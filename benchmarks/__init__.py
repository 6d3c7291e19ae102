"""One script a claim: `python -m benchmarks.bench_handoff`; see README.md in this folder.

The environment is set here because TensorFlow, JAX and Keras read it when they are imported; offset indexes go to
runs/, not to the user's home.
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("XDG_CACHE_HOME", os.path.abspath("runs/cache"))
