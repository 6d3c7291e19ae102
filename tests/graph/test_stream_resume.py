"""Resuming a stream, by replay and from a checkpoint: what is left equals what is left of a run without a stop."""

import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import tfjax
from tests import python_process
from tfjax.errors import SpecError, StateMismatchError, TfjaxError

Dataset = tf.data.Dataset
Chain = list[tuple[str, tuple[Any, ...]]]
MODES = ("replay", "checkpoint")


def source(n: int = 23) -> Dataset:
    """Interleaved in parallel, and shuffled anew each epoch."""
    parts = Dataset.range(0, n, 5).interleave(
        lambda i: Dataset.range(i, tf.minimum(i + 5, n)), cycle_length=2, num_parallel_calls=2, deterministic=True
    )
    return parts.shuffle(7, seed=3).map(lambda x: {"x": x, "name": tf.strings.as_string(x)}, num_parallel_calls=2)


def double(e: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return {**e, "x": e["x"] * 2}


def toss(e: dict[str, tf.Tensor], seed: tf.Tensor) -> dict[str, tf.Tensor]:
    return {**e, "r": tf.random.stateless_uniform((), seed)}


def some(e: dict[str, tf.Tensor]) -> tf.Tensor:
    return e["x"] % 7 != 3


def build(chain: Chain, mode: str, prefetch: int, n: int = 23) -> "tfjax.Pipeline":
    pipe = tfjax.from_tf(source(n), state=mode).keep_on_host("name")
    for name, arguments in chain:
        pipe = getattr(pipe, name)(*arguments)
    return pipe.place(jax.devices()[0], prefetch=prefetch)


def lists(batches: Any) -> list[Any]:
    return [jax.tree.map(lambda a: np.asarray(a).tolist(), b) for b in batches]


def states(pipe: "tfjax.Pipeline", count: int, **how: Any) -> list[str]:
    with pipe.iterate(**how) as batches:
        found = [batches.state.to_json()]
        for _ in range(count):
            next(batches)
            found.append(batches.state.to_json())
    return found


before: st.SearchStrategy[tuple[str, tuple[Any, ...]]] = st.one_of(
    st.just(("map", (double,))),
    st.just(("random_map", (toss,))),
    st.sampled_from([9, 17, 40]).map(lambda n: ("take", (n,))),
    st.sampled_from([1, 4]).map(lambda n: ("skip", (n,))),
)
after = st.sampled_from([[], [("take", (3,))], [("skip", (1,))]])


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    chain = draw(st.lists(before, max_size=2))
    chain += draw(st.sampled_from([[], [("filter", (some,))]])) if "random_map" not in dict(chain) else []
    chain += draw(st.sampled_from([[], [("shuffle_window", (5, 1))]]))
    chain += [("batch", (draw(st.sampled_from([4, 3])), draw(st.sampled_from(["keep", "drop", "pad"]))))]
    return chain + draw(after)


@settings(max_examples=6)
@given(chain=chains(), prefetch=st.sampled_from([0, 2]), total=st.sampled_from([{"epochs": 2}, {"steps": 9}]))
def test_the_rest_is_the_rest_from_every_position(chain: Chain, prefetch: int, total: dict[str, int]) -> None:
    wholes = []
    for mode in MODES:
        pipe = build(chain, mode, prefetch)
        whole = lists(pipe.iterate(**total))
        wholes.append(whole)
        texts = states(pipe, len(whole), **total)
        assert all((len(t) < 1024) == (mode == "replay") for t in texts)
        for step in range(0, len(whole) + 1, 1 + len(whole) // 3):
            resumed = build(chain, mode, prefetch).iterate(**total, state=texts[step])
            assert lists(resumed) == whole[step:]
            assert resumed.step == len(whole)
    assert wholes[0] == wholes[1]


CHAIN: Chain = [("filter", (some,)), ("batch", (4,))]


@pytest.mark.parametrize("mode", MODES)
def test_a_state_may_be_given_another_total(mode: str) -> None:
    pipe = build(CHAIN, mode, 2)
    whole = lists(pipe.iterate(epochs=3))
    ended = pipe.iterate(epochs=1)
    first = lists(ended)
    end = ended.state
    ended.close()
    assert first == whole[: len(first)]
    assert lists(pipe.iterate(epochs=3, state=end)) == whole[len(first) :]
    assert lists(pipe.iterate(epochs=1, state=end)) == []
    assert lists(pipe.iterate(steps=len(first) + 2, state=end)) == whole[len(first) : len(first) + 2]
    with pipe.iterate(forever=True, state=end) as batches:
        assert lists(next(batches) for _ in range(2)) == whole[len(first) : len(first) + 2]


@pytest.mark.parametrize("mode", MODES)
def test_resuming_twice(mode: str) -> None:
    pipe = build(CHAIN, mode, 2)
    whole = lists(pipe.iterate(epochs=3))
    with pipe.iterate(epochs=3) as batches:
        lists(next(batches) for _ in range(4))
        state = batches.state
    for _ in range(3):
        with pipe.iterate(epochs=3, state=state) as batches:
            assert lists([next(batches)]) == [whole[batches.step - 1]]
            state = batches.state
    assert lists(pipe.iterate(epochs=3, state=state)) == whole[7:]


def test_start_epoch_and_shuffles_that_reshuffle() -> None:
    for mode in MODES:
        pipe = build([("batch", (4,))], mode, 0)
        epochs = [lists(pipe.iterate(start_epoch=e)) for e in range(3)]
        assert epochs[0] != epochs[1] != epochs[2]
        assert lists(pipe.iterate(epochs=3)) == [*epochs[0], *epochs[1], *epochs[2]]
        assert lists(pipe.iterate(epochs=2, start_epoch=1)) == epochs[1] + epochs[2]


def test_a_shuffle_without_a_seed_is_resumed_from_a_checkpoint() -> None:
    pipe = tfjax.from_tf(Dataset.range(20).shuffle(20), state="checkpoint").batch(4)
    with pipe.iterate(epochs=3) as batches:
        texts = [batches.state.to_json()]
        rest = []
        for batch in batches:
            rest += [batch.tolist()]
            texts.append(batches.state.to_json())
    for step in (0, 4, 5, 6, 10):
        again = tfjax.from_tf(Dataset.range(20).shuffle(20), state="checkpoint").batch(4)
        assert lists(again.iterate(epochs=3, state=texts[step])) == rest[step:]
    replayed = tfjax.from_tf(Dataset.range(20).shuffle(20)).batch(4)
    assert "without a seed: each run has another order" in replayed.explain()


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_what_was_read_ahead_is_not_lost(prefetch: int) -> None:
    pipe = tfjax.from_tf(Dataset.range(40).batch(2), state="checkpoint").place(jax.devices()[0], prefetch=prefetch)
    with pipe.iterate() as batches:
        for step in range(1, 6):
            assert next(batches).tolist() == [2 * step - 2, 2 * step - 1]
            rest = lists(pipe.iterate(state=batches.state))
            assert rest == [[i, i + 1] for i in range(2 * step, 40, 2)]


def test_leaves_of_many_dtypes_survive_in_a_checkpoint() -> None:
    rows = {
        "b": np.arange(8) % 2 == 0,
        "u8": np.arange(8, dtype=np.uint8),
        "f16": np.arange(8, dtype=np.float16),
        "i64": np.arange(8) - 4,
        "f64": np.arange(8) / 3,
        "c": (np.arange(8) + 1j).astype(np.complex64),
        "s": np.array([b"a\0", b""] * 4, object),
        "big": np.arange(8) + 2**40,
    }
    dataset = Dataset.from_tensor_slices(rows).map(lambda e: {**e, "bf": tf.cast(e["f16"], tf.bfloat16)})
    pipe = tfjax.from_tf(dataset, state="checkpoint").keep_on_host("s", "big").batch(2)
    pipe = pipe.device_map(lambda b: {**b, "u8": b["u8"] + 1})
    whole = [*pipe]
    with pipe.iterate() as batches:
        next(batches)
        rest = list(pipe.iterate(state=batches.state.to_json()))
    for one, two in zip(rest, whole[1:], strict=True):
        assert jax.tree.map(lambda a: (a.dtype, np.asarray(a).tolist()), one) == jax.tree.map(
            lambda a: (a.dtype, np.asarray(a).tolist()), two
        )


def test_a_state_from_another_thread_while_batches_are_taken() -> None:
    pipe = build(CHAIN, "checkpoint", 2)
    whole = lists(pipe.iterate(epochs=4))
    taken: list[Any] = []
    done = threading.Event()
    with pipe.iterate(epochs=4) as batches:

        def take() -> None:
            while not done.is_set() and len(taken) < 6:
                taken.append(batches.state)

        thread = threading.Thread(target=take)
        thread.start()
        assert lists(batches) == whole
        done.set()
        thread.join(30)
        taken.append(batches.state)
    for state in {s.step: s for s in taken}.values():
        assert lists(pipe.iterate(epochs=4, state=state)) == whole[state.step :]


def test_the_state_of_a_closed_iterator() -> None:
    with build(CHAIN, "checkpoint", 2).iterate() as batches:
        next(batches)
    with pytest.raises(ValueError, match=r"closed.*read its state before"):
        _ = batches.state


def test_a_step_whose_device_map_fails_is_made_again() -> None:
    pipe = tfjax.from_tf(Dataset.range(8).batch(2), state="checkpoint").place(jax.devices()[0], prefetch=0)

    def never(_: Any) -> Any:
        raise RuntimeError("not now")

    message = r"never\) failed on a batch of int32\[2\]: RuntimeError: not now"
    with pipe.device_map(never).iterate() as batches, pytest.raises(TfjaxError, match=message):
        next(batches)
    assert batches.step == 0


def test_an_error_of_the_graph_leaves_a_state() -> None:
    dataset = Dataset.range(8).map(lambda x: 60 // (x - 5))
    pipe = tfjax.from_tf(dataset, state="checkpoint").batch(2).place(jax.devices()[0], prefetch=0)
    with pipe.iterate() as batches:
        assert lists(next(batches) for _ in range(2)) == [[-12, -15], [-20, -30]]
        with pytest.raises(TfjaxError, match=r"failed at step 2.*zero"):
            next(batches)
        assert batches.state.step == 2


def test_resuming_computes_nothing_again() -> None:
    """By counting what a graph reads: `Dataset.range` behind a numpy_function that is declared pure."""
    calls: list[int] = []

    def seen(x: np.ndarray) -> np.ndarray:
        calls.append(int(x))
        return x

    def pure(x: tf.Tensor) -> tf.Tensor:
        out = tf.numpy_function(seen, [x], tf.int64, stateful=False)
        out.set_shape(())
        return out

    options = tf.data.Options()
    options.autotune.enabled = False
    pipe = tfjax.from_tf(Dataset.range(1000).map(pure), state="checkpoint").batch(10)
    pipe = pipe.options(prefetch_batches=1, tf_options=options).place(jax.devices()[0], prefetch=0)
    with pipe.iterate() as batches:
        for _ in range(50):
            next(batches)
        state = batches.state
    calls.clear()
    with pipe.iterate(state=state) as batches:
        assert next(batches).tolist() == list(range(500, 510))
    assert min(calls, default=500) >= 500


counter = tf.Variable(0, dtype=tf.int64)
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a random op": (lambda: Dataset.range(3).map(lambda _: tf.random.uniform(())), "RandomUniform"),
    "Python": (lambda: Dataset.range(3).map(lambda x: tf.py_function(abs, [x], tf.int64)), "EagerPyFunc"),
    "a generator": (
        lambda: Dataset.from_generator(lambda: iter([1]), output_signature=tf.TensorSpec((), tf.int32)),
        "PyFunc",
    ),
    "a write": (lambda: Dataset.range(3).map(lambda x: counter.assign_add(x)), "AssignAddVariableOp"),
    "two": (
        lambda: Dataset.range(3).map(
            lambda x: tf.numpy_function(abs, [x], tf.int64) + tf.random.uniform((), 0, 9, "int64")
        ),
        "PyFunc, RandomUniformInt",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_stateful_op_is_named_when_the_pipeline_is_made(name: str) -> None:
    make, ops = REFUSED[name]
    with pytest.raises(ValueError, match=rf"state='checkpoint': the dataset holds {ops}, .*state='replay'"):
        tfjax.from_tf(make(), batched=False, state="checkpoint")


def test_a_stateful_op_of_a_stage_is_named_when_it_is_iterated() -> None:
    pipe = tfjax.from_tf(Dataset.range(3), state="checkpoint").map(lambda x: tf.numpy_function(abs, [x], tf.int64))
    with pytest.raises(ValueError, match=r"the pipeline holds PyFunc, .*state='replay'"):
        pipe.map(lambda x: tf.ensure_shape(x, ())).iterate()


def test_what_only_looks_stateful_is_resumed() -> None:
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer([0, 1], [5, 6]), 7)
    variable = tf.Variable(2)

    def checked(x: tf.Tensor) -> tf.Tensor:
        tf.debugging.assert_less(x, tf.constant(99, tf.int64))
        return table.lookup(tf.cast(x, tf.int32)) * variable

    inner = Dataset.range(3).interleave(lambda i: Dataset.range(4 * i, 4 * i + 4).shuffle(3, seed=i), cycle_length=2)
    pipe = tfjax.from_tf(inner.map(tf.function(checked)), state="checkpoint").map(lambda x: x + 1).batch(2)
    whole = lists(pipe.iterate(epochs=2))
    texts = states(pipe, len(whole), epochs=2)
    assert [lists(pipe.iterate(epochs=2, state=texts[n])) for n in (1, 6, 7)] == [whole[n:] for n in (1, 6, 7)]


def test_what_is_no_way_to_resume() -> None:
    with pytest.raises(ValueError, match="state='saved': choose 'replay' or 'checkpoint'"):
        tfjax.from_tf(Dataset.range(3), state="saved")


def state_of(pipe: "tfjax.Pipeline") -> "tfjax.State":
    with pipe.iterate(epochs=2) as batches:
        next(batches)
        return batches.state


OTHERS: dict[str, tuple[Callable[[], "tfjax.Pipeline"], str]] = {
    "another batch size": (lambda: build([("batch", (5,))], "checkpoint", 2), "batch"),
    "another seed": (lambda: build([("shuffle_window", (5, 2)), ("batch", (4,))], "checkpoint", 2), "shuffle_window"),
    "another source": (lambda: build([("batch", (4,))], "checkpoint", 2, n=22), "source"),
    "another stage": (lambda: build([("map", (double,)), ("batch", (4,))], "checkpoint", 2), "map"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_checkpoint_of_another_pipeline_is_refused(name: str) -> None:
    state = state_of(build([("batch", (4,))], "checkpoint", 2))
    make, word = OTHERS[name]
    with pytest.raises(StateMismatchError, match=f"another pipeline.*{word}"):
        make().iterate(epochs=2, state=state)


def test_landmine_6_batches_of_128_do_not_become_batches_of_64() -> None:
    def pipe(size: int) -> "tfjax.Pipeline":
        return tfjax.from_tf(Dataset.range(1000).repeat().batch(size), state="checkpoint")

    with pipe(128).iterate(steps=4) as batches:
        next(batches)
        state = batches.state
    with pytest.raises(StateMismatchError, match="source"):
        pipe(64).iterate(steps=4, state=state)


def test_a_checkpoint_is_no_replay_and_the_reverse() -> None:
    one, two = (build([("batch", (4,))], mode, 2) for mode in MODES)
    with pytest.raises(StateMismatchError, match=r"holds a checkpoint of .* bytes.*state='checkpoint'"):
        one.iterate(epochs=2, state=state_of(two))
    with pytest.raises(StateMismatchError, match=r"holds no checkpoint.*state='replay'"):
        two.iterate(epochs=2, state=state_of(one))


def test_a_checkpoint_under_another_width_is_refused() -> None:
    pipe = tfjax.from_tf(Dataset.range(8).batch(2), state="checkpoint")
    state = state_of(pipe)
    with jax.enable_x64(True), pytest.raises(StateMismatchError, match=r"int32.*int64.*jax_enable_x64"):
        pipe.iterate(epochs=2, state=state)


def test_an_epoch_that_yields_nothing_is_not_gone_round() -> None:
    pipe = tfjax.from_tf(Dataset.range(6).filter(lambda x: x < 0), state="checkpoint").batch(2)
    with pytest.raises(ValueError, match="epoch 0 of this pipeline yields nothing"):
        next(pipe.iterate(forever=True))
    assert lists(pipe.iterate(epochs=2)) == []


def test_the_size_is_said_before_it_is_taken() -> None:
    noise = np.random.default_rng(0).normal(size=(50, 1024)).astype(np.float32)  # zeros are written down in short
    rows = Dataset.from_tensor_slices(noise).shuffle(40, seed=0)
    pipe = tfjax.from_tf(rows, batched=False, state="checkpoint").shuffle_window(20, seed=0).batch(4)
    text = pipe.explain()
    assert "shuffle_window holds 20 examples of 4.0 KiB in memory, 80.0 KiB together" in text
    assert "shuffle(40) 160.0 KiB, shuffle_window(20) 80.0 KiB, 2 batches read and not delivered 32.0 KiB" in text
    estimate = (40 + 20 + 8) * 4096
    state = state_of(pipe)
    assert 0.7 * estimate < len(state.checkpoint) < 2 * estimate
    assert state.size_bytes == len(state.to_json())
    unknown = tfjax.from_tf(Dataset.from_tensor_slices(["a"]).shuffle(3, seed=0), state="checkpoint").explain()
    assert "of unknown size (shuffle(3)" in unknown


def test_a_leaf_that_does_not_fit_is_said_in_both_modes() -> None:
    for mode in MODES:
        with pytest.raises(SpecError, match="does not fit int32"):
            lists(tfjax.from_tf(Dataset.from_tensor_slices([1, 2**40]), state=mode).batch(1))


OTHER_PROCESS = """
    import tensorflow as tf, tfjax
    dataset = tf.data.Dataset.range(20).shuffle(7, seed=3).map(lambda x: {"x": x * 2}, num_parallel_calls=2)
    pipe = tfjax.from_tf(dataset, state="checkpoint").filter(lambda e: e["x"] != 6).batch(3)
    with pipe.iterate(epochs=2) as batches:
        for _ in range(8):
            next(batches)
        made = batches.state.to_json()
        rest = [b["x"].tolist() for b in batches]
    given = 'STATE'
    print(made if given == "ASK" else [b["x"].tolist() for b in pipe.iterate(epochs=2, state=given)] == rest)
"""


def test_a_checkpoint_is_resumed_in_another_process() -> None:
    made = python_process.run(OTHER_PROCESS.replace("STATE", "ASK")).stdout.strip()
    assert python_process.run(OTHER_PROCESS.replace("STATE", made)).stdout.strip() == "True"
