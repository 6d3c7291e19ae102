"""Which ops of a graph have a state that TensorFlow's checkpoint of its iterator does not hold."""

from __future__ import annotations

import re

from tfjax._tensorflow import tf
from tfjax.graph.functions import RANDOM_OPS, WITHOUT_EFFECT, WRITES
from tfjax.sources.dataset_graph import dataset_graph

_FAIL = 2  # tf.data's ExternalStatePolicy
_PYTHON = ("PyFunc", "EagerPyFunc")
# Stateful for TensorFlow; they keep nothing from one call to the next.
_HARMLESS = WITHOUT_EFFECT | {"Assert", "CheckNumerics", "CheckNumericsV2", "PrintV2", "Print", "DummySeedGenerator"}


def refuse_stateful(dataset: tf.data.Dataset, what: str) -> None:
    """Raise ValueError where an op of a graph has a state that a checkpoint would not hold; names the ops.

    Args:
        dataset: the graph.
        what: what it is, for the message.
    """
    graph = dataset_graph(dataset)
    named = set() if graph is None else {op for op in graph.ops() if _has_state(op)}
    other = _first_of_tensorflow(dataset)
    named |= {other} if other is not None and other not in _HARMLESS else set()
    if named:
        raise ValueError(
            f"state='checkpoint': {what} holds {', '.join(sorted(named))}, whose state is no part of TensorFlow's "
            "checkpoint: use state='replay', or take it out (random ops: random_map; Python: from_generator)"
        )


def _has_state(op: str) -> bool:
    if op.startswith("DataServiceDataset"):
        return True  # its workers hold it
    is_dataset = op.endswith(("Dataset", "DatasetV2", "SeedGenerator"))  # their iterators are part of the checkpoint
    return op in _PYTHON or (op in RANDOM_OPS and not is_dataset) or op.startswith(WRITES)


def _first_of_tensorflow(dataset: tf.data.Dataset) -> str | None:
    """The first op that TensorFlow itself calls stateful."""
    try:
        tf.raw_ops.DatasetToGraphV2(
            input_dataset=dataset._variant_tensor, external_state_policy=_FAIL, strip_device_assignment=True
        )
    except tf.errors.FailedPreconditionError as error:
        found = re.search(r"(\w+) is stateful", error.message)
        return found[1] if found else None
    except tf.errors.OpError:
        return None
    return None
