"""`keras.distribution.DataParallel`: batches are placed as it wants them, and moved once."""

import jax
import numpy as np
import pytest

import tfjax
from tfjax.errors import PlacementError

keras = pytest.importorskip("keras")

ROWS, BATCH = 22, 8
X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
DATA = tfjax.from_arrays({"x": X, "y": X.sum(1)})
KEYS = {"x": "x", "y": "y"}


@pytest.fixture(autouse=True)
def two_devices():
    distribution = keras.distribution.DataParallel(devices=keras.distribution.list_devices()[:2])
    with distribution.scope():
        yield distribution


def new_model():
    kernel = keras.initializers.GlorotUniform(seed=0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer=kernel)])
    model.compile(optimizer="sgd", loss="mse", weighted_metrics=["mae"])
    return model


def trained():
    """What a fit and an evaluation end with; each step is waited for, as landmine 19 of two devices has it."""
    model = new_model()
    wait = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: float(logs["loss"]))  # noqa: ARG005
    padded = DATA.batch(BATCH, remainder="pad")
    model.fit(DATA.shuffle(seed=0).batch(BATCH).to_keras(**KEYS), epochs=2, verbose=0, callbacks=[wait])
    weights = [np.asarray(weight.value) for weight in model.weights]
    return weights, model.evaluate(padded.to_keras(**KEYS), verbose=0, return_dict=True)


def test_two_devices_train_and_measure_as_one():
    weights, measured = trained()
    keras.distribution.set_distribution(None)
    expected, alone = trained()
    for ours, theirs in zip(weights, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert measured == pytest.approx(alone, rel=1e-5)


def test_batches_are_where_keras_wants_them_and_are_not_copied():
    from keras.src.backend.jax.trainer import _distribute_data

    x, y = next(DATA.batch(2 * BATCH).to_keras(**KEYS).get_jax_iterator())
    again = _distribute_data((x, y))
    for ours, theirs in zip((x, y), again, strict=True):
        assert len(ours.sharding.device_set) == 2
        assert ours.sharding.is_equivalent_to(theirs.sharding, ours.ndim)
        pointers = [[shard.data.unsafe_buffer_pointer() for shard in a.addressable_shards] for a in (ours, theirs)]
        assert pointers[0] == pointers[1]


def test_a_place_that_agrees_is_kept(two_devices):
    mesh = two_devices.get_data_layout((1,)).backend_layout.mesh
    pipe = DATA.batch(2).place(mesh, "batch", prefetch=3)
    adapter = pipe.to_keras(**KEYS)
    assert adapter._pipe_to_draw_from() is pipe


def test_a_place_elsewhere_is_refused():
    pipe = DATA.batch(BATCH).place(jax.devices()[0])
    with pytest.raises(PlacementError, match=r"place puts \['x'\] on .* wants NamedSharding.*: leave place out"):
        next(pipe.to_keras(**KEYS).get_jax_iterator())


def test_a_tail_that_does_not_divide_is_refused():
    odd = tfjax.from_arrays({"x": X[:5], "y": X[:5, 0]}).batch(2, remainder="keep")
    with pytest.raises(PlacementError, match="the last batch of an epoch has 1 rows"):
        next(odd.to_keras(**KEYS).get_jax_iterator())


def test_batches_in_parts_are_refused():
    with pytest.raises(PlacementError, match=r"place_per_device cuts batches for jax\.pmap"):
        DATA.batch(BATCH).place_per_device(jax.devices()[:2]).to_keras(**KEYS)
