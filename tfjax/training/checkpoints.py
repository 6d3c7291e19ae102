"""Checkpoints of a run, by Orbax: the state's arrays, the position of the data, history and callbacks.

Each is written whole or not at all, to a folder of its own that is renamed once it is complete.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfjax._arguments import require_bool, require_count
from tfjax.errors import StateMismatchError
from tfjax.training.leaves import Leaves, described, put_together, taken_apart, targets

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint: the state after `step` batches, the data's position as JSON, and what else was kept."""

    state: Any
    step: int
    position: str
    history: dict[str, Any]
    callbacks: list[dict[str, Any]]
    stopped: str


@dataclass(frozen=True)
class Checkpoints:
    """Where and when `fit` keeps checkpoints; a path alone stands for the defaults.

    Args:
        directory: of this run alone; a path, or what Orbax takes, such as gs://bucket/run.
        every: batches between two checkpoints; one is written after each epoch and at the end as well.
        keep: how many of the last ones are kept.
        resume: go on from the last one where there is one. Without it a folder that holds some is refused.
        settings: what else decides the result, such as the learning rate; of JSON types, and compared on resume.

    Raises:
        TypeError: the directory is no path, or the settings are not of JSON types.
        ValueError: a number below 1, or an empty path.
    """

    directory: str | os.PathLike[str]
    every: int | None = field(default=None, kw_only=True)
    keep: int = field(default=3, kw_only=True)
    resume: bool = field(default=True, kw_only=True)
    settings: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        """Check what was given."""
        if not isinstance(self.directory, str | os.PathLike):
            raise TypeError(f"checkpoints go to a folder, given {self.directory!r}: pass its path")
        if not os.fspath(self.directory):
            raise ValueError("checkpoints go to a folder, given an empty path: '.' is the working directory")
        if self.every is not None:
            require_count("every", self.every, least=1)
        require_count("keep", self.keep, least=1)
        require_bool("resume", self.resume)
        try:
            as_read = json.loads(json.dumps(dict(self.settings)))
        except (TypeError, ValueError) as error:
            raise TypeError(f"settings={self.settings!r}: pass a dict of JSON types ({error})") from error
        object.__setattr__(self, "settings", as_read)


class Store:
    """The checkpoints of a folder; without one none are written or found.

    Raises:
        FileExistsError: the folder holds some, and none was to be resumed.
        ImportError: Orbax is missing; names the extra.
        NotADirectoryError: a file is there.
    """

    def __init__(self, where: Checkpoints | None) -> None:
        """Open the folder."""
        self._where = where
        self._manager: Any = None
        self._described: list[str] = []
        if where is None:
            return
        try:
            import orbax.checkpoint as ocp
            from etils import epath
        except ImportError as error:
            raise ImportError(f"checkpoints need {error.name!r}: pip install 'tfjax[flax]'") from error

        text = os.fspath(where.directory)
        folder = epath.Path(text if "://" in text else Path(text).absolute())
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"checkpoints go to a folder, and {text} is a file")
        # Not in the background: on CPU what is written may share memory that is donated to the next step.
        options = ocp.CheckpointManagerOptions(max_to_keep=where.keep, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(folder, options=options)
        step = self._manager.latest_step()
        if step is not None and not where.resume:
            self.close()
            raise FileExistsError(f"{where.directory} holds a run at step {step}, and resume=False")

    @property
    def kept(self) -> bool:
        """Whether there is a folder to write to."""
        return self._manager is not None

    @property
    def every(self) -> int | None:
        """Batches between two checkpoints, where that was given."""
        return self._where.every if self._where else None

    def require_same(self, state: Any) -> None:
        """Raise TypeError where a checkpoint of this state could not be read for the one that the run began with."""
        if self._manager is not None and (now := described(state)) != self._described:
            differ = [f"{was} has become {new}" for was, new in zip(self._described, now, strict=True) if was != new]
            raise TypeError(
                f"{'; '.join(differ)} in the first step, so that no checkpoint could be resumed: begin with what the "
                "step makes of it, such as jnp.zeros((), jnp.int32)"
            )

    def save(self, step: int, state: Any, **rest: Any) -> None:
        """Write the state after `step` batches, and the other fields of `Saved`.

        Raises:
            OSError: it could not be written; those before it are whole.
        """
        if self._manager is None or self._where is None or step in self._manager.all_steps():
            return
        import orbax.checkpoint as ocp

        leaves = taken_apart(state)
        kept = {"format": FORMAT, "settings": dict(self._where.settings), "described": described(state)}
        items = {"run": ocp.args.JsonSave(kept | {"kinds": leaves.kinds, "plain": leaves.plain} | rest)}
        if leaves.arrays:  # Orbax refuses nothing at all
            items["leaves"] = ocp.args.StandardSave(leaves.arrays)
        before = self._manager.latest_step()
        try:
            self._manager.save(step, args=ocp.args.Composite(**items))
        except (OSError, ValueError, RuntimeError) as error:  # TensorStore reports a full disk as a ValueError
            last = "there is none before it" if before is None else f"that of step {before} is whole"
            raise OSError(
                f"the checkpoint of step {step} could not be written to {self._where.directory} ({error}): {last}; "
                "the run goes on from there"
            ) from error

    def restore(self, state: Any) -> Saved | None:
        """The last checkpoint, its arrays in the structure and on the devices of `state`; None where there is none.

        Raises:
            StateMismatchError: it is of another model or optimizer, was made with other settings or not by `fit`, or
                is damaged.
            TypeError: the state has a leaf of which a checkpoint would keep nothing.
        """
        if self._manager is None or self._where is None:
            return None
        self._described = described(state)
        step = self._manager.latest_step()
        if step is None:
            return None
        import orbax.checkpoint as ocp

        what = f"the checkpoint of step {step} in {self._where.directory}"
        with _readable(what):
            run = self._manager.restore(step, args=ocp.args.Composite(run=ocp.args.JsonRestore())).run
            if run["format"] != FORMAT:
                raise ValueError(f"its format is {run['format']!r}, not {FORMAT}")
        _check_settings(run["settings"], self._where.settings)
        _check_state(run["described"], self._described, what)
        arrays: list[Any] = targets(state, run["kinds"])
        if arrays:
            with _readable(what):
                leaves = ocp.args.StandardRestore(arrays)
                arrays = self._manager.restore(step, args=ocp.args.Composite(leaves=leaves)).leaves
        return Saved(
            state=put_together(state, Leaves(kinds=run["kinds"], arrays=arrays, plain=run["plain"])),
            step=step,
            position=run["position"],
            history=run["history"],
            callbacks=run["callbacks"],
            stopped=run["stopped"],
        )

    def close(self) -> None:
        """Release what Orbax holds."""
        if self._manager is not None:
            self._manager.close()


@contextlib.contextmanager
def _readable(what: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, OSError, ValueError) as error:  # of Orbax, TensorStore and JSON
        raise StateMismatchError(
            f"{what} cannot be read ({error}): it was not written by fit, or is damaged. Name another folder, or move "
            "that checkpoint away to go on from the one before it"
        ) from error


def _check_settings(then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    names = dict.fromkeys([*then, *now])
    differ = [f"{n} {then.get(n)!r}, now {now.get(n)!r}" for n in names if then.get(n) != now.get(n)]
    if differ:
        raise StateMismatchError(f"the checkpoint was made with {'; '.join(differ)}: resume with what it was made with")


def _check_state(then: list[str], now: list[str], what: str) -> None:
    if then == now:
        return
    gone, new = ([x for x in a if x not in set(b)] for a, b in ((then, now), (now, then)))
    shown = [f"{len(x)} leaves, such as {x[0]}" if x else "none that differs" for x in (gone, new)]
    if not gone and not new:
        shown = ["the same leaves in another order"] * 2
    raise StateMismatchError(
        f"{what} is of another model or optimizer: it has {shown[0]}, and this state {shown[1]}: resume with the model "
        "and the optimizer that it was made with, or name another folder"
    )
