"""Labels as shares of classes, the same in the graph and on a device."""

from typing import Any

import numpy as np
import pytest

import tfjax
from tfjax import image as ops
from tfjax._tensorflow import tf

LABELS = np.array([0, 3, 2, -1, 4, 1])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("dtype", ["int64", "int32", "int8"])
def test_it_is_what_a_device_does(dtype: str, smoothing: float) -> None:
    pipe = tfjax.from_arrays({"label": LABELS.astype(dtype)})
    there = pipe.batch(6).device_map(tfjax.on_device.one_hot("label", 4, smoothing=smoothing)).peek()["label"]
    here = pipe.apply(ops.OneHot(4, smoothing)).batch(6).peek()["label"]
    assert here.dtype == np.float32
    np.testing.assert_allclose(here, there, atol=1e-7)
    np.testing.assert_allclose(np.asarray(here).sum(-1), [1, 1, 1, 0, 0, 1], rtol=1e-6)


def test_smoothing_is_shared_out() -> None:
    out = ops.OneHot(5, 0.1)({"label": tf.constant(2)})["label"].numpy()
    np.testing.assert_allclose(out, [0.02, 0.02, 0.92, 0.02, 0.02], rtol=1e-6)


def test_labels_of_any_shape() -> None:
    labels = np.array([[1, 0], [2, 2]], np.uint8)
    np.testing.assert_array_equal(ops.OneHot(3)({"label": tf.constant(labels)})["label"], np.eye(3)[labels])


@pytest.mark.parametrize(
    ("made", "kind", "words"),
    [
        (lambda: ops.OneHot(0), ValueError, "OneHot: num_classes takes an int from 1"),
        (lambda: ops.OneHot(2.5), TypeError, "OneHot: num_classes takes an int"),
        (lambda: ops.OneHot(3, smoothing=1.5), ValueError, "smoothing is 1.5: it is from 0 to 1"),
        (lambda: ops.OneHot(3, key=""), TypeError, "key is '': pass the name of a key, such as 'label'"),
    ],
)
def test_wrong_arguments(made: Any, kind: Any, words: str) -> None:
    with pytest.raises(kind, match=words):
        made()


def test_labels_that_are_none() -> None:
    for labels in (np.zeros(3, np.float32), np.zeros((3, 4), np.float32), np.array([b"cat"])):
        with pytest.raises(TypeError, match=r"OneHot\(3\): 'label' is \w+, and labels are integers"):
            tfjax.from_arrays({"label": labels}).apply(ops.OneHot(3))
