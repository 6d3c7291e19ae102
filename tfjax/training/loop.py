"""The loop behind `fit`: one call of it, from the last checkpoint to the end of the data."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import jax
import numpy as np

from tfjax.state import State
from tfjax.training.callbacks import Callback
from tfjax.training.checkpoints import Saved, Store
from tfjax.training.evaluation import evaluate
from tfjax.training.history import History
from tfjax.training.nonfinite import NonFinite, error_at
from tfjax.training.preemption import BrokenOff, Notice
from tfjax.training.run import Run
from tfjax.training.step import Step, require_returned, scalars

_WINDOWS = 200  # rows of a history, where the length of the run is known
_WINDOW = 100  # updates of a row, where it is not
_IN_FLIGHT = 2  # steps that the device may be behind
_READ_TOGETHER = 16  # steps whose metrics are fetched in one go,
_READ_EVERY_S = 0.1  # or fewer, where steps are slow

Evaluate = tuple[Callable[[Any, Any], Mapping[str, Any]], Any]
"""An eval_step and the pipeline that it is run over."""


@dataclass(frozen=True, kw_only=True)
class Unread:
    """What a step returned, left on the device: its number, its examples, the metrics of rows, the loss of each."""

    number: int
    rows: int
    metrics: dict[str, Any]
    losses: Any


@dataclass(kw_only=True)
class Loop:
    """What `fit` was given, checked; `leading` counts the dimensions before those of an example."""

    step: Step
    evaluate: Evaluate | None
    callbacks: Sequence[Callback]
    store: Store
    nonfinite: NonFinite
    notice: Notice
    leading: int
    unread: list[Unread] = field(default_factory=list)
    read_at: float = 0.0

    def run(
        self, state: Any, pipe: Any, *, epochs: int | None, steps: int | None, values: Mapping[str, float] | None
    ) -> tuple[Any, History]:
        """The trained state, and what was logged."""
        saved = self.store.restore(state)
        epochs = 1 if epochs is None and steps is None else epochs
        run = self._begin(pipe, epochs, steps, saved)
        run.state = saved.state if saved else state
        position = State.from_json(saved.position) if saved else None
        batches = pipe.iterate(epochs=epochs, steps=steps, state=position, values=values)
        with batches, contextlib.ExitStack() as endings:
            for callback in self.callbacks:
                callback.on_begin(run)
                endings.callback(callback.on_end, run)
            if saved:
                self._restore_callbacks(saved.callbacks)
            if not run.stopped:
                self._train(run, batches)
        return run.state, run.history

    def _begin(self, pipe: Any, epochs: int | None, steps: int | None, saved: Saved | None) -> Run:
        try:
            per_epoch: int | None = len(pipe)
        except TypeError:  # how long an epoch is is not known
            per_epoch = None
        total = steps if steps is not None else per_epoch and per_epoch * (epochs or 1)
        window = max(1, total // _WINDOWS) if total else _WINDOW
        run = Run(
            steps=total,
            steps_per_epoch=per_epoch,
            evaluates=self.evaluate is not None,
            history=History(**(saved.history if saved else {}) | {"window": window}),
        )
        if saved:
            run.batches, run.stopped = saved.step, saved.stopped
            if total is not None and run.batches > total:
                raise ValueError(
                    f"the run is at step {run.batches} of the pipeline already, and {total} were asked for: ask for "
                    "more, or name another checkpoint_dir"
                )
        return run

    def _restore_callbacks(self, saved: list[dict[str, Any]]) -> None:
        """Each from the first one of its name that was saved and is not taken; a new one begins anew."""
        left = list(saved)
        for callback in self.callbacks:
            found = next((kept for kept in left if kept["name"] == type(callback).__name__), None)
            if found is not None:
                left.remove(found)
                callback.restore(found["saved"])

    def _train(self, run: Run, batches: Any) -> None:
        """Step after step, until the data ends, the run is stopped, or SIGTERM comes."""
        try:
            if run.batches and self._is_due(run):  # SIGTERM came before the evaluation there had ended
                self._evaluate(run)
            for batch in self._until_notice(run, batches):
                self._one(run, batch, batches)
                if run.stopped:
                    break
            if not self.notice.came:
                self._read(run, batches, all_of_them=True)
                self._evaluate(run)
        except BrokenOff:
            pass
        self._read(run, batches, all_of_them=True)
        self._save(run, batches)

    def _until_notice(self, run: Run, batches: Any) -> Iterator[Any]:
        """The batches; SIGTERM breaks off the wait for one, which the next run is given."""
        while not self.notice.came:
            with self.notice.breaking_off(lambda: batches.step == run.batches):
                try:
                    batch = next(batches)
                except StopIteration:
                    return
            yield batch

    def _one(self, run: Run, batch: Any, batches: Any) -> None:
        """A step, and what is due after it."""
        returned = self.step(run.state, batch)
        if not run.meter.started:
            require_returned(returned, run.state, stacked=self.leading > 1)
            self.store.require_same(returned[0])
        run.state, metrics = returned
        run.batches += 1
        rows = prod(jax.tree.leaves(batch)[0].shape[: self.leading])
        losses = metrics.get("losses") if isinstance(metrics, Mapping) else None
        self.unread.append(Unread(number=run.batches, rows=rows, metrics=scalars(metrics), losses=losses))
        evaluates = self._is_due(run)
        saves = self.store.every is not None and run.batches % self.store.every == 0
        self._read(run, batches, all_of_them=evaluates or saves or not run.meter.started)
        if run.stopped:
            self._read(run, batches, all_of_them=True)
        if evaluates or run.stopped:
            self._evaluate(run)
        if evaluates or saves or run.stopped:
            self._save(run, batches)
        if not self.unread:
            run.meter.start(batches.wait_s)

    def _is_due(self, run: Run) -> bool:
        """Whether an epoch or the run ends here."""
        ends_epoch = run.steps_per_epoch is not None and run.batches % run.steps_per_epoch == 0
        return ends_epoch or run.batches == run.steps

    def _read(self, run: Run, batches: Any, *, all_of_them: bool) -> None:
        """Fetch the metrics of the steps that are done, and hand them on; wait for a device that is far behind."""
        behind = 0 if all_of_them else _IN_FLIGHT
        if len(self.unread) <= behind:
            return
        now = time.perf_counter()
        if not all_of_them and len(self.unread) < _READ_TOGETHER and now - self.read_at < _READ_EVERY_S:
            jax.block_until_ready(self.unread[-1 - behind].metrics["loss"])
            return
        self.read_at = now
        done, self.unread = self.unread[: len(self.unread) - behind], self.unread[len(self.unread) - behind :]
        found = jax.device_get([step.metrics for step in done])
        run.meter.add(sum(step.rows for step in done), batches.wait_s)
        for step, values in zip(done, found, strict=True):
            losses = np.ravel(values["loss"])
            if not np.all(np.isfinite(losses)):
                self._not_finite(run, batches, step, losses)
                continue
            for i in range(losses.size):
                run.history.updates += 1
                when = {"step": run.history.updates, "epoch": run.epochs_after(step.number - 1 + (i + 1) / losses.size)}
                self._log(run, when | {name: float(np.ravel(v)[i]) for name, v in values.items()})

    def _log(self, run: Run, row: dict[str, float]) -> None:
        for callback in self.callbacks:
            callback.on_step(run, row)
        self._log_window(run, run.history.add(row))

    def _log_window(self, run: Run, row: dict[str, float] | None) -> None:
        if row is not None:
            for callback in self.callbacks:
                callback.on_log(run, row)

    def _not_finite(self, run: Run, batches: Any, step: Unread, loss: np.ndarray) -> None:
        """What the policy says of a step whose loss is not finite; of a stack, all its updates are left out."""
        first = int(np.argmin(np.isfinite(loss)))  # those after it in a stack are NaN on its account
        number = run.history.updates + first + 1
        of_rows = (_on_host(step.losses), batches.examples(step.number - 1))
        losses, examples = (_part(rows, loss.size, first) for rows in of_rows)
        error = error_at(number, float(loss[first]), losses, examples)
        if self.nonfinite == "raise":
            raise error
        run.history.skipped.append(step.number)
        if self.nonfinite == "stop":
            run.stop(str(error))

    def _evaluate(self, run: Run) -> None:
        """A row of the window so far, and the evaluation, where it was not made at this update before."""
        self._log_window(run, run.history.flush())
        made = run.history.evaluations
        if self.evaluate is None or (made and made[-1]["step"] == run.history.updates):
            return
        row = {"step": float(run.history.updates), "epoch": run.epochs_after(run.batches)}
        with self.notice.breaking_off():
            row |= evaluate(self.evaluate[0], run.state, self.evaluate[1])
        made.append(row)
        for callback in self.callbacks:
            callback.on_evaluation(run, row)

    def _save(self, run: Run, batches: Any) -> None:
        if not self.store.kept:
            return
        self.store.save(
            run.batches,
            run.state,
            position=batches.state.to_json(),
            history=run.history.to_json(),
            callbacks=[{"name": type(callback).__name__, "saved": _saved(callback)} for callback in self.callbacks],
            stopped=run.stopped,
        )


def _on_host(losses: Any) -> np.ndarray | None:
    """None where there are none, or other processes have some of them."""
    if losses is None or not getattr(losses, "is_fully_addressable", True):
        return None
    return np.asarray(jax.device_get(losses))


def _part(rows: np.ndarray | None, parts: int, which: int) -> np.ndarray | None:
    return None if rows is None or rows.size % parts else rows.reshape(parts, -1)[which]


def _saved(callback: Callback) -> dict[str, Any]:
    saved = callback.save()
    try:
        json.dumps(saved)
    except TypeError as error:
        raise TypeError(f"{type(callback).__name__}.save() returned {saved!r}: return JSON types ({error})") from error
    return saved
