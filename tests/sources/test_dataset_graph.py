"""What is read off a tf.data graph: buffers, shuffles, and a hash that is the same in every process."""

import numpy as np
import pytest
import tensorflow as tf

from tests import python_process
from tfjax.sources import dataset_graph as module
from tfjax.sources.dataset_graph import dataset_graph

Dataset = tf.data.Dataset


def numbers(seed: int | None = 3, size: int = 10, batch: int = 4) -> Dataset:
    shuffled = Dataset.range(20).shuffle(size, seed=seed)
    return shuffled.map(lambda x: x + 1, num_parallel_calls=2).batch(batch).prefetch(2)


def epoch(dataset: Dataset, number: int, entropy: int = 0) -> list[int]:
    graph = dataset_graph(dataset)
    return [int(x) for x in graph.epochs(entropy)(tf.constant(number, tf.int64)).unbatch()]


def test_buffers_and_their_bytes() -> None:
    assert dataset_graph(numbers()).buffers() == [("shuffle(10)", 80), ("parallel map(2)", 16), ("prefetch(2)", None)]
    images = Dataset.from_tensor_slices(np.zeros((9, 5, 4), np.float32)).shuffle(8).batch(2, drop_remainder=True)
    assert dataset_graph(images.prefetch(3)).buffers() == [("shuffle(8)", 640), ("prefetch(3)", 480)]
    assert dataset_graph(images.prefetch(-1)).buffers()[1] == ("prefetch(tuned)", None)
    texts = Dataset.from_tensor_slices(["a"]).cache().shuffle(8)
    assert dataset_graph(texts).buffers() == [("cache() of every element", None), ("shuffle(8)", None)]
    inner = Dataset.range(2).interleave(lambda x: Dataset.range(x).shuffle(4, seed=1))
    assert dataset_graph(inner).buffers() == [("shuffles inside interleave or flat_map", None)]


def test_the_first_epoch_is_the_first_order_of_the_dataset() -> None:
    assert epoch(numbers(), 0) == [int(x) for x in numbers().unbatch()]


def test_an_epoch_depends_on_its_number_alone() -> None:
    dataset = numbers()
    later = [epoch(dataset, n) for n in (2, 0, 1, 2)]
    list(dataset)
    assert [epoch(dataset, n) for n in (2, 0, 1)] == later[:3]
    assert later[3] == later[0]
    assert len({tuple(x) for x in later}) == 3
    assert all(sorted(x) == list(range(1, 21)) for x in later)


def test_a_shuffle_without_a_seed_takes_the_one_it_is_given() -> None:
    dataset = numbers(seed=None)
    assert dataset_graph(dataset).is_unseeded
    assert not dataset_graph(numbers()).is_unseeded
    assert epoch(dataset, 1, entropy=5) == epoch(dataset, 1, entropy=5)
    assert len({tuple(epoch(dataset, n, entropy=e)) for n in (0, 1) for e in (5, 6)}) == 4


def test_several_shuffles_and_a_cache() -> None:
    def make() -> Dataset:
        both = Dataset.zip((Dataset.range(12).cache().shuffle(12, seed=1), Dataset.range(12).shuffle(12, seed=1)))
        return both.map(lambda a, b: 100 * a + b).shuffle(3, seed=9).batch(12)

    first, second = epoch(make(), 0), epoch(make(), 1)
    assert first == [int(x) for x in make().unbatch()]
    assert first != second
    assert epoch(make(), 1) == second


def test_reshuffling_is_seen() -> None:
    assert dataset_graph(numbers()).reshuffles
    assert not dataset_graph(Dataset.range(5).shuffle(5, seed=1, reshuffle_each_iteration=False)).reshuffles
    assert not dataset_graph(Dataset.range(5)).reshuffles


def test_the_hash_sees_structure_and_small_numbers() -> None:
    digests = {
        name: dataset_graph(dataset).digest
        for name, dataset in {
            "this": numbers(),
            "batch": numbers(batch=5),
            "buffer": numbers(size=11),
            "seed": numbers(seed=4),
            "function": Dataset.range(20).shuffle(10, seed=3).map(lambda x: x * 1).batch(4).prefetch(2),
            "stage": numbers().take(3),
        }.items()
    }
    assert len(set(digests.values())) == len(digests)
    assert dataset_graph(numbers()).digest == digests["this"]


DIGEST = """
    import numpy as np
    from tfjax._tensorflow import tf
    from tfjax.sources.dataset_graph import dataset_graph
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(tf.range(3), tf.range(3)), -1)
    {extra}
    dataset = tf.data.Dataset.from_tensor_slices({{"x": np.arange(200), "y": np.arange(200, dtype="float32")}})
    dataset = dataset.shuffle(9, seed=1).interleave(lambda e: tf.data.Dataset.range(e["x"]).map(lambda i: i + e["x"]))
    dataset = dataset.map(lambda x: tf.numpy_function(lambda v: v, [x], tf.int64)).batch(3)
    print(dataset_graph(dataset).digest, dataset_graph(dataset.unbatch().filter(lambda x: x > 3)).digest)
"""


def test_the_hash_is_the_same_in_another_process() -> None:
    other = "list(tf.data.Dataset.range(3).map(lambda x: tf.numpy_function(lambda v: v, [x], tf.int64)))"
    one, two = (python_process.run(DIGEST.format(extra=extra)).stdout for extra in ("", other))
    assert one == two
    assert len(one.split()) == 2


def test_large_tensors_are_not_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset.from_tensor_slices(np.zeros((100, 10))).shuffle(5).batch(2)
    assert dataset_graph(dataset) is not None
    monkeypatch.setattr(module, "MOST_BYTES", 7999)
    assert dataset_graph(dataset) is None
