"""`fit` itself: the same step over the same batches in `tfjax.fit` and in a loop by hand, which logs nothing."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn

import tfjax
from benchmarks.harness import Bench, Contender, Timed, arguments, require_equal
from tfjax.frameworks import linen
from tfjax.training import cross_entropy

REPEATS, RATE = 16, 1e-3
FIT, SHOWN, LOOP = "fit, progress=False", "fit, with its progress", "loop by hand"
Run = Callable[[Any, int], Any]
"""(state, steps) to the trained state."""


def pipe_of(size: int) -> tfjax.Pipeline:
    """Shuffled batches of the digits of scikit-learn, repeated, from memory."""
    from sklearn.datasets import load_digits

    found = load_digits()
    image = np.tile(found.images.astype(np.float32)[..., None] / 16, (REPEATS, 1, 1, 1))
    rows = {"image": image, "label": np.tile(found.target.astype(np.int32), REPEATS)}
    return tfjax.from_arrays(rows).shuffle(seed=0).batch(size)


def dense() -> nn.Module:
    """A small step: most of its time is Python and the dispatch."""
    return nn.Sequential([lambda x: x.reshape(len(x), -1), nn.Dense(128), nn.relu, nn.Dense(10)])


def ways(pipe: tfjax.Pipeline, step: Any) -> dict[str, Run]:
    """The contenders; all call the same compiled step."""

    def by_hand(state: Any, steps: int) -> Any:
        with pipe.iterate(steps=steps) as batches:
            for batch in batches:
                state, _ = step(state, batch)
        return state

    def fitted(state: Any, steps: int, *, progress: bool = False) -> Any:
        return tfjax.fit(step, state, pipe, steps=steps, progress=progress).state

    def shown(state: Any, steps: int) -> Any:
        with contextlib.redirect_stderr(io.StringIO()):
            return fitted(state, steps, progress=True)

    return {FIT: fitted, SHOWN: shown, LOOP: by_hand}


def going_on(run: Run, state: Any, steps: int) -> Callable[[], Timed]:
    """So many steps a sample, from the state that the last one left."""
    states = [state]

    def timed() -> int:
        states.append(jax.block_until_ready(run(states.pop(), steps)))
        return steps

    return lambda: timed


def main() -> None:
    """Compare, then measure."""
    bench = Bench("fit", "tfjax.fit over a loop by hand, the same step and batches", quick=arguments(__doc__).quick)
    cases = (
        ("a step of two dense layers", dense(), 128, 8192),
        ("a step of a small CNN", linen.small_cnn(10), 128, 512),
    )
    for what, model, size, count in cases:
        pipe, steps = pipe_of(size), bench.size(count, 32)
        step = linen.train_step(cross_entropy())
        runs = ways(pipe, step)

        def first(model: nn.Module = model, pipe: tfjax.Pipeline = pipe) -> Any:
            return linen.create_state(model, optax.adam(RATE), pipe.spec)

        trained = {name: jax.tree.map(np.asarray, run(first(), 20).params) for name, run in runs.items()}
        for name in (FIT, SHOWN):
            same = jax.tree.all(jax.tree.map(np.array_equal, trained[name], trained[LOOP]))
            require_equal(f"parameters of {name} and of the loop, which are the same,", same, True)
        contenders = [Contender(n, going_on(run, first(), steps), floor=n == LOOP) for n, run in runs.items()]
        table = bench.measure(f"{what}, batch {size}", contenders, unit="step")
        bench.claim_within(what, table, FIT, LOOP, firm=1.03)
        bench.claim_within(f"{what}, with progress", table, SHOWN, LOOP, firm=1.03)
    bench.write()


if __name__ == "__main__":
    main()
