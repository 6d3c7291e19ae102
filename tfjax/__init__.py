"""TFDS names and tf.data graphs in; sharded `jax.Array` batches out: exact, resumable, as fast as the machine allows.

Each name is resolved when it is first used: `import tfjax` loads neither TensorFlow nor any framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfjax import image as image
    from tfjax import on_device as on_device
    from tfjax import recipes as recipes
    from tfjax import testing as testing
    from tfjax import training as training
    from tfjax._settings import configure as configure
    from tfjax.bridge.convert import to_jax as to_jax
    from tfjax.bridge.convert import to_tensor as to_tensor
    from tfjax.errors import CorruptDataError as CorruptDataError
    from tfjax.errors import PlacementError as PlacementError
    from tfjax.errors import SpecError as SpecError
    from tfjax.errors import StalledPipelineError as StalledPipelineError
    from tfjax.errors import StateMismatchError as StateMismatchError
    from tfjax.errors import TfjaxError as TfjaxError
    from tfjax.opening.files import from_records as from_records
    from tfjax.opening.folders import from_files as from_files
    from tfjax.opening.folders import from_folder as from_folder
    from tfjax.opening.memory import from_arrays as from_arrays
    from tfjax.opening.memory import from_examples as from_examples
    from tfjax.opening.objects import from_grain as from_grain
    from tfjax.opening.objects import from_source as from_source
    from tfjax.opening.streams import from_generator as from_generator
    from tfjax.opening.streams import from_tf as from_tf
    from tfjax.opening.tfds import load as load
    from tfjax.pipeline import Pipeline as Pipeline
    from tfjax.placement.iterable import prefetch_to_device as prefetch_to_device
    from tfjax.scan import scan_steps as scan_steps
    from tfjax.sizing.find import find_batch_size as find_batch_size
    from tfjax.sizing.find import memory_budget as memory_budget
    from tfjax.state import State as State
    from tfjax.training.fit import fit as fit

_WHERE = {
    "load": "tfjax.opening.tfds",
    "from_arrays": "tfjax.opening.memory",
    "from_examples": "tfjax.opening.memory",
    "from_records": "tfjax.opening.files",
    "from_files": "tfjax.opening.folders",
    "from_folder": "tfjax.opening.folders",
    "from_source": "tfjax.opening.objects",
    "from_grain": "tfjax.opening.objects",
    "from_tf": "tfjax.opening.streams",
    "from_generator": "tfjax.opening.streams",
    "Pipeline": "tfjax.pipeline",
    "State": "tfjax.state",
    "to_jax": "tfjax.bridge.convert",
    "to_tensor": "tfjax.bridge.convert",
    "configure": "tfjax._settings",
    "prefetch_to_device": "tfjax.placement.iterable",
    "scan_steps": "tfjax.scan",
    "fit": "tfjax.training.fit",
    "find_batch_size": "tfjax.sizing.find",
    "memory_budget": "tfjax.sizing.find",
    "TfjaxError": "tfjax.errors",
    "SpecError": "tfjax.errors",
    "StateMismatchError": "tfjax.errors",
    "CorruptDataError": "tfjax.errors",
    "PlacementError": "tfjax.errors",
    "StalledPipelineError": "tfjax.errors",
}
_MODULES = ("image", "on_device", "recipes", "testing", "training")

__version__ = "0.1.0"
__all__ = [*_WHERE, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"tfjax.{name}")
    if name not in _WHERE:
        raise AttributeError(f"module 'tfjax' has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
