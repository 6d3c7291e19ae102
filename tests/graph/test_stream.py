"""A streaming pipeline: the stages of a foreign dataset one after the other, resumed by replay at every step."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
import tensorflow as tf

import tfjax
from tests import python_process
from tfjax.errors import SpecError, TfjaxError

Dataset = tf.data.Dataset
Example = dict[str, tf.Tensor]


def numbers(n: int = 7) -> Dataset:
    return Dataset.from_tensor_slices({"x": np.arange(n), "y": np.arange(n, dtype=np.float32) / 2})


def values(pipe: Any, **how: Any) -> list[Any]:
    with pipe.iterate(**how) as batches:
        return [jax.tree.map(lambda a: np.asarray(a).tolist(), b) for b in batches]


def xs(pipe: Any, **how: Any) -> list[Any]:
    return [b["x"] for b in values(pipe, **how)]


def noisy(e: Example, seed: tf.Tensor) -> Example:
    return {"x": e["x"], "r": tf.random.stateless_uniform((), seed)}


def broken(e: Example) -> Example:
    return {"y": tf.debugging.check_numerics(1 / (e["y"] - 2), "infinite")}


CHAINS: dict[str, tuple[Callable[["tfjax.Pipeline"], "tfjax.Pipeline"], list[Any]]] = {
    "nothing": (lambda p: p, [0, 1, 2, 3, 4, 5, 6]),
    "map": (lambda p: p.map(lambda e: {"x": e["x"] * 10}), [0, 10, 20, 30, 40, 50, 60]),
    "filter": (lambda p: p.filter(lambda e: e["x"] % 3 != 1), [0, 2, 3, 5, 6]),
    "take": (lambda p: p.take(3), [0, 1, 2]),
    "skip": (lambda p: p.skip(5), [5, 6]),
    "skip all": (lambda p: p.filter(lambda _: True).skip(9).batch(2), []),
    "select": (lambda p: p.select("x"), [0, 1, 2, 3, 4, 5, 6]),
    "keep": (lambda p: p.batch(3), [[0, 1, 2], [3, 4, 5], [6]]),
    "drop": (lambda p: p.batch(3, remainder="drop"), [[0, 1, 2], [3, 4, 5]]),
    "pad": (lambda p: p.batch(3, remainder="pad"), [[0, 1, 2], [3, 4, 5], [6, 6, 6]]),
    "exact": (lambda p: p.take(6).batch(3, remainder="error"), [[0, 1, 2], [3, 4, 5]]),
    "all": (
        lambda p: p.skip(1).map(lambda e: {"x": e["x"] + 1}).filter(lambda e: e["x"] != 4).take(4).batch(3),
        [[2, 3, 5], [6]],
    ),
    "filter between": (lambda p: p.filter(lambda e: e["x"] > 1).take(2).filter(lambda e: e["x"] > 2).batch(2), [[3]]),
    "batches taken": (lambda p: p.batch(2).skip(1).take(2), [[2, 3], [4, 5]]),
}


@pytest.mark.parametrize("name", CHAINS)
def test_stages_act_in_order(name: str) -> None:
    build, expected = CHAINS[name]
    pipe = build(tfjax.from_tf(numbers()))
    assert xs(pipe) == expected
    assert xs(pipe, epochs=2) == expected * 2


@pytest.mark.parametrize("name", [n for n in CHAINS if n != "skip all"])
def test_resuming_by_replay_at_every_step(name: str) -> None:
    pipe = CHAINS[name][0](tfjax.from_tf(numbers()))
    whole = values(pipe, epochs=2)
    with pipe.iterate(epochs=2) as batches:
        states = [batches.state.to_json()]
        for _ in whole:
            next(batches)
            states.append(batches.state.to_json())
    assert all(len(s) < 1024 for s in states)
    for step in {0, 1, len(whole) // 2, len(whole) - 1, len(whole)}:
        fresh = CHAINS[name][0](tfjax.from_tf(numbers()))
        assert values(fresh, epochs=2, state=states[step]) == whole[step:]


def test_the_mask_of_padding() -> None:
    pipe = tfjax.from_tf(numbers()).batch(3, remainder="pad")
    assert [b["mask"] for b in values(pipe)] == [[True] * 3, [True] * 3, [True, False, False]]
    assert {k: s.shape for k, s in pipe.spec.items()} == {"mask": (3,), "x": (3,), "y": (3,)}


def test_an_error_remainder() -> None:
    with pytest.raises((ValueError, TfjaxError), match=r"fill batches of 3.*drop.*pad.*keep"):
        values(tfjax.from_tf(numbers()).batch(3, remainder="error"))
    with pytest.raises((ValueError, TfjaxError), match="fill batches of 3"):
        values(tfjax.from_tf(numbers()).filter(lambda e: e["x"] < 4).batch(3, remainder="error"))


def test_random_ops_differ_by_row_and_epoch_and_repeat() -> None:
    pipe = tfjax.from_tf(numbers()).random_map(noisy).batch(3)
    one, two = values(pipe), values(pipe, start_epoch=1)
    drawn = [r for b in one + two for r in b["r"]]
    assert len(set(drawn)) == 14
    assert values(pipe, epochs=2) == one + two
    assert values(pipe.seed(1)) != one


def test_a_random_op_draws_as_over_an_indexed_source() -> None:
    rows = {"x": np.arange(7), "y": np.arange(7, dtype=np.float32)}
    indexed = tfjax.from_arrays(rows).random_map(noisy).random_map(lambda e, s: {**noisy(e, s), "q": e["r"]})
    streamed = tfjax.from_tf(numbers()).random_map(noisy).random_map(lambda e, s: {**noisy(e, s), "q": e["r"]})
    assert values(indexed.batch(3), epochs=2) == values(streamed.batch(3), epochs=2)


def test_the_index_survives_take_skip_and_filter() -> None:
    pipe = tfjax.from_tf(numbers()).skip(2).filter(lambda e: e["x"] != 4).random_map(lambda _, s: {"x": s[1]})
    assert xs(pipe) == [2, 3, 5, 6]


def test_epochs_of_unknown_length() -> None:
    dataset = numbers().filter(lambda e: e["x"] < 3)
    pipe = tfjax.from_tf(dataset).batch(2)
    assert xs(pipe, epochs=2) == [[0, 1], [2]] * 2
    assert xs(pipe, steps=5) == [[0, 1], [2], [0, 1], [2], [0, 1]]
    with pipe.iterate(forever=True) as batches:
        assert [b["x"].tolist() for b in itertools.islice(batches, 5)] == [[0, 1], [2], [0, 1], [2], [0, 1]]
        with pytest.raises(TypeError, match="epoch"):
            _ = batches.epoch
        state = batches.state
    assert xs(pipe, steps=6, state=state) == [[2]]
    with pytest.raises(TypeError, match=r"epochs=, steps= or forever=True"):
        pipe.iterate(state=state)


def test_an_endless_dataset() -> None:
    pipe = tfjax.from_tf(numbers(3).repeat()).batch(2)
    assert xs(pipe, steps=4) == [[0, 1], [2, 0], [1, 2], [0, 1]]
    assert xs(pipe.take(2), epochs=2) == [[0, 1], [2, 0]] * 2
    with pytest.raises((TypeError, ValueError), match=r"steps"):
        pipe.iterate(epochs=2)


def test_a_seeded_shuffle_of_the_dataset_is_its_own() -> None:
    def make() -> "tfjax.Pipeline":
        return tfjax.from_tf(numbers(20).shuffle(20, seed=4, reshuffle_each_iteration=False)).batch(4)

    assert xs(make()) == xs(make())
    assert sorted(x for batch in xs(make()) for x in batch) == list(range(20))


@pytest.mark.parametrize(
    ("stage", "fix"),
    [
        (lambda p: p.shuffle(0), r"shuffle_window\(buffer_size, seed\)"),
        (lambda p: p.split({"a": 0.5}, 0), r"take and skip of a stream"),
        (lambda p: p.cache("memory"), r"dataset\.cache\(\) before from_tf"),
    ],
    ids=["shuffle", "split", "cache"],
)
def test_what_needs_an_index_is_refused_with_the_fix(stage: Any, fix: str) -> None:
    with pytest.raises(ValueError, match=rf"streams: use .*{fix}"):
        stage(tfjax.from_tf(numbers()))


@pytest.mark.parametrize(
    "stage",
    [
        lambda p: p.map(lambda e: e),
        lambda p: p.filter(lambda _: True),
        lambda p: p.select("x"),
        lambda p: p.batch(2),
        lambda p: p.random_map(noisy),
    ],
    ids=["map", "filter", "select", "batch", "random_map"],
)
def test_batches_are_not_examples(stage: Any) -> None:
    with pytest.raises(ValueError, match=r"unbatch|batched=False|batch"):
        stage(tfjax.from_tf(numbers().batch(3)))


def test_what_batches_of_a_dataset_allow() -> None:
    pipe = tfjax.from_tf(numbers(8).batch(2)).skip(1).take(2).device_map(lambda b: {"x": b["x"] + 1})
    assert xs(pipe) == [[3, 4], [5, 6]]
    assert xs(pipe, epochs=2) == [[3, 4], [5, 6]] * 2


def test_narrowing_is_checked() -> None:
    assert tfjax.from_tf(numbers()).batch(2).spec["x"].dtype == np.int32
    large = Dataset.from_tensor_slices({"a": {"b": np.array([1, 2**40])}})
    for pipe in (tfjax.from_tf(large), tfjax.from_tf(large).batch(1), tfjax.from_tf(large.batch(1))):
        with pytest.raises(SpecError, match=r"\['a'\]\['b'\].*int64.*int32.*keep_on_host"):
            values(pipe)
    kept = tfjax.from_tf(large).keep_on_host("a").batch(2)
    assert values(kept) == [{"a": {"b": [1, 2**40]}}]


def test_an_error_names_its_step() -> None:
    dataset = numbers().map(lambda e: {"x": tf.debugging.check_numerics(1 / (e["y"] - 2), "infinite")})
    pipe = tfjax.from_tf(dataset).batch(2)
    with pipe.iterate() as batches:
        assert len([next(batches) for _ in range(2)]) == 2
        with pytest.raises(TfjaxError, match=r"(?s)step 2.*infinite"):
            next(batches)


@pytest.mark.parametrize(
    "build",
    [
        lambda p: p.map(lambda e: e).map(broken, version="7").batch(2),
        lambda p: p.map(lambda e: e).filter(lambda e: broken(e)["y"] > -5, version="7").batch(2),
        lambda p: p.random_map(lambda e, _: broken(e), version="7"),
    ],
    ids=["map", "filter", "random_map"],
)
def test_a_function_that_fails_is_named(build: Any) -> None:
    with pytest.raises(TfjaxError, match=r"(?s)^\w+\(.*version='7'\) failed at step \d: .*infinite.*values$"):
        values(build(tfjax.from_tf(numbers())))


def test_a_damaged_record_is_corrupt_data() -> None:
    dataset = (
        Dataset.range(3)
        .map(lambda x: tf.io.parse_tensor(tf.strings.as_string(x), tf.int64))
        .map(lambda x: tf.ensure_shape(x, ()))
    )
    with pytest.raises(TfjaxError, match="step 0"):
        values(tfjax.from_tf(dataset).batch(2))


def test_shapes_must_be_static_to_be_batched() -> None:
    pipe = tfjax.from_tf(Dataset.range(4).map(lambda x: {"r": tf.range(x)}), batched=False)
    with pytest.raises(SpecError, match=r"\['r'\] is \(None,\), and batch needs a static shape"):
        pipe.batch(2)
    assert [b["r"] for b in values(pipe)] == [[], [0], [0, 1], [0, 1, 2]]


def test_peek_and_to_tf() -> None:
    pipe = tfjax.from_tf(numbers()).batch(3)
    assert pipe.peek()["x"].tolist() == [0, 1, 2]
    assert [b["x"].tolist() for b in pipe.to_tf(epochs=2).as_numpy_iterator()] == [[0, 1, 2], [3, 4, 5], [6]] * 2
    plain = tfjax.from_tf(numbers().batch(3)).to_tf()
    assert [b["x"].tolist() for b in plain.as_numpy_iterator()] == [[0, 1, 2], [3, 4, 5], [6]]


def test_nothing_to_iterate_over() -> None:
    with pytest.raises(ValueError, match="nothing to iterate over"):
        tfjax.from_tf(Dataset.range(0).batch(2)).iterate()
    with pytest.raises(IndexError, match="yields nothing"):
        tfjax.from_tf(Dataset.range(0).batch(2)).peek()


def test_a_state_of_another_dataset_is_refused() -> None:
    state = tfjax.from_tf(numbers(7)).batch(2).iterate().state
    with pytest.raises(tfjax.StateMismatchError, match="source"):
        tfjax.from_tf(numbers(8)).batch(2).iterate(state=state)


EMPTY = """
    import tensorflow as tf, tfjax
    pipe = tfjax.from_tf(tf.data.Dataset.range(6).filter(lambda x: x < 0).batch(2))
    try:
        next(pipe.iterate(forever=True))
    except ValueError as error:
        print("an error:", error)
"""


def test_an_epoch_that_yields_nothing_does_not_go_round_for_ever() -> None:
    assert python_process.run(EMPTY, timeout_s=20).stdout.startswith("an error:")


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_shuffle_without_a_seed_goes_round(epochs: int) -> None:
    pipe = tfjax.from_tf(tf.data.Dataset.range(64).shuffle(64).batch(32))
    rows = np.concatenate([np.asarray(b) for b in pipe.iterate(epochs=epochs)]).reshape(epochs, 64)
    assert [sorted(row) for row in rows.tolist()] == [list(range(64))] * epochs
