"""`to_keras` in `fit`, `evaluate` and `predict`: which batches Keras gets, in which epoch."""

import os
import random
import subprocess
import sys

import jax
import numpy as np
import pytest

import tfjax

keras = pytest.importorskip("keras")

from tfjax.frameworks.keras import PipelineAdapter, build, small_cnn  # noqa: E402

ROWS, BATCH = 23, 5
X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
Y = (X.sum(1) > 0).astype(np.int32)
DATA = tfjax.from_arrays({"x": X, "y": Y, "row": np.arange(ROWS, dtype=np.int32)})


class Spy(PipelineAdapter):
    """Notes the rows of each batch that Keras draws, one list a pass."""

    def __init__(self, pipe, **options):
        super().__init__(pipe, x="x", y="y", **options)
        self.passes = []

    def _select(self, batch):
        self.passes[-1].append(batch["row"].tolist())
        return super()._select(batch)

    def get_jax_iterator(self):
        passed = []

        def run():
            self.passes.append(passed)
            yield from super(Spy, self).get_jax_iterator()

        return run()


def new_model(**options):
    model = keras.Sequential([keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="sgd", loss=loss, **options)
    return model


def rows_of(pipe, epoch):
    with pipe.iterate(epochs=1, start_epoch=epoch) as batches:
        return [batch["row"].tolist() for batch in batches]


@pytest.mark.parametrize("size", [BATCH, ROWS // 2, ROWS])  # 4, 2 and 1 batches in an epoch
def test_each_epoch_of_fit_is_an_epoch_of_the_pipeline(size):
    pipe = DATA.shuffle(seed=0).batch(size)
    spy = Spy(pipe, start_epoch=2)
    model = new_model()
    model.fit(spy, epochs=3, verbose=0)
    built, *epochs = spy.passes
    assert built == rows_of(pipe, 2)[:1]  # Keras's symbolic build draws one batch and throws it away
    assert epochs == [rows_of(pipe, epoch) for epoch in (2, 3, 4)]


def test_drawing_one_batch_ahead_changes_nothing(monkeypatch):
    """As Keras does on accelerators."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    pipe = DATA.shuffle(seed=0).batch(ROWS // 2)
    spy, model, steps = Spy(pipe), new_model(), []

    def note(batch, logs):  # noqa: ARG001
        steps.append(spy.state_after(batch + 1).step)

    model.fit(spy, epochs=2, verbose=0, callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=note)])
    assert spy.passes == [rows_of(pipe, epoch) for epoch in (0, 0, 1)]
    assert steps == [1, 2, 1, 2]


def test_each_fit_starts_at_start_epoch():
    pipe = DATA.shuffle(seed=0).batch(BATCH)
    spy, model = Spy(pipe), new_model()
    model.fit(spy, epochs=2, verbose=0)
    spy.passes.clear()
    model.fit(spy, epochs=2, verbose=0)
    assert spy.passes == [rows_of(pipe, 0), rows_of(pipe, 1)]


def test_a_fit_that_is_stopped_leaves_nothing_behind():
    pipe = DATA.shuffle(seed=0).batch(BATCH)
    spy, model = Spy(pipe), new_model()

    def stop(batch, logs):  # noqa: ARG001
        model.stop_training = batch == 2

    model.fit(spy, epochs=2, verbose=0, callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=stop)])
    spy.passes.clear()
    model.fit(spy, epochs=2, verbose=0)
    assert spy.passes == [rows_of(pipe, 0), rows_of(pipe, 1)]


def test_shorter_keras_epochs_go_on_through_the_data():
    pipe = DATA.shuffle(seed=0).batch(BATCH)  # 4 batches
    spy, model = Spy(pipe), new_model()
    model.fit(spy, epochs=4, steps_per_epoch=2, verbose=0)
    _, *passes = spy.passes
    whole = [rows_of(pipe, epoch) for epoch in range(4)]
    assert [len(p) for p in passes] == [4, 4]
    assert passes[0] == whole[0]
    assert passes[1] in whole[1:]


def test_validation_sees_the_same_epoch_each_time():
    train, held_out = Spy(DATA.shuffle(seed=0).batch(BATCH)), Spy(DATA.batch(BATCH, remainder="pad"))
    history = new_model(weighted_metrics=["accuracy"]).fit(train, validation_data=held_out, epochs=2, verbose=0)
    assert {"val_loss", "val_accuracy"} <= set(history.history)
    assert held_out.passes[-2:] == [rows_of(DATA.batch(BATCH, remainder="pad"), 0)] * 2


def test_evaluate_is_exact_on_a_padded_tail():
    model = new_model(weighted_metrics=["accuracy"])
    adapter = PipelineAdapter(DATA.batch(BATCH, remainder="pad"), x="x", y="y")
    measured = model.evaluate(adapter, verbose=0, return_dict=True)
    exact = np.mean(np.asarray(model(X)).argmax(-1) == Y)
    assert measured["accuracy"] == pytest.approx(exact, abs=1e-6)


def test_predict_takes_x_alone():
    model = new_model()
    adapter = PipelineAdapter(DATA.batch(BATCH), x="x")
    np.testing.assert_allclose(model.predict(adapter, verbose=0), np.asarray(model(X)), rtol=1e-5, atol=1e-6)


def test_what_keras_asks_of_an_adapter():
    drop, keep = (PipelineAdapter(DATA.batch(BATCH, remainder=r), x="x") for r in ("drop", "keep"))
    assert (drop.num_batches, drop.batch_size, drop.has_partial_batch) == (4, BATCH, False)
    assert (keep.num_batches, keep.batch_size, keep.has_partial_batch) == (5, None, True)


def test_batches_are_handed_over_as_they_are():
    class Keeping(PipelineAdapter):
        def _select(self, batch):
            self.batch = batch
            return super()._select(batch)

    adapter = Keeping(DATA.batch(BATCH), x="x", y="y")
    x, y = next(adapter.get_jax_iterator())
    assert x is adapter.batch["x"]
    assert y is adapter.batch["y"]


@pytest.mark.parametrize(
    ("keys", "structure"),
    [
        ({"x": "x", "y": "y"}, ("x", "y")),
        ({"x": ("x", "row"), "y": "y"}, (("x", "row"), "y")),
        ({"x": {"a": "x", "b": "row"}, "y": ("y",)}, ({"a": "x", "b": "row"}, ("y",))),
        ({"x": "x"}, ("x",)),
        ({"x": "x", "y": "y", "sample_weight": "row"}, ("x", "y", "row")),
        ({"x": "x", "sample_weight": "row"}, ("x", None, "row")),
    ],
)
def test_keys_choose_the_structure(keys, structure):
    pipe = DATA.batch(BATCH)
    batch = pipe.peek()
    expected = jax.tree.map(lambda key: batch[key], structure)
    got = next(PipelineAdapter(pipe, **keys).get_jax_iterator())
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_tuples_are_chosen_from_by_position():
    pipe = tfjax.from_arrays((X, Y)).batch(BATCH)
    x, y = next(PipelineAdapter(pipe, x=0, y=1).get_jax_iterator())
    np.testing.assert_array_equal(x, X[:BATCH])
    np.testing.assert_array_equal(y, Y[:BATCH])
    with pytest.raises(KeyError, match=r"no 2 in the pipeline's elements, which have \[0, 1\]"):
        PipelineAdapter(pipe, x=2)


def test_the_mask_multiplies_the_sample_weight():
    *_, (_, _, weight) = PipelineAdapter(
        DATA.batch(BATCH, remainder="pad"), x="x", y="y", sample_weight="row"
    ).get_jax_iterator()
    assert weight.tolist() == [20, 21, 22, 0, 0]


@pytest.mark.parametrize("keys", [{"x": "image"}, {"x": "x", "y": ("y", "z")}, {"x": "x", "sample_weight": "w"}])
def test_an_unknown_key_is_refused(keys):
    with pytest.raises(KeyError, match=r"no '(image|z|w)' in the pipeline's elements, which have \['row', 'x', 'y'\]"):
        PipelineAdapter(DATA.batch(BATCH), **keys)


def test_elements_without_batches_are_refused():
    with pytest.raises(ValueError, match=r"shape \(\): call \.batch\(size\)"):
        PipelineAdapter(DATA, x="x", y="y")


def test_a_state_holds_the_rest_of_its_epoch():
    pipe = DATA.shuffle(seed=0).batch(BATCH)
    with pipe.iterate(epochs=3, start_epoch=1) as batches:
        for _ in range(6):  # two batches into epoch 2
            next(batches)
        state = batches.state
    spy, model = Spy(pipe, state=state), new_model()
    model.build((None, 3))
    model.fit(spy, epochs=1, verbose=0)
    assert spy.num_batches == 2
    assert spy.passes[-1] == rows_of(pipe, 2)[2:]
    with pytest.raises(RuntimeError, match="rest of one epoch"):
        model.fit(spy, epochs=2, verbose=0)
    with pytest.raises(ValueError, match="start_epoch=1 beside a state"):
        Spy(pipe, state=state, start_epoch=1)


def test_state_after_a_step():
    pipe = DATA.shuffle(seed=0).batch(BATCH)
    adapter, model = PipelineAdapter(pipe, x="x", y="y", start_epoch=3), new_model()
    steps = []

    def note(batch, logs):  # noqa: ARG001
        state = adapter.state_after(batch + 1)
        steps.append((state.start_epoch, state.step))

    model.fit(adapter, epochs=2, verbose=0, callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=note)])
    assert steps == [(epoch, step) for epoch in (3, 4) for step in (1, 2, 3, 4)]
    with pytest.raises(ValueError, match=r"no state after 2 batches: known are those after \[3, 4\]"):
        adapter.state_after(2)


def test_to_keras_is_the_adapter():
    assert isinstance(DATA.batch(BATCH).to_keras(x="x", y="y", start_epoch=1), PipelineAdapter)


def test_building_leaves_pythons_generator_as_it_was():
    random.seed(5)
    before = random.getstate()
    build(small_cnn(2), {"image": jax.ShapeDtypeStruct((1, 8, 8, 1), np.float32)}, seed=1)
    assert random.getstate() == before


def run_python(code, **environment):
    given = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**given, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import keras, tfjax.frameworks.keras", "Keras was imported with the backend 'numpy'"),
        ("import tfjax.frameworks.keras", "KERAS_BACKEND is 'numpy'"),
    ],
)
def test_another_backend_is_refused(code, message):
    done = run_python(code, KERAS_BACKEND="numpy")
    assert f"ImportError: {message}" in done.stderr
    assert "set KERAS_BACKEND=jax in the environment before anything imports keras" in done.stderr


def test_the_backend_is_set_where_keras_is_not_imported_yet():
    done = run_python("import tfjax.frameworks.keras, sys; print('tensorflow' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr
