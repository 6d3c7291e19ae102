"""Keras runs on JAX, or tfjax says why that cannot be."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("keras")


def run_python(code, **environment):
    given = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**given, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import keras, tfjax.frameworks.keras", "Keras was imported with the backend 'numpy'"),
        ("import tfjax.frameworks.keras", "KERAS_BACKEND is 'numpy'"),
    ],
)
def test_another_backend_is_refused(code, message):
    done = run_python(code, KERAS_BACKEND="numpy")
    assert f"ImportError: {message}" in done.stderr
    assert "set KERAS_BACKEND=jax in the environment before anything imports keras" in done.stderr


def test_the_backend_is_set_where_keras_is_not_imported_yet():
    done = run_python("import tfjax.frameworks.keras, sys; print('tensorflow' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr
