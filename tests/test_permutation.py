"""The order of ten epochs: permutations, uncorrelated, whose batches mix anew as chance would have it."""

import itertools

import numpy as np
import pytest

import tfjax
from tests import oracle

EPOCHS = 10
SIGMAS = 5.0  # of a normal deviate: 2 in 10 million tries go beyond it by chance
SIZES = (100, 1000, 50_000, 60_000, 65_536, 1_281_167)


def orders(n: int, seed: int) -> np.ndarray:
    """The row at each position of each epoch, int32 (EPOCHS, n), as delivered."""
    rows = tfjax.from_arrays(np.arange(n, dtype=np.int32)).shuffle(seed=seed)
    with rows.batch(min(n, 65_536), remainder="keep").iterate(epochs=EPOCHS) as batches:
        return np.concatenate([np.asarray(batch) for batch in batches]).reshape(EPOCHS, n)


def correlations(orders: np.ndarray) -> list[float]:
    """Between any two rows."""
    table = np.corrcoef(orders)
    return [float(table[a, b]) for a, b in itertools.combinations(range(len(orders)), 2)]


def pairs(counts: np.ndarray) -> int:
    """How many pairs there are within groups of these sizes."""
    counts = counts.astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())


def shared_again(first: np.ndarray, second: np.ndarray, batch: int) -> float:
    """By how many standard deviations more pairs than by chance share a batch in both orders."""
    n = len(first)
    batch_of = np.empty((2, n), np.int64)
    for row, order in zip(batch_of, (first, second), strict=True):
        row[order] = np.arange(n) // batch
    both = np.sort(batch_of[0] * n + batch_of[1])
    starts = np.flatnonzero(np.diff(both, prepend=-1))
    within = [pairs(np.bincount(row)) for row in batch_of]
    expected = within[0] * within[1] / (n * (n - 1) / 2)
    return (pairs(np.diff(starts, append=n)) - expected) / expected**0.5


@pytest.mark.parametrize("n", SIZES)
def test_epochs_are_permutations_at_chance(n: int) -> None:
    epochs = orders(n, seed=0)
    assert all(np.array_equal(np.sort(order), np.arange(n)) for order in epochs)
    bound = SIGMAS / n**0.5
    positions = np.argsort(epochs, axis=1)  # where each row stands
    assert max(map(abs, correlations(epochs))) < bound
    assert max(map(abs, correlations(positions))) < bound
    batch = max(10, min(128, n // 10))
    scores = [shared_again(a, b, batch) for a, b in itertools.combinations(epochs, 2)]
    assert max(map(abs, scores)) < SIGMAS
    assert abs(sum(scores)) / len(scores) ** 0.5 < SIGMAS
    for order in epochs[:3]:  # and no trace of the order of the source
        assert abs(np.corrcoef(order, np.arange(n))[0, 1]) < bound
        assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < bound


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_seeds_give_other_orders(seed: int) -> None:
    one, other = orders(1000, seed), orders(1000, seed=7)
    assert max(abs(np.corrcoef(a, b)[0, 1]) for a in one for b in other) < SIGMAS / 1000**0.5


@pytest.mark.parametrize("n", [1, 2, 3, 4, 10])
def test_small_sets_are_permuted_too(n: int) -> None:
    epochs = orders(n, seed=0)
    assert all(sorted(order) == list(range(n)) for order in epochs.tolist())
    assert np.array_equal(epochs, [oracle.permutation(n, 0, epoch) for epoch in range(EPOCHS)])


def test_the_measure_sees_a_poor_shuffle() -> None:
    """Four rounds and seeds that differ in one word, as TensorFlow's index_shuffle has them by default."""
    import tensorflow as tf

    n = 60_000
    rows, last = tf.range(n, dtype=tf.int64), tf.constant(n - 1, tf.int64)
    poor = np.stack(
        [
            tf.raw_ops.RandomIndexShuffle(index=rows, seed=[0, 0, epoch], max_index=last, rounds=4).numpy()
            for epoch in range(EPOCHS)
        ]
    )
    assert max(map(abs, correlations(poor))) > 0.1
    assert max(shared_again(a, b, batch=128) for a, b in itertools.combinations(poor, 2)) > 20
