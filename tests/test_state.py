"""The state of an iterator: small, exact, and about what was delivered, never about what was prefetched."""

import dataclasses
import itertools
import json
import threading
import time
import warnings
from typing import Any

import numpy as np
import pytest

import tfjax
from tests import oracle
from tests.oracle import functions as f
from tfjax.state import State


def long_chain() -> oracle.Chain:
    """Twenty stages."""
    source = oracle.Arrays([{"x": np.int32(i), "y": np.float32(i)} for i in range(40)])
    maps = (oracle.Map(f.NEGATE), oracle.RandomMap(f.TOSS), oracle.Map(f.FLIP), oracle.RandomMap(f.TOSS)) * 3
    before = (
        oracle.Seed(3),
        oracle.Filter(f.SOME),
        oracle.Skip(1),
        oracle.Split((("a", 0.8), ("b", 0.2)), "a", 5),
    )
    chain = oracle.Chain(source, (*before, oracle.Shuffle(2), *maps, oracle.Take(15), oracle.Batch(4, "pad")))
    return chain.then(oracle.DeviceMap(f.NEGATE_BATCH))


def short_chain(n: int = 10) -> oracle.Chain:
    """Shuffled batches of 3 with the seeds of one random op."""
    source = oracle.Arrays([{"x": np.int32(i)} for i in range(n)])
    return oracle.Chain(source, (oracle.Shuffle(1), oracle.RandomMap(f.EXPOSE), oracle.Batch(3, "keep")))


def at_step(pipe: "tfjax.Pipeline", step: int) -> State:
    """The state that a run would have after so many steps."""
    with pipe.iterate(forever=True) as batches:
        fields = json.loads(batches.state.to_json())
    return State.from_json(json.dumps(fields | {"step": step}))


def test_a_state_of_twenty_stages_is_under_a_kilobyte() -> None:
    chain = long_chain()
    assert len(chain.stages) >= 20
    with chain.write().iterate(forever=True) as batches:
        oracle.check_run(itertools.islice(batches, 9), oracle.run(chain, 9))
        text = batches.state.to_json()
    assert len(text.encode()) < 1024
    assert json.loads(text)["step"] == 9
    oracle.check_run(itertools.islice(resumed(chain, text), 3), oracle.run(chain, 12, begin=9))


def resumed(chain: oracle.Chain, text: str) -> Any:
    """A freshly written pipeline, from the state on, for ever."""
    with chain.write().iterate(forever=True, state=State.from_json(text)) as batches:
        yield from batches


def test_json_round_trip() -> None:
    with short_chain().write().iterate(epochs=2) as batches:
        next(batches)
        state = batches.state
    again = State.from_json(state.to_json())
    assert again == state
    assert again.to_json() == state.to_json()


def test_a_state_does_not_move_with_its_iterator() -> None:
    with short_chain().write().iterate(epochs=2) as batches:
        state = batches.state
        text = state.to_json()
        next(batches)
        assert state.to_json() == text != batches.state.to_json()


def test_delivered_batches_count_and_prefetched_ones_do_not() -> None:
    pipe = short_chain(90).write()
    with pipe.iterate(epochs=2) as batches:
        time.sleep(0.3)  # for the prefetcher to run ahead
        assert json.loads(batches.state.to_json())["step"] == batches.step == 0
        next(batches)
        time.sleep(0.3)
        assert json.loads(batches.state.to_json())["step"] == batches.step == 1


def test_the_state_of_a_finished_or_closed_run_can_be_read() -> None:
    chain = short_chain()
    pipe = chain.write()
    with pipe.iterate(epochs=1) as batches:
        list(batches)
    end = batches.state
    assert list(pipe.iterate(epochs=1, state=end)) == []
    with pipe.iterate(epochs=2, state=end) as rest:
        oracle.check_run(rest, oracle.run(chain, 8, begin=4))


@pytest.mark.parametrize("step", [10**9, 10**9 + 3])
def test_resume_at_a_billion_is_arithmetic(step: int) -> None:
    chain = short_chain()
    pipe = chain.write()
    state = at_step(pipe, step)
    expected = list(oracle.run(chain, step + 6, begin=step))
    with pipe.iterate(forever=True, state=state) as batches:
        assert (batches.step, batches.epoch) == (step, step // 4)
        oracle.check_run(itertools.islice(batches, 6), expected)
        assert json.loads(batches.state.to_json())["step"] == step + 6
    with pipe.iterate(steps=step + 6, state=state) as batches:
        oracle.check_run(batches, expected)
    with pipe.iterate(epochs=1, start_epoch=step // 4) as batches:
        oracle.check_run(batches, oracle.run(chain, 4, start_epoch=step // 4))


@pytest.mark.parametrize(("step", "end"), [(0, 4), (1, 4), (3, 4), (4, 8), (5, 8)])
def test_a_state_alone_means_to_the_end_of_its_epoch(step: int, end: int) -> None:
    chain = short_chain()
    pipe = chain.write()
    with pipe.iterate(state=at_step(pipe, step)) as batches:
        oracle.check_run(batches, oracle.run(chain, end, begin=step))


def test_totals_are_counted_from_start_epoch() -> None:
    chain = short_chain()
    pipe = chain.write()
    with pipe.iterate(epochs=3, start_epoch=2) as batches:
        oracle.check_run(itertools.islice(batches, 5), oracle.run(chain, 5, start_epoch=2))
        state = batches.state
    for how, end in (({"epochs": 3}, 12), ({"steps": 7}, 7), ({}, 8)):
        with pipe.iterate(state=state, **how) as batches:
            oracle.check_run(batches, oracle.run(chain, end, start_epoch=2, begin=5))


BROKEN = {
    "cut off": lambda text: text[: len(text) // 2],
    "empty": lambda _: "",
    "another type": lambda _: "[1, 2]",
    "a number": lambda _: "7",
    "no step": lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "step"}),
    "a negative step": lambda text: json.dumps(json.loads(text) | {"step": -1}),
    "a step that is text": lambda text: json.dumps(json.loads(text) | {"step": "three"}),
    "a fractional step": lambda text: json.dumps(json.loads(text) | {"step": 1.5}),
    "parts that are numbers": lambda text: json.dumps(json.loads(text) | {"parts": [1]}),
    "a part without a hash": lambda text: json.dumps(json.loads(text) | {"parts": ["source"]}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_text_is_a_clear_error(name: str) -> None:
    with short_chain().write().iterate() as batches:
        text = batches.state.to_json()
    with pytest.raises(ValueError, match=r"(?i)state"):
        State.from_json(BROKEN[name](text))


def test_json_that_is_no_state() -> None:
    with pytest.raises(tfjax.StateMismatchError, match=r"this is no tfjax state: '{}'"):
        short_chain().write().iterate(state="{}")


def test_a_state_of_another_format_version() -> None:
    with short_chain().write().iterate() as batches:
        fields = json.loads(batches.state.to_json())
    with pytest.raises(tfjax.StateMismatchError, match=r"format 999.*1"):
        State.from_json(json.dumps(fields | {"format": 999}))


@pytest.mark.parametrize("wrong", [{"step": 1}, 3, b"{}"])
def test_only_a_state_is_a_state(wrong: object) -> None:
    with pytest.raises(TypeError, match="pass a State"):
        short_chain().write().iterate(state=wrong)


def test_caches_placement_and_options_are_not_in_the_fingerprint() -> None:
    chain = short_chain()
    pipe = chain.write()
    with pipe.iterate(epochs=2) as batches:
        next(batches)
        state = batches.state
    cached = oracle.Chain(chain.source, (oracle.Cache(), *chain.stages)).write()
    for other in (cached, pipe.options(parallel_calls=1), pipe.place(__import__("jax").devices()[3])):
        with other.iterate(epochs=2, state=state) as batches:
            oracle.check_run(batches, oracle.run(chain, 8, begin=1))


def test_the_same_run_twice_gives_the_same_batches() -> None:
    chain = short_chain()
    pipe = chain.write()
    for _ in range(2):
        with pipe.iterate(epochs=2) as batches:
            oracle.check_run(batches, oracle.run(chain, 8))


def test_a_second_plain_iter_of_a_shuffled_pipeline_warns_once() -> None:
    pipe = short_chain().write()
    for _ in pipe:
        pass
    with pytest.warns(UserWarning, match=r"iterate\(epochs="):
        for _ in pipe:
            pass
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in pipe:
            pass
        for _ in range(3):
            for _ in tfjax.from_arrays(np.arange(4)).batch(2):
                pass


def test_two_iterators_of_one_pipeline_do_not_disturb_each_other() -> None:
    chain = short_chain()
    pipe = chain.write()
    expected = list(oracle.run(chain, 8))
    with pipe.iterate(epochs=2) as one, pipe.iterate(epochs=2) as other:
        for step in range(8):
            oracle.check_same(next(one), expected[step])
            if step % 2:
                oracle.check_same(next(other), expected[step // 2])
        assert (one.step, other.step) == (8, 4)


def test_no_thread_is_left_behind() -> None:
    before = threading.active_count()
    pipe = short_chain(90).write()
    for _ in range(3):
        with pipe.iterate(forever=True) as batches:
            next(batches)
        batches.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def checkpointed() -> Any:
    dataset = __import__("tensorflow").data.Dataset.range(20).shuffle(5, seed=1)
    return tfjax.from_tf(dataset, state="checkpoint").batch(4)


def checkpoint_state() -> State:
    with checkpointed().iterate(epochs=2) as batches:
        next(batches)
        return batches.state


def test_a_checkpoint_is_base64_in_json_and_its_size_is_said() -> None:
    state = checkpoint_state()
    assert State.from_json(state.to_json()) == state
    assert state.size_bytes == len(state.to_json()) > 1024
    assert set(json.loads(state.to_json())) - {"checkpoint"} == set(
        json.loads(short_chain().write().iterate().state.to_json())
    )
    assert "checkpoint" not in short_chain().write().iterate().state.to_json()
    small = short_chain().write().iterate().state
    assert small.size_bytes == len(small.to_json()) < 1024


DAMAGED = {
    "cut off": lambda held: held[:-9],
    "a bit flipped": lambda held: held[:-40] + bytes([held[-40] ^ 1]) + held[-39:],
    "of TensorFlow's own": lambda held: held[80:],
    "empty": lambda _: b"",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_checkpoint_is_refused_before_tensorflow_sees_it(name: str) -> None:
    state = checkpoint_state()
    broken = dataclasses.replace(state, checkpoint=DAMAGED[name](state.checkpoint))
    with pytest.raises(
        tfjax.StateMismatchError, match=r"the state's checkpoint (of \d+ bytes was cut off|begins with)"
    ):
        checkpointed().iterate(epochs=2, state=broken)


def test_a_checkpoint_beside_another_step_is_refused() -> None:
    moved = dataclasses.replace(checkpoint_state(), step=3)
    with pytest.raises(tfjax.StateMismatchError, match="says step 3, and its checkpoint says 1"):
        checkpointed().iterate(epochs=2, state=moved)


@pytest.mark.parametrize("wrong", ["not base64!", 7, "abc"])
def test_a_checkpoint_that_is_no_base64(wrong: object) -> None:
    fields = json.loads(checkpoint_state().to_json()) | {"checkpoint": wrong}
    with pytest.raises(tfjax.StateMismatchError, match=r"'checkpoint' is no base64"):
        State.from_json(json.dumps(fields))
