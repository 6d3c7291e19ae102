"""A folder that several processes fill, and one of them that is killed."""

import pathlib
import signal
import subprocess
from typing import Any

import numpy as np
import pytest

from tests import python_process
from tests.graph.cache.counted import wait_whole

N = 240
# Fills a cache with what is slow to compute; says how many rows it has had, then what it counted.
FILLS = """
    import os, time
    import numpy as np, tensorflow as tf, tfjax

    def slow(i):
        time.sleep(float(os.environ["SECONDS_A_ROW"]))
        return np.full((50, 50), i, np.float32), b"row %d " % i * (int(i) % 3)

    def fn(i):
        image, text = tf.numpy_function(slow, [i], [tf.float32, tf.string])
        return {{"image": tf.ensure_shape(image, (50, 50)), "text": tf.ensure_shape(text, ())}}

    pipe = tfjax.from_arrays(np.arange({rows})).map(fn, version="1").cache({path!r}, {how})
    pipe = pipe.keep_on_host("text").shuffle({seed}).options(parallel_calls=2).batch(4)
    seen = {{}}
    with pipe.iterate() as batches:
        for n, batch in enumerate(batches):
            images = np.asarray(batch["image"])
            for image, text in zip(images, batch["text"].tolist()):
                i = int(image[0, 0])
                assert (image == i).all() and text == b"row %d " % i * (i % 3), (image, text)
                seen[i] = True
            print("batch", n, flush=True)
        print("done", len(seen), batches.stats.misses, flush=True)
"""


def start(path: pathlib.Path, *, seed: int, seconds: float = 0.0, how: str = "") -> "subprocess.Popen[str]":
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SECONDS_A_ROW", str(seconds))  # no part of the code, which the cache is known by
        return python_process.start(FILLS.format(path=str(path), rows=N, seed=seed, how=how))


def finish(process: "subprocess.Popen[str]") -> tuple[int, int]:
    """The rows that a process saw, and those that it computed."""
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    _, seen, misses = out.strip().splitlines()[-1].split()
    return int(seen), int(misses)


def marked(path: pathlib.Path) -> int:
    return int(np.load(path / "filled.npy").sum())


def wait_for_batches(process: "subprocess.Popen[str]", batches: int) -> None:
    for line in iter(process.stdout.readline, ""):  # type: ignore[union-attr]
        if line.startswith(f"batch {batches}"):
            return
    pytest.fail(process.stderr.read())  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["", "compression='zlib'"])
def test_a_fill_that_is_killed_loses_nothing(how: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "c"
    for times in range(2):
        process = start(path, seed=times, seconds=0.01, how=how)
        wait_for_batches(process, 5)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert (process.returncode, path.exists()) == (-signal.SIGKILL, True)
    before = marked(path)
    assert 40 <= before < N and not (path / "manifest.json").exists()
    assert finish(start(path, seed=7, how=how)) == (N, N - before)
    wait_whole(path)
    assert marked(path) == N
    assert finish(start(path, seed=8, how=how)) == (N, 0)


@pytest.mark.slow
def test_two_processes_share_the_work(tmp_path: pathlib.Path) -> None:
    path: Any = tmp_path / "new" / "c"
    both = [start(path, seed=seed, seconds=0.02) for seed in (1, 2)]
    done = [finish(process) for process in both]
    assert [seen for seen, _ in done] == [N, N]
    computed = sum(misses for _, misses in done)
    assert N <= computed < 1.7 * N, "rows that one has computed are there for the other"
    wait_whole(path)
    assert marked(path) == N and [p.name for p in path.parent.iterdir()] == ["c"]
    assert finish(start(path, seed=3)) == (N, 0)


OPEN_AT_THE_END = """
    import sys, time, numpy as np, tensorflow as tf, tfjax

    def slow(example):
        def wait(x):
            time.sleep(0.02)
            return x
        return {"x": tf.ensure_shape(tf.numpy_function(wait, [example["x"]], tf.uint8), (64, 64, 3))}

    rows = tfjax.from_arrays({"x": np.zeros((200, 64, 64, 3), np.uint8)}).map(slow)
    batches = rows.cache(sys.argv[1]).batch(10).iterate(epochs=1)
    for _ in range(3):
        next(batches)
    print("end", flush=True)
"""


def test_a_process_ends_while_a_fill_is_open(tmp_path):
    """Descriptors that were closed first made what still wrote to them fail, and TensorFlow wait for ever."""
    code = OPEN_AT_THE_END.replace("sys.argv[1]", repr(str(tmp_path / "kept")))
    done = python_process.run(code, timeout_s=60)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
