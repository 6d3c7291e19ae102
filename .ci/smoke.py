"""Try an installed tfjax from a folder that is not the project's: `smoke.py without-extras | with-extras`."""

import importlib.metadata
import importlib.resources
import importlib.util
import pathlib
import subprocess
import sys
import tempfile


def check(what: str, holds: bool) -> None:
    """Print what was checked, and end the process where it does not hold."""
    print(f"{'ok  ' if holds else 'FAIL'} {what}")
    if not holds:
        sys.exit(1)


def without_extras() -> None:
    """The package imports with JAX and NumPy alone, and says which extra is missing."""
    import tfjax

    here = pathlib.Path(tfjax.__file__).resolve()
    check(
        f"imported from the environment: {here.parent}",
        here.is_relative_to(pathlib.Path(sys.prefix).resolve()),
    )
    check("py.typed is in the wheel", importlib.resources.files("tfjax").joinpath("py.typed").is_file())
    check("no extra is installed", not importlib.util.find_spec("tensorflow"))
    try:
        tfjax.from_arrays({"x": list(range(10))})
        message = "no error"
    except ImportError as error:
        message = str(error)
    check(f"a missing TensorFlow names the extra: {message}", "tfjax[tf]" in message)


def with_extras() -> None:
    """A pipeline delivers its examples once, and the command line trains on the built-in dataset."""
    import jax
    import numpy as np

    import tfjax

    pipe = tfjax.from_arrays({"x": np.arange(10, dtype=np.int32)}).shuffle(seed=0).batch(4, remainder="keep")
    with pipe.iterate() as batches:
        arrays = [batch["x"] for batch in batches]
    check("batches are jax.Arrays", all(isinstance(array, jax.Array) for array in arrays))
    check("each example comes once", sorted(int(x) for array in arrays for x in array) == list(range(10)))
    with tempfile.TemporaryDirectory() as folder:
        command = ["tfjax", "train", "digits", "--framework", "linen", "--epochs", "1", "--batch-size", "64"]
        command += ["--data-dir", f"{folder}/tfds", "--checkpoint-dir", f"{folder}/checkpoints"]
        done = subprocess.run(command, check=False)
        check(" ".join(command[:5]), done.returncode == 0)


if __name__ == "__main__":
    steps = {"without-extras": without_extras, "with-extras": with_extras}
    if sys.argv[1:2] == [] or sys.argv[1] not in steps:
        sys.exit(__doc__)
    print(f"tfjax {importlib.metadata.version('tfjax')}, Python {sys.version.split()[0]}")
    steps[sys.argv[1]]()
