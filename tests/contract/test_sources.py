"""What holds of every source: its rows, their order, its identity and its end; `source_cases.py` has the sources."""

import gc
import json
import os
import pathlib
import re
import time
import weakref
from typing import Any

import jax
import numpy as np
import pytest

import tfjax
from tests.contract.source_cases import INDEXED, STREAMS, Case, N, Rows, rows
from tfjax.testing import assert_resumes_anywhere

BATCH = 8
STEPS = -(-N // BATCH)
CASES = {**INDEXED, **STREAMS}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("contract")


class Source:
    """A case in its folder."""

    def __init__(self, name: str, case: Case, folders: pathlib.Path) -> None:
        case.require()
        self.case, self._folder = case, folders / name.replace(" ", "-")

    def open(self, given: Rows | None = None, copy: str = "") -> "tfjax.Pipeline":
        """The pipeline over some rows; a `copy` has files of its own."""
        given = rows() if given is None else given
        folder = pathlib.Path(f"{self._folder}{copy}") / str(len(given["i"]))
        folder.mkdir(parents=True, exist_ok=True)
        return self.case.open(folder, given)

    def batches(self, *, order: bool = True) -> "tfjax.Pipeline":
        """Batches of all rows, in a shuffled order where there can be one."""
        return batched(self.open(), shuffled=order and not self.case.streams)


def batched(pipe: "tfjax.Pipeline", *, shuffled: bool) -> "tfjax.Pipeline":
    return (pipe.shuffle(seed=3) if shuffled else pipe).batch(BATCH, remainder="pad")


@pytest.fixture(params=CASES)
def source(request: pytest.FixtureRequest, folders: pathlib.Path) -> Source:
    return Source(request.param, CASES[request.param], folders)


@pytest.fixture(params=INDEXED)
def indexed(request: pytest.FixtureRequest, folders: pathlib.Path) -> Source:
    return Source(request.param, INDEXED[request.param], folders)


def values(pipe: "tfjax.Pipeline", **how: Any) -> list[dict[str, np.ndarray]]:
    with pipe.iterate(**how) as run:
        return [jax.tree.map(np.asarray, b) for b in run]


def bits(batches: list[dict[str, np.ndarray]]) -> list[dict[str, tuple[Any, ...]]]:
    return [{key: (a.dtype, a.shape, a.tobytes()) for key, a in sorted(b.items())} for b in batches]


def mesh(count: int) -> jax.sharding.Mesh:
    return jax.make_mesh((count,), ("data",), devices=jax.devices()[:count])


def source_of(pipe: "tfjax.Pipeline") -> Any:
    return pipe._chain[0].source


# Rows.


def test_the_rows_come_in_the_order_of_the_source(source: Source) -> None:
    got, wanted = values(source.open()), rows()
    if not source.case.ordered:
        got = sorted(got, key=lambda e: int(e["i"]))
    for key, leaf in wanted.items():
        np.testing.assert_array_equal(np.stack([e[key] for e in got]), leaf)


def test_length(source: Source) -> None:
    if source.case.counted:
        assert len(source.open()) == N and len(source.batches()) == STEPS
    else:
        with pytest.raises(TypeError, match="not known"):
            len(source.open())


def test_an_example_by_index(indexed: Source) -> None:
    pipe, wanted = indexed.open(), rows()
    for i in (0, 9, -2):
        example = pipe[i]
        for key, leaf in wanted.items():
            np.testing.assert_array_equal(example[key], leaf[i])


def test_spec_foretells_what_is_delivered_and_reads_nothing(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = source.batches()
    pipes = [source.open(), *(batches.place(mesh(count), "data") for count in (1, 2, 8))]
    method = "open" if source.case.streams else "fetch"
    with monkeypatch.context() as patched:
        patched.setattr(type(source_of(pipes[0])), method, lambda *_: pytest.fail("the source was read"))
        said = [pipe.spec for pipe in pipes]
    for pipe, spec in zip(pipes, said, strict=True):
        got = pipe.peek()
        assert jax.tree.structure(got) == jax.tree.structure(spec)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(spec), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            assert b.sharding is None or a.sharding == b.sharding


def test_every_row_comes_once_an_epoch(indexed: Source) -> None:
    got = values(indexed.batches(), epochs=2)
    orders = []
    for epoch in (got[:STEPS], got[STEPS:]):
        i, x = (np.concatenate([b[key][b["mask"]] for b in epoch]) for key in ("i", "x"))
        assert sorted(i.tolist()) == list(range(N))
        np.testing.assert_array_equal(x, rows()["x"][i])
        orders.append(i.tolist())
    assert orders[0] != orders[1] != sorted(orders[1])


# Order.


def test_the_order_is_that_of_arrays(indexed: Source) -> None:
    arrays = batched(tfjax.from_arrays(rows()), shuffled=True)
    assert bits(values(indexed.batches(), epochs=2)) == bits(values(arrays, epochs=2))


def test_devices_prefetch_and_parallelism_change_nothing(source: Source) -> None:
    pipe = source.batches()
    wanted = bits(values(pipe, epochs=2))
    for devices, ahead, calls in ((1, 0, 1), (2, 2, 4), (8, 5, 2)):
        placed = pipe.options(parallel_calls=calls).place(mesh(devices), "data", prefetch=ahead)
        with placed.iterate(epochs=2) as run:
            batches = list(run)
        assert all(len(b["x"].sharding.device_set) == devices for b in batches)
        assert bits([jax.tree.map(np.asarray, b) for b in batches]) == wanted, (devices, ahead, calls)


def test_stacks_hold_the_batches(source: Source) -> None:
    pipe = source.batches()
    stacks = values(pipe.stack(2), epochs=2)
    assert [len(s["x"]) for s in stacks] == [2, 1, 2, 1]
    assert bits([jax.tree.map(lambda leaf, i=i: leaf[i], s) for s in stacks for i in range(len(s["x"]))]) == bits(
        values(pipe, epochs=2)
    )


# State.


def test_two_runs_are_alike_and_a_run_is_resumed_at_every_step(source: Source) -> None:
    assert_resumes_anywhere(source.batches(), epochs=2)


def test_a_state_resumes_another_opening_of_the_source(source: Source) -> None:
    with source.batches().iterate(epochs=2) as run:
        next(run)
        state, rest = run.state, [jax.tree.map(np.asarray, b) for b in run]
    text = state.to_json()
    assert len(text) == state.size_bytes < (1024 if state.checkpoint is None else 20_000)
    assert bits(values(source.batches(), epochs=2, state=text)) == bits(rest)


def test_the_identity_is_of_json_and_holds_no_path(source: Source, folders: pathlib.Path) -> None:
    one, again = (source.open()._parts["source"] for _ in range(2))
    assert one == again == json.loads(json.dumps(one))
    assert str(folders) not in json.dumps(one) and not re.search(r'"/|ram:|0x[0-9a-f]{6}', json.dumps(one))


def test_the_identity_is_the_same_in_another_folder(source: Source) -> None:
    assert source.open()._parts["source"] == source.open(copy="-copy")._parts["source"]


def test_a_state_is_refused_over_other_data(source: Source) -> None:
    if source.case.named_by_code:
        pytest.skip("what a function yields is known by the name of the function")
    state = source.batches().iterate().state
    other = batched(source.open(rows(N + 1)), shuffled=not source.case.streams)
    with pytest.raises(tfjax.StateMismatchError, match=r"they differ in (\d+ )?source"):
        other.iterate(epochs=1, state=state)


# Its end.


def test_a_changed_file_is_found_when_a_run_begins(source: Source, tmp_path: pathlib.Path) -> None:
    pipe = source.case.open(tmp_path, rows()).batch(BATCH)
    values(pipe)
    if not source.case.files:
        pipe._plan.check()
        return
    path = sorted(tmp_path.glob(source.case.files))[-1]
    os.utime(path, ns=(5, 5))
    with pytest.raises(tfjax.CorruptDataError, match=rf"'{re.escape(str(path))}' changed while it was in use"):
        pipe.iterate()
    path.unlink()
    with pytest.raises(tfjax.CorruptDataError, match=rf"'{re.escape(str(path))}' .*is gone"):
        pipe.iterate()


def test_a_dropped_source_is_freed(source: Source) -> None:
    pipe = source.batches()
    refs = [weakref.ref(source_of(pipe))]
    run = pipe.place(mesh(2), "data").iterate(epochs=2)
    next(run)
    run.close()
    del pipe, run
    # The graph is let go by another thread, which takes its time on a busy machine.
    end = time.monotonic() + 20
    while refs[0]() is not None and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
    assert refs[0]() is None


def test_digits_are_those_of_scikit_learn(digits_dir: pathlib.Path) -> None:
    from sklearn.datasets import load_digits

    digits, chosen = load_digits(), np.flatnonzero(np.arange(1797) % 5 == 4)
    pipe = tfjax.load("digits", split="test", data_dir=digits_dir)
    seen = values(pipe.shuffle(seed=0).batch(50, remainder="keep").place(jax.devices()[1]))
    images, labels = (np.concatenate([b[key] for b in seen]) for key in ("image", "label"))
    wanted = {(digits.images[k].astype(np.uint8).tobytes(), int(digits.target[k])) for k in chosen}
    assert {(a.tobytes(), int(b)) for a, b in zip(images, labels, strict=True)} == wanted
    assert len(images) == len(chosen) == len(pipe)
