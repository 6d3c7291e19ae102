"""The exceptions a caller would catch; everything else is a built-in TypeError, ValueError, KeyError or ImportError.

Each one is also the built-in exception that it refines, so that general handlers work.
"""

from __future__ import annotations


class TfjaxError(Exception):
    """Base class of every exception defined by tfjax.

    Raised itself where a user's function fails on an example, or on a batch that is placed; the message names the stage
    and the example, or the shapes of the batch.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays({"x": np.arange(3)}).map(lambda e: {"x": 6 // (e["x"] - 1)}).batch(3)
        >>> pipe.peek()
        Traceback (most recent call last):
        tfjax.errors.TfjaxError: map(...) failed on example 1: ...
    """


class SpecError(TfjaxError, ValueError):
    """An element's structure, shape or dtype is not what a stage or JAX can take.

    Example:
        >>> import numpy as np, tfjax
        >>> tfjax.from_examples([np.zeros(2), np.zeros(3)]).batch(2)
        Traceback (most recent call last):
        tfjax.errors.SpecError: the element is (None,), and batch needs a static shape: ...
    """


class StateMismatchError(TfjaxError, ValueError):
    """A state belongs to another pipeline, or is no state of this format version.

    Example:
        >>> import numpy as np, tfjax
        >>> pipe = tfjax.from_arrays(np.arange(6))
        >>> state = pipe.batch(2).iterate().state
        >>> pipe.batch(3).iterate(state=state)
        Traceback (most recent call last):
        tfjax.errors.StateMismatchError: the state belongs to another pipeline: they differ in 1 batch ...
    """


class CorruptDataError(TfjaxError, ValueError):
    """Stored data is damaged, truncated, or was changed while it was in use; the message names path and offset.

    Example:
        >>> import pathlib, tempfile, tensorflow as tf, tfjax
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "x.tfrecord"
        >>> size = path.write_bytes(b"no record")
        >>> tfjax.from_records(path, {"x": tf.io.FixedLenFeature((), tf.int64)})
        Traceback (most recent call last):
        tfjax.errors.CorruptDataError: ...
    """


class StalledPipelineError(TfjaxError, TimeoutError):
    """No batch came within the time that `tfjax.configure(stall_timeout_s=...)` sets; says where the producer stands.

    The iterator is as it was: asking again goes on waiting.

    Example:
        >>> import threading, tfjax
        >>> go_on = threading.Event()
        >>> tfjax.configure(stall_timeout_s=0.1)
        >>> with tfjax.prefetch_to_device(iter(go_on.wait, True)) as batches:
        ...     try:
        ...         next(batches)
        ...     except tfjax.StalledPipelineError:
        ...         go_on.set()
        >>> tfjax.configure(stall_timeout_s=None)
    """


class PlacementError(TfjaxError, ValueError):
    """A batch cannot be laid out over the devices as asked.

    Example:
        >>> import jax, numpy as np, tfjax
        >>> mesh = jax.make_mesh((1,), ("data",))
        >>> tfjax.from_arrays(np.arange(6)).batch(2).place(mesh, "model")
        Traceback (most recent call last):
        tfjax.errors.PlacementError: place: 'model' is no axis of the mesh; its axes are ('data',)
    """
