"""Resuming at step 1, 1,000 and 1,000,000: the time to the first batch, and the size of the state.

The tfjax pipeline is shuffled and goes on over many epochs; the peers resume a tf.data pipeline by skipping, and by
TensorFlow's own checkpoint of an iterator with a shuffle buffer of 10,000 examples.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tfjax
from benchmarks.harness import Bench, Contender, Timed, arguments, require_equal
from tfjax._tensorflow import tf

ROWS, WIDTH, BATCH, BUFFER = 50_000, 256, 100, 10_000
STEPS = (1, 1_000, 1_000_000)


def rows() -> dict[str, np.ndarray]:
    """Examples of 1 KiB."""
    x = np.arange(ROWS * WIDTH, dtype=np.uint32).reshape(ROWS, WIDTH)
    return {"x": x, "y": np.arange(ROWS, dtype=np.int32)}


def pipeline(source: tfjax.Pipeline) -> tfjax.Pipeline:
    """Shuffled batches; `source` holds the arrays, which are copied once."""
    return source.shuffle(seed=0).batch(BATCH)


def state_at(pipe: tfjax.Pipeline, step: int) -> str:
    """The state after `step` batches, as JSON: taken at step 0, with another number."""
    with pipe.iterate(forever=True) as batches:
        return dataclasses.replace(batches.state, step=step).to_json()


def resume(source: tfjax.Pipeline, text: str) -> Callable[[], Timed]:
    """A new pipeline, resumed: its planning is timed too."""

    def timed() -> int:
        with pipeline(source).iterate(forever=True, state=text) as batches:
            next(batches)
        return 1

    return lambda: timed


def resume_planned(pipe: tfjax.Pipeline, text: str) -> Callable[[], Timed]:
    """A pipeline that has run before in this process, resumed."""

    def timed() -> int:
        with pipe.iterate(forever=True, state=text) as batches:
            next(batches)
        return 1

    return lambda: timed


def tf_dataset(arrays: Any) -> tf.data.Dataset:
    """The usual shuffled graph, over many epochs."""
    return tf.data.Dataset.from_tensor_slices(arrays).shuffle(BUFFER, seed=0).repeat().batch(BATCH)


def skipping(arrays: Any, step: int) -> Callable[[], Timed]:
    """`ds.skip(step)` and the first batch."""

    def timed() -> int:
        next(iter(tf_dataset(arrays).skip(step)))
        return 1

    return lambda: timed


def skipping_range(step: int) -> Callable[[], Timed]:
    """`ds.skip(step)` over plain numbers, the least that it can cost."""

    def timed() -> int:
        next(iter(tf.data.Dataset.range(10**9).skip(step)))
        return 1

    return lambda: timed


def checkpointed(bench: Bench, arrays: Any, folder: Path) -> Callable[[], Timed]:
    """TensorFlow's checkpoint of an iterator, restored into a new one, and the first batch."""
    batches = iter(tf_dataset(arrays))
    next(batches)
    path = tf.train.Checkpoint(iterator=batches).save(str(folder / "iterator"))
    size = sum(file.stat().st_size for file in folder.glob("iterator*"))
    bench.fact("TensorFlow's checkpoint with a buffer of 10,000 examples of 1 KiB, MiB", round(size / 2**20, 2))

    def timed() -> int:
        fresh = iter(tf_dataset(arrays))
        tf.train.Checkpoint(iterator=fresh).read(path).expect_partial()
        next(fresh)
        return 1

    return lambda: timed


def require_right(pipe: tfjax.Pipeline) -> None:
    """A run resumed at a step delivers what the whole run delivers there."""
    at = 1_003
    with pipe.iterate(forever=True) as batches:
        for _ in range(at):
            next(batches)
        state, want = batches.state, np.asarray(next(batches)["y"]).tolist()
    require_equal("the state made by hand and the iterator's", state_at(pipe, at), state.to_json())
    with pipe.iterate(forever=True, state=state) as batches:
        require_equal("the batch after resuming", np.asarray(next(batches)["y"]).tolist(), want)


def main() -> None:
    """Measure tfjax at three steps, and its peers at those that end in time."""
    bench = Bench("resume", "resuming: time to the first batch", quick=arguments(__doc__).quick)
    arrays = {key: tf.constant(value) for key, value in rows().items()}
    source = tfjax.from_arrays(arrays)
    pipe = pipeline(source)
    require_right(pipe)
    texts = {step: state_at(pipe, step) for step in STEPS}
    bench.claim("state, bytes of JSON", [float(len(text)) for text in texts.values()], "B", "at most", 1024)
    contenders = [Contender(f"tfjax, new pipeline, step {n:,}", resume(source, t)) for n, t in texts.items()]
    contenders += [Contender(f"tfjax, planned, step {n:,}", resume_planned(pipe, t)) for n, t in texts.items()]
    peers = STEPS[:1] if bench.quick else STEPS[:2]
    contenders += [Contender(f"ds.skip, shuffled, step {n:,}", skipping(arrays, n)) for n in peers]
    contenders += [Contender(f"ds.skip over a range, step {n:,}", skipping_range(n)) for n in STEPS]
    with tempfile.TemporaryDirectory() as scratch:
        contenders.append(Contender("TensorFlow checkpoint", checkpointed(bench, arrays, Path(scratch))))
        table = bench.measure("new iterator, first batch", contenders, unit="resume")
    first, last = (table[f"tfjax, new pipeline, step {n:,}"] for n in (STEPS[0], STEPS[-1]))
    grows = [b.seconds / a.seconds for a, b in zip(first, last, strict=True)]
    noise = [s.seconds / statistics.median(x.seconds for x in first) for s in first]
    bench.fact("spread of step 1 alone, highest over median", round(max(noise), 2))
    bench.claim("time at step 1,000,000 over step 1", grows, "x", "at most", 1.25)
    bench.claim("time at step 1,000,000 with planning", [s.seconds * 1e3 for s in last], "ms", "at most", None, 100)
    bench.write()


if __name__ == "__main__":
    main()
