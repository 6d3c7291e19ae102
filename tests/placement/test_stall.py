"""A producer that hangs is named, and a forked process says so."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import tfjax
from tests import python_process
from tests.placement.test_prefetch import Hanging
from tfjax.placement import prefetch
from tfjax.placement.prefetch import Prefetcher


class TestStalls:
    @pytest.fixture(autouse=True)
    def no_limit_left(self) -> Iterator[None]:
        yield
        tfjax.configure(stall_timeout_s=None)

    def test_a_limit_raises_and_says_where_the_thread_is(self) -> None:
        tfjax.configure(stall_timeout_s=0.05)
        hanging = Hanging()
        items = Prefetcher(lambda: hanging, size=1)
        assert next(items) == 0
        for _ in range(2):  # the iterator is as it was
            with pytest.raises(tfjax.StalledPipelineError, match=r"no batch came for 0.05 s.*is in \w+, line \d+ of"):
                next(items)
        tfjax.configure(stall_timeout_s=None)
        hanging.go.set()
        assert list(items) == []

    def test_without_a_limit_it_warns_once_and_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(prefetch, "_SILENCE_S", 0.05)
        hanging = Hanging()
        items = Prefetcher(lambda: hanging, size=1)
        assert next(items) == 0
        timer = threading.Timer(0.2, hanging.go.set)
        timer.start()
        with pytest.warns(UserWarning, match="no batch came for 0.05 s, still waiting") as said:
            assert list(items) == []
        assert len(said) == 1
        timer.join()

    def test_the_wait_is_counted(self) -> None:
        tfjax.configure(stall_timeout_s=0.05)
        hanging = Hanging()
        items = Prefetcher(lambda: hanging, size=1)
        assert next(items) == 0
        with pytest.raises(TimeoutError):
            next(items)
        assert items.wait_s >= 0.05
        hanging.go.set()
        items.close()

    @pytest.mark.parametrize("limit", [0, -1, True, "5", float("inf"), float("nan")], ids=str)
    def test_what_is_no_limit(self, limit: Any) -> None:
        with pytest.raises(TypeError, match="stall_timeout_s is"):
            tfjax.configure(stall_timeout_s=limit)


def test_a_fork_says_so_and_does_not_hang() -> None:
    code = """
    import os, sys, warnings
    warnings.simplefilter("ignore")
    import numpy as np, tfjax
    pipe = tfjax.from_arrays({"x": np.arange(8)}).batch(2)
    before = pipe.iterate(forever=True)
    other = tfjax.prefetch_to_device([np.zeros(2)] * 9, size=0)
    next(before), next(other)
    pid = os.fork()
    if pid == 0:
        for use in (lambda: next(before), lambda: next(other), pipe.iterate, pipe.peek,
                    lambda: tfjax.prefetch_to_device([np.zeros(2)])):
            try:
                use()
                print("no error")
            except RuntimeError as error:
                print("spawn" in str(error))
        before.close()
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)
    print(next(before)["x"].tolist())
    """
    done = python_process.run(code)
    assert done.stdout == "True\n" * 5 + "[2, 3]\n", done.stderr
