"""`to_keras` in `fit`, `evaluate` and `predict`: which batches Keras gets, in which epoch."""

import gc

import jax
import numpy as np
import pytest

import tfjax

keras = pytest.importorskip("keras")

from tfjax.frameworks.keras import PipelineAdapter  # noqa: E402

ROWS, BATCH = 23, 5
X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
Y = (X.sum(1) > 0).astype(np.int32)
DATA = tfjax.from_arrays({"x": X, "y": Y, "row": np.arange(ROWS, dtype=np.int32)})


class Spy(PipelineAdapter):
    """Notes the rows of each batch that Keras draws, one list a pass."""

    def __init__(self, pipe, **options):
        super().__init__(pipe, x="x", y="y", **options)
        self.passes = []

    def _where(self):
        self.passes.append([])
        return super()._where()

    def _select(self, batch, scale=1.0):
        self.passes[-1].append(batch["row"].tolist())
        return super()._select(batch, scale)


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
        steps.append(spy.state.step)

    model.fit(spy, epochs=2, verbose=0, callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=note)])
    assert spy.passes == [rows_of(pipe, epoch) for epoch in (0, 0, 1)]
    assert steps == [1, 2, 1, 2]


def test_one_run_goes_through_the_epochs_of_a_fit_and_ends_with_it():
    pipe, runs = DATA.shuffle(seed=0).batch(BATCH), []
    adapter, model = Spy(pipe), new_model()
    model.build((None, 3))

    def note(epoch, logs):  # noqa: ARG001
        runs.append(id(adapter._run()))

    held_out = DATA.batch(BATCH).to_keras(x="x", y="y")
    hook = keras.callbacks.LambdaCallback(on_epoch_end=note)
    model.fit(adapter, epochs=3, verbose=0, validation_data=held_out, callbacks=[hook])
    assert adapter.passes[-3:] == [rows_of(pipe, epoch) for epoch in range(3)]
    assert len(set(runs)) == 1
    gc.collect()
    assert adapter._run() is None


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


@pytest.mark.parametrize("steps", [2, 3, 4, 6])
def test_with_steps_per_epoch_the_data_goes_on_through_the_pipelines_epochs(steps):
    pipe = DATA.shuffle(seed=0).batch(BATCH)  # 4 batches
    spy, model, ends = Spy(pipe, start_epoch=1), new_model(), []

    def note(epoch, logs):  # noqa: ARG001
        ends.append((spy.state.start_epoch - 1) * 4 + spy.state.step)

    hook = keras.callbacks.LambdaCallback(on_epoch_end=note)
    model.fit(spy, epochs=3, steps_per_epoch=steps, verbose=0, callbacks=[hook])
    _, trained = spy.passes
    with pipe.iterate(forever=True, start_epoch=1) as batches:
        assert trained == [next(batches)["row"].tolist() for _ in range(3 * steps)]
    assert ends == [steps, 2 * steps, 3 * steps]


def test_the_progress_bar_knows_the_number_of_steps():
    seen = {}
    pipe, model = DATA.batch(BATCH), new_model()
    model.fit(pipe.to_keras(x="x", y="y"), verbose=0, callbacks=[note := keras.callbacks.Callback()])
    seen["whole"] = note.params["steps"]
    model.fit(pipe.to_keras(x="x", y="y"), steps_per_epoch=6, verbose=0, callbacks=[note := keras.callbacks.Callback()])
    seen["counted"] = note.params["steps"]
    assert seen == {"whole": 5, "counted": 6}


def test_several_steps_an_execution():
    pipe = DATA.shuffle(seed=0).batch(BATCH)  # 4 batches: 3 and 1
    spy, model = Spy(pipe), new_model(steps_per_execution=3)
    model.fit(spy, epochs=2, verbose=0)
    _, *epochs = spy.passes
    assert epochs == [rows_of(pipe, epoch) for epoch in (0, 1)]


def test_validation_sees_the_same_batches_each_time():
    train, held_out = Spy(DATA.shuffle(seed=0).batch(BATCH)), Spy(DATA.batch(BATCH))
    history = new_model().fit(train, validation_data=held_out, validation_steps=2, epochs=2, verbose=0)
    assert {"val_loss"} <= set(history.history)
    assert held_out.passes == [rows_of(DATA.batch(BATCH), 0)[:2]] * 2


def test_one_adapter_trains_and_validates():
    pipe = DATA.shuffle(seed=0).batch(BATCH)
    spy, model = Spy(pipe, allow_random=True), new_model()
    model.build((None, 3))
    model.fit(spy, validation_data=spy, epochs=2, verbose=0)
    assert spy.passes[-4:] == [rows_of(pipe, epoch) for epoch in (0, 0, 1, 0)]


def test_evaluate_starts_at_start_epoch_after_a_fit():
    pipe = DATA.shuffle(seed=0).batch(BATCH)
    spy, model = Spy(pipe, start_epoch=2, allow_random=True), new_model()
    model.fit(spy, epochs=2, verbose=0)
    spy.passes.clear()
    model.evaluate(spy, verbose=0)
    model.predict(spy, verbose=0)
    assert spy.passes == [rows_of(pipe, 2)] * 2


def test_initial_epoch_numbers_the_epochs_of_keras_alone():
    pipe = DATA.shuffle(seed=0).batch(BATCH)
    spy, model = Spy(pipe, start_epoch=1), new_model()
    history = model.fit(spy, initial_epoch=5, epochs=7, verbose=0)
    assert history.epoch == [5, 6]
    assert spy.passes[-2:] == [rows_of(pipe, 1), rows_of(pipe, 2)]


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
        def _select(self, batch, scale=1.0):
            self.batch = batch
            return super()._select(batch, scale)

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


@pytest.mark.parametrize("keys", [{"x": "image"}, {"x": "x", "y": ("y", "z")}, {"x": "x", "sample_weight": "w"}])
def test_an_unknown_key_is_refused(keys):
    with pytest.raises(KeyError, match=r"no '(image|z|w)' in the pipeline's elements, which have \['row', 'x', 'y'\]"):
        PipelineAdapter(DATA.batch(BATCH), **keys)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"x": ()}, ValueError, r"given \(\), which names nothing"),
        ({"x": None}, TypeError, "to_keras takes a key, a tuple of keys, or a dict of them, given None"),
        ({"x": "x", "sample_weight": ("y",)}, TypeError, r"sample_weight=\('y',\): give one key"),
        ({"x": "x", "state": 3}, TypeError, r"state is a int: give a tfjax\.State, or the text of its to_json"),
    ],
    ids=["nothing", "none", "weights", "state"],
)
def test_arguments_of_another_kind_are_refused(options, error, said):
    with pytest.raises(error, match=said):
        PipelineAdapter(DATA.batch(BATCH), **options)


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


def test_the_state_is_that_after_the_step():
    pipe = DATA.shuffle(seed=0).batch(BATCH)
    adapter, model = PipelineAdapter(pipe, x="x", y="y", start_epoch=3), new_model()
    with pytest.raises(ValueError, match="no fit is drawing from this adapter"):
        adapter.state  # noqa: B018
    steps = []

    def note(batch, logs):  # noqa: ARG001
        steps.append((adapter.state.start_epoch, adapter.state.step))

    model.fit(adapter, epochs=2, verbose=0, callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=note)])
    assert steps == [(epoch, step) for epoch in (3, 4) for step in (1, 2, 3, 4)]


def test_a_state_and_steps_per_epoch():
    pipe = DATA.shuffle(seed=0).batch(BATCH)
    with pipe.iterate(forever=True) as batches:
        _, state = [next(batches) for _ in range(3)], batches.state
        rest = [next(batches)["row"].tolist() for _ in range(4)]
    spy, model = Spy(pipe, state=state), new_model()
    model.fit(spy, steps_per_epoch=2, epochs=2, verbose=0)
    assert spy.passes[-1] == rest


def test_values_reach_the_ops():
    images = tfjax.from_arrays({"x": np.full((2, 4, 4, 1), 100, np.uint8)})
    pipe = images.apply(tfjax.image.RandomBrightness(tfjax.image.Value("light", default=0), key="x")).batch(2)
    as_it_is, lighter = (next(pipe.to_keras(x="x", values={"light": v}).get_jax_iterator())[0] for v in (0, 50))
    assert (as_it_is == 100).all()
    assert (lighter != 100).any()


def test_to_keras_is_the_adapter():
    assert isinstance(DATA.batch(BATCH).to_keras(x="x", y="y", start_epoch=1), PipelineAdapter)


def test_batches_on_explicit_axes_are_trained_on():
    """As `jax.make_mesh` makes them: Keras computes as on one device, and nothing is copied."""
    rows = {"x": np.arange(32, dtype=np.float32).reshape(8, 4) / 32, "y": np.ones(8, np.float32)}
    pipe = tfjax.from_arrays(rows).batch(4)
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    assert mesh.axis_types == (jax.sharding.AxisType.Explicit,)
    losses = []
    for each in (pipe, pipe.place(mesh, "data")):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, kernel_initializer="ones")])
        model.compile("sgd", "mse")
        losses.append(model.fit(each.to_keras(x="x", y="y"), epochs=2, verbose=0).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)
    from tfjax.frameworks._keras_place import with_auto_axes

    placed = pipe.place(mesh, "data").peek()["x"]
    moved = with_auto_axes(placed)
    pointers = [[shard.data.unsafe_buffer_pointer() for shard in a.addressable_shards] for a in (placed, moved)]
    assert pointers[0] == pointers[1]
