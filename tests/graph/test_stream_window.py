"""`shuffle_window`: a permutation within a window, drawn from (seed, epoch), and where it may stand."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import tfjax

Dataset = tf.data.Dataset


def numbers(n: int = 30) -> "tfjax.Pipeline":
    return tfjax.from_tf(Dataset.range(n))


def values(pipe: Any) -> list[int]:
    return [int(x) for x in pipe]


@settings(max_examples=12)
@given(n=st.integers(1, 40), size=st.integers(1, 50), seed=st.integers(-(2**63), 2**63 - 1), epoch=st.integers(0, 9))
def test_a_permutation_in_which_nothing_comes_too_early(n: int, size: int, seed: int, epoch: int) -> None:
    order = values(numbers(n).shuffle_window(size, seed=seed).iterate(start_epoch=epoch))
    assert sorted(order) == list(range(n))
    assert all(row < at + size for at, row in enumerate(order))


def test_another_order_each_epoch_and_the_same_in_each_run() -> None:
    pipe = numbers().shuffle_window(10, seed=4)
    epochs = [values(pipe.iterate(start_epoch=e)) for e in range(5)]
    assert len({tuple(e) for e in epochs}) == 5
    assert values(pipe.iterate(epochs=5)) == [x for e in epochs for x in e]
    assert values(numbers().shuffle_window(10, seed=5)) != epochs[0]
    assert values(numbers().shuffle_window(10, seed=4)) == epochs[0]
    assert values(numbers().shuffle_window(1, seed=4)) == list(range(30))


def test_orders_are_at_chance_across_epochs() -> None:
    pipe = numbers(400).shuffle_window(400, seed=0)
    orders = [values(pipe.iterate(start_epoch=e)) for e in range(4)]
    between = np.corrcoef(orders)[np.triu_indices(4, 1)]
    assert np.abs(between).max() < 4 / np.sqrt(400)


def test_the_index_of_a_row_travels_through_it() -> None:
    def toss(x: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"x": x, "index": seed[1], "r": tf.random.stateless_uniform((), seed)}

    before = numbers().random_map(toss).shuffle_window(9, seed=1)
    after = numbers().shuffle_window(9, seed=1).random_map(toss)
    for one, two in zip(before, after, strict=True):
        assert {k: float(v) for k, v in one.items()} == {k: float(v) for k, v in two.items()}
        assert int(one["x"]) == int(one["index"])


def test_take_skip_filter_and_batch_after_it() -> None:
    order = values(numbers().shuffle_window(9, seed=1))
    assert values(numbers().shuffle_window(9, seed=1).skip(2).take(5)) == order[2:7]
    assert values(numbers().shuffle_window(9, seed=1).filter(lambda x: x % 2 == 0)) == [x for x in order if x % 2 == 0]
    batches = [b.tolist() for b in numbers().shuffle_window(9, seed=1).batch(7)]
    assert batches == [order[i : i + 7] for i in range(0, 28, 7)]  # a shuffled pipeline drops the remainder
    assert len(numbers().shuffle_window(9, seed=1).batch(7)) == 4


def test_a_window_takes_no_more_places_than_there_are_examples() -> None:
    order = values(numbers().shuffle_window(1000, seed=1))
    assert values(numbers().shuffle_window(2**40, seed=1)) == order
    assert sorted(order) == sorted(values(numbers()))


REFUSED: dict[str, tuple[Any, str]] = {
    "indexed": (lambda: tfjax.from_arrays(np.arange(4)).shuffle_window(2, seed=0), r"indexed: use shuffle\(seed\)"),
    "batched": (lambda: numbers().batch(2).shuffle_window(2, seed=0), "shuffle_window comes after batch.*before batch"),
    "twice": (
        lambda: numbers().shuffle_window(2, seed=0).map(lambda x: x).shuffle_window(2, seed=1),
        "keep one of the two",
    ),
    "batches": (lambda: tfjax.from_tf(Dataset.range(4).batch(2)).shuffle_window(2, seed=0), "takes single examples"),
    "more than the memory": (
        lambda: numbers().filter(lambda x: x > 3).shuffle_window(2**60, seed=0),
        r"buffer_size=1152921504606846976 takes 2\S+ \S+ before the first example comes",
    ),
    "no buffer": (lambda: numbers().shuffle_window(0, seed=0), "buffer_size takes an int from 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_where_it_may_not_stand(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        make()


def test_what_it_holds_is_said() -> None:
    assert (
        "shuffle_window holds 10 examples of 8 B in memory, 80 B together" in numbers().shuffle_window(10, 0).explain()
    )
    texts = tfjax.from_tf(Dataset.from_tensor_slices(["a"])).shuffle_window(10, 0).explain()
    assert "10 examples in memory, of unknown size" in texts
