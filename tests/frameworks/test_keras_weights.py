"""Sample weights of `to_keras`: masks, classes, leaves, and what `evaluate` measures with them."""

import numpy as np
import pytest

import tfjax

keras = pytest.importorskip("keras")

from tfjax.frameworks._keras_weights import ClassWeights  # noqa: E402

ROWS, BATCH = 23, 5
X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
Y = (X.sum(1) > 0).astype(np.int32)
W = np.linspace(0, 2, ROWS, dtype=np.float32)
DATA = tfjax.from_arrays({"x": X, "y": Y, "w": W, "row": np.arange(ROWS, dtype=np.int32)})
PADDED = DATA.batch(BATCH, remainder="pad")
KEYS = {"x": "x", "y": "y"}


def new_model():
    kernel = keras.initializers.GlorotUniform(seed=0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_initializer=kernel)])
    model.compile(
        optimizer="sgd",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=["accuracy", keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="entropy")],
    )
    return model


def evaluated(model, *data, **options):
    return model.evaluate(*data, verbose=0, return_dict=True, **options)


def weights_of(adapter):
    return [weight for *_, weight in adapter.get_jax_iterator()]


def test_evaluate_is_exact_on_a_padded_tail():
    model = new_model()
    padded = evaluated(model, PADDED.to_keras(**KEYS))
    kept = evaluated(model, DATA.batch(BATCH, remainder="keep").to_keras(**KEYS))
    whole = evaluated(model, X, Y, batch_size=ROWS)
    assert padded == pytest.approx(whole, rel=1e-6)
    assert kept == pytest.approx(whole, rel=1e-6)
    assert padded["loss"] == pytest.approx(padded["entropy"], rel=1e-6)


def test_evaluate_is_exact_with_sample_weights():
    model = new_model()
    assert evaluated(model, PADDED.to_keras(**KEYS, sample_weight="w")) == pytest.approx(
        evaluated(model, X, Y, sample_weight=W, batch_size=ROWS), rel=1e-6
    )


@pytest.mark.parametrize(("pipe", "steps", "rows"), [(PADDED, 2, slice(10)), (PADDED.skip(3), None, slice(15, ROWS))])
def test_evaluate_is_exact_on_some_batches(pipe, steps, rows):
    model = new_model()
    some = evaluated(model, pipe.to_keras(**KEYS), steps=steps)
    assert some == pytest.approx(evaluated(model, X[rows], Y[rows], batch_size=ROWS), rel=1e-6)


def test_fit_masks_what_is_padded():
    model, other = new_model(), new_model()
    model.fit(PADDED.skip(4).to_keras(**KEYS), verbose=0)  # 3 real rows of 5
    other.fit(
        np.pad(X[20:], ((0, 2), (0, 0))), np.pad(Y[20:], (0, 2)), sample_weight=np.array([1, 1, 1, 0, 0]), verbose=0
    )
    for ours, theirs in zip(model.weights, other.weights, strict=True):
        np.testing.assert_allclose(ours.value, theirs.value, rtol=1e-6)


def test_one_mask_weighs_several_targets():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, [keras.layers.Dense(1, name="a")(inputs), keras.layers.Dense(1, name="b")(inputs)])
    model.compile(loss=["mse", "mae"], weighted_metrics=[["mse"], ["mae"]])
    padded = evaluated(model, PADDED.to_keras(x="x", y=("w", "y")))
    assert padded == pytest.approx(evaluated(model, X, (W, Y), batch_size=ROWS), rel=1e-5)


def test_the_mask_multiplies_the_sample_weight():
    *_, last = weights_of(PADDED.to_keras(**KEYS, sample_weight="row"))
    assert last.tolist() == [20, 21, 22, 0, 0]


def test_a_leaf_alone_is_handed_on_as_it_is():
    batch = DATA.batch(BATCH).peek()
    weight = weights_of(DATA.batch(BATCH).to_keras(**KEYS, sample_weight="w"))[0]
    assert type(weight) is type(batch["w"])
    assert weights_of(PADDED.to_keras(**KEYS))[-1].dtype == bool


def test_weights_of_a_step_in_time():
    steps = tfjax.from_arrays({"x": X, "y": Y, "w": np.ones((ROWS, 2), np.float32)}).batch(BATCH, remainder="pad")
    *_, last = weights_of(steps.to_keras(**KEYS, sample_weight="w"))
    assert last.tolist() == [[1, 1]] * 3 + [[0, 0]] * 2


@pytest.mark.parametrize(
    "labels",
    [Y, Y[:, None], Y.astype(np.float32), np.eye(2, dtype=np.float32)[Y]],
    ids=["int", "column", "float", "one-hot"],
)
def test_class_weights(labels):
    pipe = tfjax.from_arrays({"x": X, "y": labels}).batch(ROWS)
    (weights,) = weights_of(pipe.to_keras(**KEYS, class_weight={0: 1.0, 1: 5.0}))
    assert weights.tolist() == np.where(Y, 5.0, 1.0).tolist()
    assert weights.dtype == np.float32


def test_class_weights_train_as_those_of_keras():
    ours, theirs = new_model(), new_model()
    ours.fit(DATA.batch(ROWS).to_keras(**KEYS, class_weight={0: 1.0, 1: 5.0}), epochs=2, verbose=0)
    theirs.fit(X, Y, class_weight={0: 1.0, 1: 5.0}, batch_size=ROWS, shuffle=False, epochs=2, verbose=0)
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(a.value, b.value)


def test_class_weights_multiply_the_others():
    adapter = PADDED.to_keras(**KEYS, sample_weight="w", class_weight={0: 1.0, 1: 5.0})
    expected = np.where(Y, 5.0, 1.0).astype(np.float32) * W
    assert np.concatenate(weights_of(adapter)).tolist() == [*expected.tolist(), 0.0, 0.0]


@pytest.mark.parametrize("weights", [{0: 1.0}, {1: 1.0, 5: 2.0}])
def test_a_class_without_a_weight_is_refused(weights):
    unknown = next(i for i, y in enumerate(Y) if y not in weights)
    with pytest.raises(ValueError, match=f"class {Y[unknown]} of row {unknown} has no weight: class_weight names"):
        new_model().fit(DATA.batch(ROWS).to_keras(**KEYS, class_weight=weights), verbose=0)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ({}, TypeError, "takes a dict of class to weight"),
        ([1.0, 2.0], TypeError, "takes a dict of class to weight"),
        ({"cat": 1.0}, TypeError, "a class takes an int, given 'cat'"),
        ({-1: 1.0}, ValueError, "a class takes an int from 0"),
        ({0: "1"}, TypeError, "the weight of class 0 is '1'"),
        ({0: float("nan")}, ValueError, "the weight of class 0 is nan"),
        ({0: -1.0}, ValueError, "the weight of class 0 is -1.0"),
    ],
)
def test_weights_that_are_none(weights, error, message):
    with pytest.raises(error, match=message):
        ClassWeights(weights)


@pytest.mark.parametrize("y", [None, ("y", "w"), {"a": "y"}])
def test_classes_are_those_of_one_target(y):
    with pytest.raises(ValueError, match="class_weight weights the classes of one target"):
        DATA.batch(BATCH).to_keras(x="x", y=y, class_weight={0: 1.0})
