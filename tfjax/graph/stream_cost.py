"""What a streaming pipeline holds in memory, and in a checkpoint, in words for `explain`.

>>> from tfjax.graph.stages import ShuffleWindow
>>> window_note(ShuffleWindow(buffer_size=1000, seed=0), 3 * 1024)
'shuffle_window holds 1000 examples of 3.0 KiB in memory, 2.9 MiB together'
"""

from __future__ import annotations

from collections.abc import Sequence

from tfjax.graph.stages import DEFAULT_PREFETCH, Chain, Place, ShuffleWindow
from tfjax.spec import format_bytes

Buffer = tuple[str, int | None]
_CHECKPOINT = (
    "a state is TensorFlow's checkpoint of the graph, taken between two reads: resuming computes nothing again"
)


def window_note(window: ShuffleWindow, row: int | None) -> str:
    """What a window holds.

    Args:
        window: the stage.
        row: bytes of one example; None where that is not fixed.
    """
    if row is None:
        return f"shuffle_window holds {window.buffer_size} examples in memory, of unknown size"
    total = format_bytes(row * window.buffer_size)
    return f"shuffle_window holds {window.buffer_size} examples of {format_bytes(row)} in memory, {total} together"


def checkpoint_note(chain: Chain, buffers: Sequence[Buffer], row: int | None, batch: int | None) -> str:
    """How large a checkpoint will be, as far as the graph tells.

    Args:
        chain: the stages.
        buffers: what the source's own graph holds.
        row: bytes of one example.
        batch: bytes of what is delivered at a step.
    """
    ahead = next((s.prefetch for s in chain if isinstance(s, Place)), DEFAULT_PREFETCH)
    windows = [s for s in chain if isinstance(s, ShuffleWindow)]
    held = [
        *buffers,
        *((f"shuffle_window({w.buffer_size})", None if row is None else row * w.buffer_size) for w in windows),
    ]
    held += [(f"{ahead} batches read and not delivered", None if batch is None else batch * ahead)] if ahead else []
    known = sum(size for _, size in held if size is not None)
    parts = [f"{name} {format_bytes(size)}" for name, size in held if size is not None]
    unknown = [name for name, size in held if size is None]
    size = f"about {format_bytes(known)} ({', '.join(parts)})" if parts else "of unknown size"
    more = f"; beside them, of unknown size: {', '.join(unknown)}" if parts and unknown else ""
    more = f" ({', '.join(unknown)})" if unknown and not parts else more
    return f"{_CHECKPOINT}; it is {size}{more}, and batches that tf.data reads ahead; state.size_bytes tells"
