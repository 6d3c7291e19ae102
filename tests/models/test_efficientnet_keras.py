"""EfficientNet of examples/models: what the paper says of it, and that it trains."""

from functools import partial

import pytest

keras = pytest.importorskip("keras")

import jax  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

import tfjax  # noqa: E402
from examples.models.efficientnet_keras import B0, PUBLISHED, TINY, efficientnet, scaled, shapes  # noqa: E402

IMAGE = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
LABEL = np.arange(4)


@pytest.fixture(scope="module")
def model():
    return efficientnet(TINY, classes=4)


@pytest.fixture(scope="module")
def counts():
    return [sum(leaf.size for leaf in leaves) for leaves in shapes(partial(efficientnet, B0))]


def test_b0_has_the_published_parameters(counts):
    trained, counted = counts
    assert (trained, counted) == (PUBLISHED["trained"], PUBLISHED["all"])
    assert round(trained, -5) == 5_300_000  # table 2 of the paper


@pytest.mark.parametrize(
    ("size", "theirs"),
    [(B0, "EfficientNetB0"), (scaled(B0, width=1.1, depth=1.2, dropout=0.3), "EfficientNetB2")],
    ids=["B0", "B2"],
)
def test_variables_are_those_of_keras_applications(size, theirs):
    assert shapes(partial(efficientnet, size)) == shapes(partial(getattr(keras.applications, theirs), weights=None))


def test_stochastic_depth_grows_from_the_first_block_on(model):
    rates = [(layer.rate, layer.noise_shape) for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == [(0.0, (None, 1, 1, 1)), (TINY.drop_path / 2, (None, 1, 1, 1)), (TINY.dropout, None)]


def test_dropout_and_running_statistics_are_of_training_alone(model):
    trained, rest = ([v.value for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables))
    call = jax.jit(model.stateless_call, static_argnames="training")
    one, same = call(trained, rest, IMAGE, training=False)
    np.testing.assert_array_equal(one, call(trained, rest, IMAGE, training=False)[0])
    assert one.shape == (4, 4)
    jax.tree.map(np.testing.assert_array_equal, same, rest)

    first, after = call(trained, rest, IMAGE, training=True)
    second, _ = call(trained, after, IMAGE, training=True)  # other seeds; the batch's own statistics are the same
    assert (first != second).any()
    assert any((a != b).any() for a, b in zip(rest, after, strict=True))


def test_a_step_changes_every_parameter_and_the_loss_falls():
    model = efficientnet(TINY, classes=4)
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = [np.asarray(v) for v in model.trainable_variables]
    losses = [float(model.train_on_batch(IMAGE, LABEL))]
    after = [np.asarray(v) for v in model.trainable_variables]
    assert all((a != b).any() for a, b in zip(before, after, strict=True))
    assert all(np.isfinite(leaf).all() for leaf in after)
    losses += [float(model.train_on_batch(IMAGE, LABEL)) for _ in range(9)]
    assert losses[-1] < losses[0]


def test_trains_through_tfjax():
    from tfjax.frameworks import keras as frameworks_keras

    def loss(predict, batch):
        return optax.softmax_cross_entropy_with_integer_labels(predict(batch["image"]), batch["label"])

    pipe = tfjax.from_arrays({"image": IMAGE, "label": LABEL}).batch(4)
    state = frameworks_keras.create_state(lambda: efficientnet(TINY, classes=4), optax.adam(1e-2), pipe.spec)
    step, losses = frameworks_keras.train_step(loss), []
    for batch in pipe.iterate(epochs=8):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0]
    assert int(state.step) == 8
