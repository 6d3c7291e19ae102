"""The training loop: `fit` runs a step over a pipeline, evaluates, logs, saves, resumes, and stops when it should."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from tfjax._arguments import require_bool, require_count
from tfjax._random_stages import require_deterministic
from tfjax.training.callbacks import Callback
from tfjax.training.checkpoints import Checkpoints, Store
from tfjax.training.history import History
from tfjax.training.loop import Evaluate, Loop
from tfjax.training.nonfinite import NonFinite, guarded, require_policy
from tfjax.training.preemption import Preempted, noted
from tfjax.training.step import Step, require_batches


class Fitted(NamedTuple):
    """What `fit` returns: the trained state, and the metrics along the way."""

    state: Any
    history: History


def fit(
    step: Step,
    state: Any,
    pipe: Any,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    evaluate: Evaluate | None = None,
    allow_random: bool = False,
    callbacks: Sequence[Callback] = (),
    checkpoint_dir: str | os.PathLike[str] | Checkpoints | None = None,
    progress: bool | Callback = True,
    nonfinite: NonFinite = "raise",
    values: Mapping[str, float] | None = None,
    compilation_cache_dir: str | os.PathLike[str] | None = None,
) -> Fitted:
    """Train over a pipeline.

    With `checkpoint_dir` a run that ended, however it ended, goes on from its last checkpoint when it is called again:
    parameters, optimizer, random state, the position of the data, history and callbacks, to the bit. SIGTERM saves one
    and ends the process with the exit code 143; it breaks off an evaluation and the wait for a batch.

    Args:
        step: (state, batch) to (state, metrics), as `train_step` of `tfjax.frameworks.linen` and the others makes
            them, `scan_steps` over such a one, or your own, which may donate the state. Metrics are a dict of scalars
            with "loss" among them, or the loss alone; of a stack of k batches, (k,) each. What is no scalar is not
            logged, but "losses", one for each example, name the examples of a loss that is not finite.
        state: any pytree of arrays and numbers; it is donated if the step donates it, or `nonfinite` is not "raise".
        pipe: a pipeline of batches, or of stacks of them.
        epochs: passes of the whole run; 1 where no total is given.
        steps: batches of the whole run, or stacks of them; what was done before a resume counts.
        evaluate: (eval_step, pipeline): after each epoch, where it is known how long one is, and at the end of the run.
        allow_random: evaluate on a pipeline that shuffles or augments, which is refused otherwise.
        callbacks: see `tfjax.training.Callback`.
        checkpoint_dir: a folder, or `Checkpoints`, which say how often and how many. Functions among the leaves of the
            state are not kept, and those of `state` hold after a resume.
        progress: a bar or lines on stderr; False for none, or a callback of your own.
        nonfinite: what becomes of a loss that is NaN or infinite: "raise", naming the step and the examples; "skip"
            leaves the update out, notes it in `history.skipped`, and goes on; "stop" leaves it out and ends the run.
            Both run the step under `jax.jit`, and leave out all the updates of a stack.
        values: named numbers for the ops of the pipeline, as `iterate(values=)` takes them.
        compilation_cache_dir: where JAX keeps what took it over a second to compile, for the next process. It holds
            for the whole process.

    Returns:
        (state, history).

    Raises:
        NonFiniteLossError: the loss is not finite, and `nonfinite` is "raise".
        StateMismatchError: the checkpoint is of another model, optimizer or pipeline.
        TypeError: an argument of another kind, or a step that returns something else.
        ValueError: a pipeline that cannot be iterated as asked, a checkpoint beyond the total, or evaluation on a
            pipeline that shuffles or augments.
        OSError: a checkpoint could not be written; the one before it is whole.
        Preempted: SIGTERM came while the main thread was in here, and a checkpoint was written: a `SystemExit`.

    Example:
        >>> import optax, tfjax
        >>> from tfjax.frameworks import linen
        >>> from tfjax.training import classification, cross_entropy
        >>> train = tfjax.load("digits").shuffle(seed=0).batch(64)
        >>> test = tfjax.load("digits", split="test").batch(64, remainder="pad")
        >>> state = linen.create_state(linen.small_cnn(10), optax.adam(5e-3), train.spec)
        >>> step, metrics = linen.train_step(cross_entropy()), linen.eval_step(classification())
        >>> state, history = tfjax.fit(step, state, train, epochs=2, evaluate=(metrics, test), progress=False)
        >>> history.evaluations[-1]["accuracy"] > 0.8
        True
    """
    require_policy(nonfinite)
    if not callable(step):
        raise TypeError(f"fit takes a step, which is a function, given a {type(step).__name__}: fit(step, state, pipe)")
    for name, total in (("epochs", epochs), ("steps", steps)):
        if total is not None:
            require_count(name, total, least=1)
    leading = require_batches(pipe, "fit")
    _require_evaluate(evaluate, allow_random)
    watching = [*_require_callbacks(callbacks), *_reporters(progress)]
    if compilation_cache_dir is not None:
        _keep_compiled(compilation_cache_dir)
    where = checkpoint_dir if isinstance(checkpoint_dir, Checkpoints | None) else Checkpoints(checkpoint_dir)
    with contextlib.closing(Store(where)) as store, noted(active=store.kept) as notice:
        loop = Loop(
            step=step if nonfinite == "raise" else guarded(step, nonfinite),
            evaluate=evaluate,
            callbacks=watching,
            store=store,
            nonfinite=nonfinite,
            notice=notice,
            leading=leading,
        )
        fitted = Fitted(*loop.run(state, pipe, epochs=epochs, steps=steps, values=values))
    if notice.came and where:
        raise Preempted(f"SIGTERM: the run is saved in {where.directory}; the same call of fit goes on from there")
    return fitted


def _require_evaluate(evaluate: Any, allow_random: bool) -> None:
    require_bool("allow_random", allow_random)
    if evaluate is None:
        return
    if not isinstance(evaluate, tuple | list) or len(evaluate) != 2 or not callable(evaluate[0]):
        raise TypeError(f"evaluate takes (eval_step, pipeline), given {evaluate!r}")
    require_batches(evaluate[1], "fit(evaluate=)")
    if not allow_random:
        require_deterministic(evaluate[1], "fit(evaluate=)")


def _require_callbacks(callbacks: Any) -> Sequence[Callback]:
    try:
        found = list(callbacks)
    except TypeError:
        raise TypeError(f"callbacks takes a list of callbacks, given {callbacks!r}") from None
    for callback in found:
        if not isinstance(callback, Callback):
            fix = f": call it, {callback.__name__}(...)" if isinstance(callback, type) else ""
            raise TypeError(
                f"callbacks takes objects of subclasses of tfjax.training.Callback, given {callback!r}{fix}"
            )
    return found


def _keep_compiled(folder: str | os.PathLike[str]) -> None:
    """JAX looks at the setting when it first compiles, and not again unless it is told to."""
    from jax.experimental.compilation_cache.compilation_cache import reset_cache

    jax.config.update("jax_compilation_cache_dir", os.fspath(folder))
    reset_cache()


def _reporters(progress: bool | Callback) -> list[Callback]:
    if isinstance(progress, Callback):
        return [progress]
    if not isinstance(progress, bool):
        raise TypeError(f"progress takes True, False or a callback, given {progress!r}")
    if not progress:
        return []
    try:
        from tfjax.training.progress import reporter
    except ImportError as error:
        raise ImportError(f"progress needs {error.name!r}: pip install 'tfjax[cli]', or give progress=False") from error
    return [reporter()]
