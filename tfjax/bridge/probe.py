"""What TensorFlow has in this process: its devices, its threads, and where its memory begins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfjax._tensorflow import tf

_KINDS = ("GPU", "TPU")


@dataclass(frozen=True)
class TensorFlowFacts:
    """Facts, not judgements.

    Attributes:
        physical: accelerators that TensorFlow finds on the machine, by kind.
        visible: those of them that it may use.
        logical: those that it has taken.
        inter_op: threads that run ops side by side; 0 for its default.
        intra_op: threads inside an op; 0 for its default.
        alignment: the largest power of two, up to 4096, on which each of some tensors of tf.data began.
    """

    physical: dict[str, int]
    visible: dict[str, int]
    logical: dict[str, int]
    inter_op: int
    intra_op: int
    alignment: int


def tensorflow_facts() -> TensorFlowFacts:
    """Look at TensorFlow; its accelerators are hidden first, as in every use of tfjax.

    >>> sum(tensorflow_facts().logical.values())
    0
    """
    count = {kind: len(tf.config.list_physical_devices(kind)) for kind in _KINDS}
    seen = {kind: len(tf.config.get_visible_devices(kind)) for kind in _KINDS}
    taken = {kind: len(tf.config.list_logical_devices(kind)) for kind in _KINDS}
    threading = tf.config.threading
    return TensorFlowFacts(
        physical=count,
        visible=seen,
        logical=taken,
        inter_op=threading.get_inter_op_parallelism_threads(),
        intra_op=threading.get_intra_op_parallelism_threads(),
        alignment=_alignment(),
    )


def _alignment() -> int:
    sizes = tf.constant([1, 3, 64, 1000, 4097, 100_003], tf.int64)
    tensors = list(tf.data.Dataset.from_tensor_slices(sizes).map(lambda n: tf.zeros(n, tf.uint8)))
    together = np.bitwise_or.reduce([np.asarray(memoryview(t)).ctypes.data for t in tensors])
    return int(min(together & -together, 4096))
