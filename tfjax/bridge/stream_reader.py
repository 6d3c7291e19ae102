"""Reading a streaming run whose epochs end where Python sees it, or whose position can be checkpointed.

The graph has no end: totals are counted here, so that a run can be resumed with any other total. What was read and
not delivered yet is held until it is, because a checkpoint of the graph stands behind it.
"""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from tfjax._tensorflow import tf
from tfjax.bridge.checkpoint import Checkpoint
from tfjax.bridge.reader import Converter, Reader
from tfjax.errors import StateMismatchError, TfjaxError
from tfjax.graph.plan import Run
from tfjax.graph.stream import StreamPlan

_IGNORE_STATE = 1  # tf.data's ExternalStatePolicy; `StreamPlan.check` has looked


class StreamReading:
    """One run: its steps, and a checkpoint between any two of them."""

    def __init__(self, plan: StreamPlan, run: Run, *, narrow: bool, checkpoint: bytes | None = None) -> None:
        """Open the graph.

        Args:
            plan: the graph.
            run: its steps.
            narrow: whether 64-bit leaves become 32 bits.
            checkpoint: what `checkpoint` returned with step `run.start`.

        Raises:
            StateMismatchError: the checkpoint is damaged, or does not fit the graph.
        """
        self._plan, self._run, self._marks = plan, run, plan.marks(run)
        began = None if checkpoint is None else Checkpoint.unpack(checkpoint)
        self._entropy = began.entropy if began else secrets.randbits(62) + 1
        self._lock, self._pending_lock = threading.Lock(), threading.Lock()
        self._pending: deque[tuple[int, list[tf.Tensor]]] = deque()
        self._next, self._epochs_ended, self._in_epoch = run.start, 0, 0
        checkpoints = plan.resume == "checkpoint"
        dataset = plan.endless(run, narrow=narrow, entropy=self._entropy if checkpoints else 0)
        self._dtypes = tuple(s.dtype.name for s in tf.nest.flatten(dataset.element_spec)[self._marks :])
        self._reader: Reader | None = Reader(dataset, ())
        self._holds = checkpoints
        if began is not None:
            self._restore(began)

    def read(self, convert: Sequence[Converter]) -> Iterator[list[Any]]:
        """The leaves of each step; see `tfjax.bridge.reader.read`.

        Args:
            convert: for each leaf, tensor to array.
        """
        try:
            yield from self._steps(convert)
        finally:
            # On the thread that read: where the interpreter did it as it goes down, TensorFlow would wait for ever for
            # calls of Python that cannot return any more. A graph that can be checkpointed holds none.
            if not self._holds:
                self.release()

    def _steps(self, convert: Sequence[Converter]) -> Iterator[list[Any]]:
        for step, tensors in list(self._pending):
            if not self._is_over(step):
                yield [c(t) for c, t in zip(convert, tensors, strict=True)]
        while not self._is_over(self._next):
            found = self._read(self._next)
            if found is None:
                return
            held = [[c(t) for c, t in zip(convert, found, strict=True)]]
            del found  # or this frame would keep the batch alive until the next one is asked for
            yield held.pop()

    def _is_over(self, step: int) -> bool:
        return self._run.stop is not None and step >= self._run.stop

    def _read(self, step: int) -> list[tf.Tensor] | None:
        """The next element of the graph; None at the end of the run."""
        while True:
            with self._lock:
                if self._reader is None or (self._run.epochs is not None and self._epochs_ended >= self._run.epochs):
                    return None
                try:
                    tensors = self._reader.tensors()
                except StopIteration:
                    return None
                except tf.errors.OpError as error:
                    failed = self._plan.diagnose(self._run, step, error)
                    raise failed from failed.__cause__ or error.with_traceback(None)
                if not self._marks:
                    return self._counted(tensors)
                if not tensors[0]:
                    return self._counted(tensors[1:])
                if self._in_epoch == 0 and self._run.epochs is None:
                    epoch = self._run.start_epoch + self._epochs_ended
                    raise ValueError(f"epoch {epoch} of this pipeline yields nothing: there is nothing to go round for")
                self._epochs_ended, self._in_epoch = self._epochs_ended + 1, 0

    def _counted(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        if self._holds:
            with self._pending_lock:
                self._pending.append((self._next, tensors))
        self._next, self._in_epoch = self._next + 1, self._in_epoch + 1
        return tensors

    def delivered(self, step: int) -> None:
        """Let go of what lies before `step`."""
        with self._pending_lock:
            while self._pending and self._pending[0][0] < step:
                self._pending.popleft()

    def checkpoint(self) -> tuple[int, bytes]:
        """The first step that was not delivered, and the position there; waits for a read that is under way.

        Raises:
            ValueError: the run was closed.
        """
        with self._lock:
            if self._reader is None:
                raise ValueError("this iterator is closed, and its graph released: read its state before it is closed")
            with self._pending_lock:
                held = list(self._pending)
            packed = Checkpoint(
                iterator=self._serialized(self._reader),
                pending=tuple(tuple(tf.io.serialize_tensor(t).numpy() for t in tensors) for _, tensors in held),
                read=self._next,
                epochs_ended=self._epochs_ended,
                in_epoch=self._in_epoch,
                entropy=self._entropy,
                dtypes=self._dtypes,
            ).pack()
            return (held[0][0] if held else self._next), packed

    def _serialized(self, reader: Reader) -> bytes:
        try:
            variant = tf.raw_ops.SerializeIterator(resource_handle=reader.resource, external_state_policy=_IGNORE_STATE)
            return tf.io.serialize_tensor(variant).numpy()  # type: ignore[no-any-return]
        except tf.errors.OpError as error:
            raise TfjaxError(
                f"TensorFlow cannot checkpoint this graph ({error.message}): use from_tf(..., state='replay')"
            ) from error

    def _restore(self, began: Checkpoint) -> None:
        if began.dtypes != self._dtypes:
            raise StateMismatchError(
                f"the state's checkpoint holds leaves of {', '.join(began.dtypes)}, and this pipeline delivers "
                f"{', '.join(self._dtypes)}: set jax_enable_x64 and keep_on_host as they were"
            )
        first = began.read - len(began.pending)
        if first != self._run.start or self._reader is None:
            raise StateMismatchError(
                f"the state says step {self._run.start}, and its checkpoint says {first}: one of the two was altered"
            )
        try:
            variant = tf.io.parse_tensor(began.iterator, tf.variant)
            tf.raw_ops.DeserializeIterator(resource_handle=self._reader.resource, serialized=variant)
            for number, leaves in enumerate(began.pending):
                tensors = [tf.io.parse_tensor(x, d) for x, d in zip(leaves, self._dtypes, strict=True)]
                self._pending.append((first + number, tensors))
        except tf.errors.OpError as error:
            raise StateMismatchError(
                f"the state's checkpoint does not fit the graph of this pipeline ({error.message}): it comes from "
                "another graph, other options, or another version of TensorFlow"
            ) from error
        self._next, self._epochs_ended, self._in_epoch = began.read, began.epochs_ended, began.in_epoch

    def release(self) -> Any:
        """Stop, and hand over what is to be deleted where nobody waits for it; does not wait for a read."""
        released, self._reader = (self._reader, list(self._pending)), None
        with self._pending_lock:
            self._pending.clear()
        return released
