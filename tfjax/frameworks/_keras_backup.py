"""A backup of a running `fit` of Keras, the position of its data included, and how `fit` goes on from it."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

from tfjax._arguments import require_bool, require_count
from tfjax.errors import CorruptDataError, StateMismatchError
from tfjax.frameworks._keras_adapter import PipelineAdapter
from tfjax.frameworks._keras_backend import keras
from tfjax.state import State

_REST_TRAINED = "the rest of the epoch is trained"  # Keras ends the epoch for whatever is true; see `on_epoch_end`


class BackupAndRestore(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """`keras.callbacks.BackupAndRestore` with the position of the data, so that a killed `fit` goes on to the bit.

    One file holds the variables of model, optimizer and metrics, the seeds of random layers, the epoch, and the data's
    position. It is replaced as a whole: a process that is killed while it writes leaves the backup before. A `fit` of
    the same model on the same pipeline goes on from it, in the middle of an epoch with the rest of that epoch alone;
    its parameters and logs are then those of a `fit` that was not interrupted. What other callbacks remember
    (`EarlyStopping`, `ReduceLROnPlateau`) is not in it. Put it last in `callbacks`, so that what the others change at
    the end of an epoch is backed up.

    Args:
        backup_dir: a folder of its own for the file, which is made.
        data: the adapter that `fit` is given, from `to_keras`.
        save_freq: "epoch", or a number of batches.
        delete_checkpoint: whether a `fit` that comes to its end removes the backup.

    Raises:
        StateMismatchError: at the start of `fit`: the backup is of another model or another pipeline.
        CorruptDataError: at the start of `fit`: the file is damaged.

    Example:
        >>> import pathlib, tempfile, keras, numpy as np, tfjax
        >>> rows = {"x": np.ones((8, 3), np.float32), "y": np.ones(8, np.float32)}
        >>> data = tfjax.from_arrays(rows).shuffle(seed=0).batch(2).to_keras(x="x", y="y")
        >>> model = keras.Sequential([keras.layers.Dense(1)])
        >>> model.compile(optimizer="adam", loss="mse")
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> backup = BackupAndRestore(folder, data, save_freq=3, delete_checkpoint=False)
        >>> history = model.fit(data, epochs=2, callbacks=[backup], verbose=0)
        >>> [path.name for path in folder.iterdir()]
        ['backup.npz']
    """

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        data: PipelineAdapter,
        *,
        save_freq: str | int = "epoch",
        delete_checkpoint: bool = True,
    ) -> None:
        """See the class."""
        super().__init__()
        if not isinstance(data, PipelineAdapter):
            raise TypeError(f"BackupAndRestore takes the adapter that fit is given, pipe.to_keras(...), given {data!r}")
        if data.is_resumed:
            raise ValueError(
                "BackupAndRestore beside to_keras(state=...): the backup holds the position, leave state out"
            )
        require_bool("delete_checkpoint", delete_checkpoint)
        self._path, self._data = pathlib.Path(backup_dir) / "backup.npz", data
        self._every = None if save_freq == "epoch" else require_count("save_freq", save_freq, least=1)
        self._deletes = delete_checkpoint
        self._metrics: list[np.ndarray] | None = None  # of the epoch that is gone on with
        self._epoch = 0
        self._before = self._trained = self._unsaved = 0  # batches: of this epoch in the backup; so far; since a save

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        """Go on from the backup, where there is one."""
        if self.params["steps"] is None:
            raise ValueError(
                "BackupAndRestore has to know when an epoch ends, and how long one of this pipeline is is not known: "
                "give fit steps_per_epoch"
            )
        self._before = self._trained = self._unsaved = 0
        self._metrics = None
        if self._path.exists():
            self._restore()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Put back the metrics of an epoch that is gone on with: Keras has just reset them."""
        self._epoch = epoch
        self._model._initial_epoch = None  # Keras would begin the next fit there too
        if self._metrics is not None:
            _assign(self._model.metrics_variables, self._metrics)
            self._metrics = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Save where it is time, and end an epoch of which only a rest was left."""
        trained, steps = self._before + batch + 1, self.params["steps"]
        self._unsaved += trained - self._trained
        self._trained = trained
        if trained >= steps:
            if self._before and not self._model.stop_training:
                self._model.stop_training = _REST_TRAINED
        elif self._every is not None and self._unsaved >= self._every:
            self._save(self._epoch, trained)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Save, and let `fit` go on to the next epoch where this callback has ended this one."""
        if self._model.stop_training is _REST_TRAINED:
            self._model.stop_training = False
        is_whole = self._trained >= self.params["steps"]  # and not left by a callback that stops the training
        if self._every is None or self._unsaved >= self._every:
            self._save(epoch + 1 if is_whole else epoch, 0 if is_whole else self._trained)
        self._before = self._trained = 0

    def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002
        """Remove the backup of a `fit` that came to its end."""
        self._model._initial_epoch = None
        if self._deletes:
            self._path.unlink(missing_ok=True)

    def _save(self, epoch: int, batch: int) -> None:
        """Replace the backup by one that goes on with a batch of an epoch."""
        variables = _variables(self.model)  # `model` brings the values of the running epoch to the variables
        about = {
            "epoch": epoch,
            "batch": batch,
            "position": self._data.state.to_json(),
            "variables": _shapes(variables),
        }
        arrays = {str(i): np.asarray(variable.value) for i, variable in enumerate(variables)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        try:
            with partial.open("wb") as file:
                np.savez(file, allow_pickle=False, about=np.array(json.dumps(about)), **arrays)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path)
        finally:
            partial.unlink(missing_ok=True)
        self._unsaved = 0

    def _restore(self) -> None:
        about, arrays = _read(self._path)
        variables = _variables(self.model)
        there, here = about["variables"], _shapes(variables)
        if there != here:
            pairs = itertools.zip_longest(there, here, fillvalue="nothing")
            i, (was, now) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
            name = variables[i].path if i < len(variables) else f"variable {i}"
            raise StateMismatchError(
                f"{self._path} is the backup of another model or optimizer: {name} is {was} there and {now} here; make "
                "them as they were, or remove the file to start anew"
            )
        _assign(variables, arrays)
        self._data.go_on_from(State.from_json(about["position"]))
        self._model._initial_epoch, self._before = about["epoch"], about["batch"]
        if self._before:
            self._metrics = arrays[len(arrays) - len(self._model.metrics_variables) :]


def _variables(model: Any) -> list[Any]:
    """All that a step changes: parameters, statistics, seeds of random layers, the optimizer's, the metrics'."""
    return [*model.variables, *model.optimizer.variables, *model.metrics_variables]


def _shapes(variables: list[Any]) -> list[str]:
    """Shape and dtype of each, but no name: Keras numbers those, and another model of the process has others."""
    return [f"{variable.dtype}{list(variable.shape)}" for variable in variables]


def _assign(variables: list[Any], arrays: list[np.ndarray]) -> None:
    for variable, array in zip(variables, arrays, strict=True):
        dtype = np.asarray(variable.value).dtype
        variable.assign(array.view(dtype) if array.dtype.kind == "V" else array)  # NumPy stores no name of bfloat16


def _read(path: pathlib.Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            return about, [file[str(i)] for i in range(len(about["variables"]))]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise CorruptDataError(
            f"{path} is no backup of BackupAndRestore, or damaged ({error}): remove it to start anew"
        ) from error
