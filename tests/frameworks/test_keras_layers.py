"""Preprocessing layers of Keras in `map`: the deterministic ones work, the random ones are refused."""

import numpy as np
import pytest

import tfjax

keras = pytest.importorskip("keras")

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
ROWS = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
layers = keras.layers


def normalization():
    layer = layers.Normalization()
    layer.adapt(ROWS)
    return layer


def mapped(fn, rows):
    return tfjax.from_arrays({"x": rows}).map(lambda e: {"x": fn(e["x"])}).batch(len(rows)).peek()["x"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.Rescaling(1 / 255),
        lambda: layers.Resizing(5, 4),
        lambda: layers.CenterCrop(4, 4),
        lambda: layers.Pipeline([layers.Resizing(4, 4), layers.Rescaling(1 / 255)]),
    ],
)
def test_layers_of_one_image(make):
    layer = make()
    np.testing.assert_allclose(mapped(layer, IMAGES), layer(IMAGES.astype(np.float32)), rtol=1e-5, atol=1e-5)


def test_layers_of_a_batch_are_given_one_of_one_row():
    layer = normalization()
    np.testing.assert_allclose(mapped(lambda row: layer(row[None])[0], ROWS), layer(ROWS), rtol=1e-6)
    encoding = layers.CategoryEncoding(4, output_mode="one_hot")
    np.testing.assert_array_equal(mapped(lambda i: encoding(i[None])[0], np.arange(4)), np.eye(4))


def test_layers_with_tables():
    buckets, lookup = layers.Discretization([-0.5, 0.5]), layers.IntegerLookup(vocabulary=[7, 9])
    np.testing.assert_array_equal(mapped(buckets, ROWS), buckets(ROWS))
    np.testing.assert_array_equal(mapped(lookup, np.array([9, 7, 8])), [2, 1, 0])
    words = layers.TextVectorization(vocabulary=["a", "b"], output_sequence_length=2)
    pipe = tfjax.from_examples([{"x": "b a"}, {"x": "c"}]).map(lambda e: {"x": words(e["x"])}).batch(2)
    assert pipe.peek()["x"].tolist() == [[3, 2], [1, 0]]


@pytest.mark.parametrize("make", [lambda: layers.RandomFlip(seed=0), lambda: layers.RandomCrop(4, 4, seed=0)])
def test_random_layers_are_refused(make):
    with pytest.raises(ValueError, match=r"holds \w+ \(.*\), which writes a variable or table"):
        mapped(make(), IMAGES)


def test_layers_that_run_on_jax_alone_are_refused():
    with pytest.raises(TypeError, match=r"calls JAX on a symbolic tensor.*device_map"):
        mapped(lambda row: layers.Dense(2)(row[None])[0], ROWS)
