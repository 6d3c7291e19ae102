"""How one framework's run went."""

import hashlib
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np


@dataclass(frozen=True, kw_only=True)
class Result:
    """One framework's run.

    Args:
        framework: its name.
        test_accuracy: on the whole test split after the last epoch, 0 to 1.
        test_loss: likewise, the mean cross-entropy.
        steps: of the whole run, those before a resume included.
        examples_per_s: of training in this process; compiling, evaluating and checkpoints left out.
        waiting: the share of that time spent waiting for data, 0 to 1.
        seconds: this process's run, everything included.
        parameters_sha256: digest of the trained parameters: dtypes, shapes and bits.
        history: its curves, as `tfjax.training.History` has them.
    """

    framework: str
    test_accuracy: float
    test_loss: float
    steps: int
    examples_per_s: float
    waiting: float
    seconds: float
    parameters_sha256: str
    history: dict[str, Any]


def parameters_sha256(parameters: Any) -> str:
    """Digest of the arrays of a tree, their dtypes, shapes and bits, in the tree's order."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(parameters):
        array = np.ascontiguousarray(jax.device_get(leaf))
        digest.update(f"{array.dtype.name}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
