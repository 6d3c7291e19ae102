"""Which call of Keras is asking a data adapter: Keras tells it neither that, nor its `steps_per_epoch`.

`fit`, `evaluate` and `predict` of Keras 3 make the same calls of an adapter and pass it nothing, so it is read off the
stack. In a training loop of another kind nothing is found, and an adapter is then what it is without this.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from types import FrameType

from tfjax.frameworks._keras_backend import keras

from keras.src.backend.jax.trainer import JAXEpochIterator  # isort: skip  # nor have these public names
from keras.src.trainers.epoch_iterator import EpochIterator  # isort: skip

_METHODS = {inspect.unwrap(getattr(keras.Model, name)).__code__: name for name in ("fit", "evaluate", "predict")}
_ASKERS = {getattr(EpochIterator, name).__code__ for name in ("__init__", "reset", "_enumerate_iterator")}
_AHEAD = JAXEpochIterator._one_batch_ahead_iterator.__code__
_IGNORED = {"y": "y='label'", "sample_weight": "sample_weight='weight'", "class_weight": "class_weight={0: 1.0, ...}"}


@dataclass(frozen=True)
class Call:
    """What is known of a call of Keras.

    Args:
        method: "fit", "evaluate" or "predict", the innermost; None where none is running.
        starts: whether it is about to start over, which it does once, after the symbolic build of a new model.
        steps_per_epoch: what it was given as `steps_per_epoch`, `validation_steps` or `steps`.
    """

    method: str | None = None
    starts: bool = False
    steps_per_epoch: int | None = None


def current_call() -> Call:
    """The call of Keras that asks the method of an adapter which calls this.

    Raises:
        ValueError: it was given an argument beside the adapter that Keras would ignore without a word.
    """
    asker = sys._getframe(2)
    method = _method_of(asker)
    if method is None or asker.f_code not in _ASKERS:  # the locals of a frame live on once they are read: not of any
        return Call(method)
    given = asker.f_locals
    for name, example in _IGNORED.items():
        if asker.f_code.co_name == "__init__" and given[name] is not None:
            raise ValueError(
                f"{method} is given {name}= beside to_keras(...), where Keras ignores it: leave it out there, and give "
                f"to_keras(..., {example})"
            )
    return Call(method, asker.f_code.co_name == "reset", given["self"].steps_per_epoch)


def is_drawn_ahead() -> bool:
    """Whether Keras draws one batch ahead of the step, as it does on accelerators, from the iterator that asks."""
    return sys._getframe(2).f_code is _AHEAD


def _method_of(frame: FrameType | None) -> str | None:
    while frame is not None:
        if frame.f_code in _METHODS:
            return _METHODS[frame.f_code]
        frame = frame.f_back
    return None
