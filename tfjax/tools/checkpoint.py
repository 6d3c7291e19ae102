"""Checkpoints of a run, by Orbax: arrays, position of the data, curves; written whole or not at all."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tfjax.tools.errors import UserError

KEPT = 2


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint: the state, the steps that made it, the data's position as JSON, the curves."""

    state: Any
    step: int
    position: str
    history: dict[str, Any]


class Checkpoints:
    """The checkpoints of one framework's run; with `directory=None` none are written or found.

    Args:
        directory: one run's own folder.
        training: what decides the parameters, kept in each checkpoint and compared on resume.
        resume: whether to go on from what is there. Without it a folder that holds checkpoints is refused.

    Raises:
        UserError: the folder holds another run, or one that was not asked to be resumed.
    """

    def __init__(self, directory: Path | None, *, training: Mapping[str, Any], resume: bool) -> None:
        """See the class."""
        self._training = dict(training)
        self._manager = None
        if directory is None:
            return
        import orbax.checkpoint as ocp

        # Not in the background: on CPU what is written may share memory that is donated to the next step.
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)
        step = self._manager.latest_step()
        if step is not None and not resume:
            raise UserError(f"{directory} holds a run at step {step}: add --resume, or name another --checkpoint-dir")

    @property
    def kept(self) -> bool:
        """Whether there is a folder to write to."""
        return self._manager is not None

    def save(self, step: int, state: Any, *, position: str, history: dict[str, Any]) -> None:
        """Write the state after `step` steps: parameters, optimizer and whatever else its leaves hold."""
        if self._manager is None or step in self._manager.all_steps():
            return
        import orbax.checkpoint as ocp

        run = {"training": self._training, "position": position, "history": history}
        self._manager.save(
            step,
            args=ocp.args.Composite(
                leaves=ocp.args.StandardSave(_arrays(state)),
                run=ocp.args.JsonSave(run),
            ),
        )

    def restore(self, state: Any) -> Saved | None:
        """The last checkpoint, its arrays in the structure of `state`; None where there is none.

        Raises:
            UserError: it was made with other settings.
        """
        step = None if self._manager is None else self._manager.latest_step()
        if self._manager is None or step is None:
            return None
        import orbax.checkpoint as ocp

        run = self._manager.restore(step, args=ocp.args.Composite(run=ocp.args.JsonRestore())).run
        self._check(run["training"])
        targets = [jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding) for a in _arrays(state)]
        found = self._manager.restore(step, args=ocp.args.Composite(leaves=ocp.args.StandardRestore(targets)))
        state = _with_arrays(state, found.leaves)
        return Saved(state=state, step=step, position=run["position"], history=run["history"])

    def _check(self, training: Mapping[str, Any]) -> None:
        pairs = {name: (training.get(name), value) for name, value in self._training.items()}
        differ = [f"{name} {was!r}, now {now!r}" for name, (was, now) in pairs.items() if was != now]
        if differ:
            raise UserError(f"the checkpoint was made with {'; '.join(differ)}: resume with what it was made with")

    def close(self) -> None:
        """Release what Orbax holds."""
        if self._manager is not None:
            self._manager.close()


def parameters_sha256(parameters: Any) -> str:
    """Digest of the arrays of a tree, their dtypes, shapes and bits, in the tree's order."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(parameters):
        array = np.ascontiguousarray(jax.device_get(leaf))
        digest.update(f"{array.dtype.name}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _is_saved(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and leaf.size > 0  # Orbax refuses empty arrays, and they hold nothing


def _arrays(tree: Any) -> list[jax.Array]:
    return [leaf for leaf in jax.tree.leaves(tree) if _is_saved(leaf)]


def _with_arrays(tree: Any, arrays: list[jax.Array]) -> Any:
    found = iter(arrays)
    return jax.tree.map(lambda leaf: next(found) if _is_saved(leaf) else leaf, tree)
