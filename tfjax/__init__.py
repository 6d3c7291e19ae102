"""TFDS names and tf.data graphs in; sharded `jax.Array` batches out: exact, resumable, as fast as the machine allows.

Each name is resolved when it is first used: `import tfjax` loads neither TensorFlow nor any framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfjax._open import from_arrays as from_arrays
    from tfjax._open import from_examples as from_examples
    from tfjax._open import from_records as from_records
    from tfjax._open import from_tf as from_tf
    from tfjax._open import load as load
    from tfjax._settings import configure as configure
    from tfjax.bridge.convert import to_jax as to_jax
    from tfjax.bridge.convert import to_tensor as to_tensor
    from tfjax.errors import CorruptDataError as CorruptDataError
    from tfjax.errors import PlacementError as PlacementError
    from tfjax.errors import SpecError as SpecError
    from tfjax.errors import StateMismatchError as StateMismatchError
    from tfjax.errors import TfjaxError as TfjaxError
    from tfjax.pipeline import Pipeline as Pipeline
    from tfjax.state import State as State

_WHERE = {
    "load": "tfjax._open",
    "from_arrays": "tfjax._open",
    "from_examples": "tfjax._open",
    "from_records": "tfjax._open",
    "from_tf": "tfjax._open",
    "Pipeline": "tfjax.pipeline",
    "State": "tfjax.state",
    "to_jax": "tfjax.bridge.convert",
    "to_tensor": "tfjax.bridge.convert",
    "configure": "tfjax._settings",
    "TfjaxError": "tfjax.errors",
    "SpecError": "tfjax.errors",
    "StateMismatchError": "tfjax.errors",
    "CorruptDataError": "tfjax.errors",
    "PlacementError": "tfjax.errors",
}

__version__ = "0.1.0"
__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'tfjax' has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
