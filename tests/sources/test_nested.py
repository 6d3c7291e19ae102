"""Datasets inside of elements: refused with the fix, or flattened."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tfjax
from tfjax.errors import SpecError

Dataset = tf.data.Dataset


def episodes() -> Dataset:
    """As RLDS has them: steps beside what belongs to the episode."""

    def episode(i: tf.Tensor) -> dict[str, Any]:
        steps = Dataset.range(i + 1).map(lambda s: {"obs": tf.fill((2,), 10 * i + s), "reward": tf.cast(s, tf.float32)})
        return {"steps": steps, "id": i}

    return Dataset.range(3).map(episode)


def lists(pipe: "tfjax.Pipeline") -> list[Any]:
    import jax

    return [jax.tree.map(lambda a: np.asarray(a).tolist(), e) for e in pipe]


def test_a_nested_dataset_is_refused_with_the_fix() -> None:
    with pytest.raises(SpecError, match=r"\['steps'\] is a Dataset inside of each element: say nested='flatten'"):
        tfjax.from_tf(episodes())


def test_windows_become_their_elements() -> None:
    windows = Dataset.range(7).window(3, shift=2)
    assert lists(tfjax.from_tf(windows, nested="flatten")) == [0, 1, 2, 2, 3, 4, 4, 5, 6, 6]


def test_the_other_leaves_are_repeated_for_each() -> None:
    expected = [
        {"id": i, "steps": {"obs": [10 * i + s] * 2, "reward": float(s)}} for i in range(3) for s in range(i + 1)
    ]
    pipe = tfjax.from_tf(episodes(), nested="flatten")
    assert lists(pipe) == expected
    assert [b["id"] for b in lists(pipe.batch(4))] == [[0, 1, 1, 2], [2, 2]]


def test_a_dataset_in_a_dataset_in_a_dataset() -> None:
    nested = Dataset.range(8).window(4).map(lambda w: w.window(2))
    assert lists(tfjax.from_tf(nested, nested="flatten")) == list(range(8))


def test_tuples_keep_their_places() -> None:
    pairs = Dataset.range(2).map(lambda i: (i, Dataset.range(2).map(lambda j: (j, j + 1))))
    assert lists(tfjax.from_tf(pairs, nested="flatten")) == [(i, (j, j + 1)) for i in range(2) for j in range(2)]


def test_two_datasets_in_an_element_are_refused() -> None:
    windows = Dataset.from_tensor_slices({"x": np.arange(4), "y": np.arange(4)}).window(2)
    with pytest.raises(SpecError, match=r"\['x'\] and \['y'\] are Datasets.*Dataset\.zip"):
        tfjax.from_tf(windows, nested="flatten")
    zipped = windows.map(lambda w: Dataset.zip((w["x"], w["y"])))
    assert lists(tfjax.from_tf(zipped, nested="flatten")) == [(i, i) for i in range(4)]


def test_other_words_are_refused() -> None:
    with pytest.raises(ValueError, match="nested='zip': choose 'refuse' or 'flatten'"):
        tfjax.from_tf(Dataset.range(3), nested="zip")  # type: ignore[arg-type]


def test_a_dataset_without_nesting_is_left_alone() -> None:
    dataset = Dataset.range(3)
    assert tfjax.from_tf(dataset, nested="flatten")._chain[0].source.dataset is dataset
