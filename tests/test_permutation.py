"""The order of ten epochs: permutations, uncorrelated, whose batches mix anew as chance would have it."""

import itertools

import numpy as np
import pytest

import tfjax
from tests import oracle

EPOCHS = 10
GOLDEN = [0, 6, 7, 8, 1, 2, 4, 9, 3, 5]  # seed 3, epoch 0
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


def positions(orders: np.ndarray) -> np.ndarray:
    """Where each row stands in each order, int32."""
    found = np.empty_like(orders)
    for order, place in zip(orders, found, strict=True):
        place[order] = np.arange(len(order))
    return found


def shared_again(places: np.ndarray, size: int) -> list[float]:
    """For any two orders, by how many standard deviations more pairs than by chance share a batch in both."""
    n, batch_of, count = places.shape[1], places // size, -(-places.shape[1] // size)
    within = [pairs(np.bincount(row)) for row in batch_of]
    scores = []
    for a, b in itertools.combinations(range(len(places)), 2):
        both = np.sort(batch_of[a] * np.int32(count) + batch_of[b])
        shared = pairs(np.diff(np.flatnonzero(np.diff(both, prepend=-1)), append=n))
        expected = within[a] * within[b] / (n * (n - 1) / 2)
        scores.append((shared - expected) / expected**0.5)
    return scores


@pytest.mark.parametrize("n", SIZES)
def test_epochs_are_permutations_at_chance(n: int) -> None:
    epochs = orders(n, seed=0)
    assert all(np.array_equal(np.sort(order), np.arange(n)) for order in epochs)
    bound = SIGMAS / n**0.5
    places = positions(epochs)
    assert max(map(abs, correlations(epochs))) < bound
    assert max(map(abs, correlations(places))) < bound
    scores = shared_again(places, max(10, min(128, n // 10)))
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


def test_the_order_is_that_of_earlier_versions() -> None:
    """TensorFlow does not promise its shuffle to stay; where this fails, old states meet another order."""
    rows = tfjax.from_arrays(np.arange(10)).shuffle(seed=3)
    assert [int(x) for x in rows] == GOLDEN


def test_the_measure_sees_a_poor_shuffle() -> None:
    """Four rounds and seeds that differ in one word, as TensorFlow's index_shuffle has them by default."""
    from tfjax._tensorflow import tf

    n = 60_000
    rows, last = tf.range(n, dtype=tf.int64), tf.constant(n - 1, tf.int64)
    poor = np.stack(
        [
            tf.raw_ops.RandomIndexShuffle(index=rows, seed=[0, 0, epoch], max_index=last, rounds=4).numpy()
            for epoch in range(EPOCHS)
        ]
    )
    assert max(map(abs, correlations(poor))) > 0.1
    assert max(shared_again(positions(poor), 128)) > 20
