"""What the calls of Keras are told that it does not tell an adapter: what is ignored, and what is random."""

import numpy as np
import pytest

import tfjax

keras = pytest.importorskip("keras")

X = np.arange(24, dtype=np.float32).reshape(8, 3)
DATA = tfjax.from_arrays({"x": X, "y": X[:, 0]})


def new_model():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse")
    return model


@pytest.mark.parametrize("beside", [{"y": X}, {"sample_weight": X[:, 0]}, {"class_weight": {0: 1.0}}])
def test_what_keras_would_ignore_is_refused(beside):
    data = DATA.batch(4).to_keras(x="x", y="y")
    with pytest.raises(ValueError, match=f"fit is given {next(iter(beside))}= beside to_keras.*leave it out there"):
        new_model().fit(data, verbose=0, **beside)


def test_so_it_is_beside_validation_data():
    data = DATA.batch(4).to_keras(x="x", y="y")
    with pytest.raises(ValueError, match="is given y= beside to_keras"):
        new_model().fit(data, validation_data=(data, X), verbose=0)


RANDOM = {
    "shuffle(seed=0)": DATA.shuffle(seed=0).batch(4),
    "random_map(tests": DATA.random_map(lambda e, seed: e).batch(4),  # noqa: ARG005
    "random_device_map(tests": DATA.batch(4).random_device_map(lambda batch, key: batch),  # noqa: ARG005
}


@pytest.mark.parametrize("stage", RANDOM)
@pytest.mark.parametrize("method", ["evaluate", "predict"])
def test_a_random_pipeline_is_refused(stage, method):
    data = RANDOM[stage].to_keras(x="x", y="y")
    with pytest.raises(ValueError) as raised:
        getattr(new_model(), method)(data, verbose=0)
    assert str(raised.value).startswith(f"{method} is given a pipeline with {stage}")
    assert "pass allow_random=True" in str(raised.value)


def test_a_random_pipeline_is_refused_as_validation_data():
    train, shuffled = DATA.shuffle(seed=0).batch(4).to_keras(x="x", y="y"), DATA.shuffle(seed=1).batch(4)
    with pytest.raises(ValueError, match=r"evaluate is given a pipeline with shuffle\(seed=1\)"):
        new_model().fit(train, validation_data=shuffled.to_keras(x="x", y="y"), verbose=0)
    told = shuffled.to_keras(x="x", y="y", allow_random=True)
    assert "val_loss" in new_model().fit(train, validation_data=told, verbose=0).history


def test_a_model_of_its_own_fit_and_evaluate():
    class Model(keras.Sequential):
        def fit(self, *args, **options):
            return super().fit(*args, **options)

        def evaluate(self, *args, **options):
            return super().evaluate(*args, **options)

    model = Model([keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse")
    data = DATA.shuffle(seed=0).batch(4).to_keras(x="x", y="y")
    ends = []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(data.state))  # noqa: ARG005
    model.fit(data, steps_per_epoch=3, verbose=0, callbacks=[note])
    assert [(state.start_epoch, state.step) for state in ends] == [(1, 1)]
    with pytest.raises(ValueError, match="evaluate is given a pipeline with shuffle"):
        model.evaluate(data, verbose=0)
