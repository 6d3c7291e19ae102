"""The loss and the metrics of a classifier."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tfjax.training import classification, cross_entropy

LOGITS = jnp.array([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]])


def predict(x):
    return x


def test_labels_may_be_numbers_or_shares():
    wanted = optax.softmax_cross_entropy_with_integer_labels(LOGITS, jnp.array([2, 1]))
    np.testing.assert_array_equal(cross_entropy("x", "y")(predict, {"x": LOGITS, "y": jnp.array([2, 1])}), wanted)
    shares = jnp.eye(3)[jnp.array([2, 1])]
    np.testing.assert_allclose(cross_entropy("x", "y")(predict, {"x": LOGITS, "y": shares}), wanted, rtol=1e-5)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_is_nan(label):
    losses = cross_entropy("x", "y")(predict, {"x": LOGITS, "y": jnp.array([label, 1])})
    assert np.isnan(losses).tolist() == [True, False]


def test_accuracy_is_one_value_an_example():
    found = classification("x", "y")(predict, {"x": LOGITS, "y": jnp.array([2, 1])})
    assert found["accuracy"].tolist() == [False, True]
    assert found["loss"].shape == (2,)
    one_hot = classification("x", "y")(predict, {"x": LOGITS, "y": jnp.eye(3)[:2]})
    assert one_hot["accuracy"].tolist() == [True, True]


def test_inputs_may_be_several():
    loss = cross_entropy({"a": "x", "b": "z"}, "y")
    batch = {"x": LOGITS, "z": jnp.ones((2, 3)), "y": jnp.array([0, 1])}
    same = cross_entropy("x", "y")(predict, batch)
    np.testing.assert_allclose(loss(lambda both: both["a"] + both["b"], batch), same, rtol=1e-6)


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ({"x": LOGITS, "y": jnp.ones(2)}, TypeError, r"'y' is float32\[2\], and labels are integers"),
        ({"x": LOGITS}, KeyError, r"y='y' names nothing in the batch .* which has \['x'\]"),
    ],
)
def test_labels_that_are_none_are_refused(batch, error, message):
    with pytest.raises(error, match=message):
        cross_entropy("x", "y")(predict, batch)
