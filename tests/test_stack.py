"""`stack`: the batches without it, k at a time, wherever they come from and wherever they go."""

import jax
import numpy as np
import pytest
import tensorflow as tf
from jax.sharding import AxisType, PartitionSpec

import tfjax
from tfjax.testing import assert_resumes_anywhere, assert_zero_copy, exact

ROWS = {"x": np.arange(96 * 3, dtype=np.float32).reshape(96, 3), "id": np.arange(96)}
BATCH = 8


def rows(**more):
    return tfjax.from_arrays({**ROWS, **more}).shuffle(3)


def noisy(batch, key):
    return {**batch, "x": batch["x"] + jax.random.normal(key, batch["x"].shape)}


def drawn(example, key):
    return {**example, "u": jax.random.uniform(key)}


def centred(batch):
    """What sees more than one batch gives something else."""
    return {**batch, "id": batch["id"] - batch["id"].max()}


def mapped(pipe):
    return pipe.random_device_map(noisy).random_device_map(drawn, per_example=True).device_map(centred)


def everything(pipe, **how):
    with pipe.iterate(**how) as run:
        return [jax.tree.map(np.asarray, element) for element in run]


def unstacked(stacks):
    return [jax.tree.map(lambda leaf, i=i: leaf[i], s) for s in stacks for i in range(len(jax.tree.leaves(s)[0]))]


def check(pipe, stacked, **how):
    exact(everything(pipe, **how), unstacked(everything(stacked, **how)))


def mesh(kind, devices=8):
    return jax.make_mesh((devices,), ("data",), axis_types=(kind,), devices=jax.devices()[:devices])


PLACES = {
    "one device": lambda p: p,
    "Auto": lambda p: p.place(mesh(AxisType.Auto), "data"),
    "Explicit": lambda p: p.place(mesh(AxisType.Explicit), "data"),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("held", [False, True], ids=["host", "device cache"])
def test_device_functions_see_one_batch(place, held):
    source = rows().cache("device") if held else rows()
    pipe = mapped(source.batch(BATCH, "pad").skip(1))
    stacked = place(pipe.stack(4))
    stacks = everything(stacked, epochs=2)  # before anything else fills the cache
    exact(everything(place(pipe), epochs=2), unstacked(stacks))
    batch, spec = stacked.skip(2).peek(), stacked.spec
    assert {k: (v.shape, v.sharding) for k, v in spec.items()} == {
        k: ((None, *v.shape[1:]), v.sharding if hasattr(spec[k], "sharding") and spec[k].sharding else None)
        for k, v in batch.items()
    }
    if place is not PLACES["one device"]:
        assert batch["id"].sharding.spec == PartitionSpec(None, "data")


def test_the_part_of_a_device_cache():
    pipe = mapped(rows().cache("device", limit_bytes=40 * 16).batch(BATCH, "pad"))
    stacks = everything(pipe.stack(5), epochs=2)
    exact(everything(pipe, epochs=2), unstacked(stacks))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_it_resumes_at_every_step_on_any_devices(kind):
    pipe = mapped(rows().batch(BATCH)).stack(5)
    assert_resumes_anywhere(pipe, epochs=2)
    whole = everything(pipe, epochs=2)
    with pipe.iterate(epochs=2) as run:
        next(run)
        assert (run.step, run.epoch, len(pipe)) == (1, 0, 3)
        next(run), next(run)
        assert (run.step, run.epoch) == (3, 1)
        state = run.state.to_json()
    exact(whole[3:], everything(pipe.place(mesh(kind), "data"), epochs=2, state=state))
    with pytest.raises(tfjax.StateMismatchError, match=r"stack\(k=6"):
        mapped(rows().batch(BATCH)).stack(6).iterate(state=state)


def test_a_strength_follows_the_step_of_each_batch():
    add = tfjax.image.RandomBrightness(lambda step: tf.cast(step, tf.float32) * 5)
    images = np.full((30, 2, 2, 3), 100, np.uint8)
    pipe = tfjax.from_arrays({"image": images}).apply(add).batch(2)
    check(pipe, pipe.stack(4), epochs=2)
    assert len({int(b["image"][0, 0, 0, 0]) for b in everything(pipe)}) > 5


def test_flips_that_are_left_to_the_devices(monkeypatch):
    monkeypatch.setattr("tfjax.placement.target.Target.is_accelerator", property(lambda _: True))
    images = np.random.default_rng(0).integers(0, 255, (20, 4, 4, 3)).astype(np.uint8)
    pipe = tfjax.from_arrays({"image": images}).apply(tfjax.image.RandomFlip()).batch(2)
    assert pipe._plan.flips
    check(pipe, pipe.stack(4))


def test_host_keys_stay_numpy():
    stack = rows(name=np.array([f"n{i}" for i in range(96)])).keep_on_host("name").batch(BATCH).stack(3).peek()
    assert isinstance(stack["name"], np.ndarray) and stack["name"].shape == (3, BATCH)
    assert [int(n[1:]) for n in stack["name"].ravel()] == np.asarray(stack["id"]).ravel().tolist()


def test_it_is_shared_with_the_graph_and_said_what_it_is():
    pipe = rows().batch(BATCH).stack(5)
    assert_zero_copy(pipe)
    assert str(pipe.copy_report()).splitlines()[1] == "['x']: float32[5,8,3], shared"
    assert "each has rows of every batch of a stack" in str(pipe.place(mesh(AxisType.Auto), "data").copy_report())
    assert "stack(k=5, remainder='keep')" in pipe.explain()
    assert "3 stacks of 5 batches, the last of 2" in pipe.explain()
    assert {k: s.shape for k, s in pipe.to_tf().element_spec.items()} == {"id": (None, 8), "x": (None, 8, 3)}
    whole = rows().batch(BATCH).stack(4)
    assert {k: s.shape for k, s in whole.spec.items()} == {"id": (4, 8), "x": (4, 8, 3)}
    assert [s["x"].shape for s in whole.to_tf()] == [(4, 8, 3)] * 3


def test_shown_are_the_rows_of_all_batches():
    images = np.arange(20 * 4, dtype=np.uint8).reshape(20, 2, 2, 1)
    assert repr(tfjax.from_arrays({"image": images}).batch(4).stack(2).show(6)) == "Picture(shown=6)"


def test_the_examples_of_a_stack_are_those_of_its_batches():
    pipe = tfjax.from_arrays(ROWS).take(30).batch(8, "pad").stack(3)
    with pipe.iterate() as run:
        for step, stack in enumerate(run):
            index = np.where(np.asarray(stack["mask"]), np.asarray(stack["id"]), -1)
            np.testing.assert_array_equal(run.examples(step), index.ravel())


def test_a_failure_names_the_example_of_any_batch():
    def fail(example):
        tf.debugging.assert_none_equal(example["id"], tf.constant(13, tf.int64), message="thirteen")
        return example

    with pytest.raises(tfjax.TfjaxError, match=r"(?s)map.*example 13.*thirteen"):
        everything(tfjax.from_arrays(ROWS).map(fail).batch(4).stack(6))


# Streams.


def stream(n=22):
    return tfjax.from_tf(tf.data.Dataset.from_tensor_slices({"x": np.arange(n, dtype=np.float32)}))


def of_unknown_length(n=22):
    return tfjax.from_tf(
        tf.data.Dataset.range(100).filter(lambda i: i < n).map(lambda i: {"x": tf.cast(i, tf.float32)})
    )


STREAMS = {
    "padded": lambda: stream().batch(4, "pad"),
    "dropped, some batches": lambda: stream().batch(4, "drop").skip(1).take(3),
    "batches by their source": lambda: tfjax.from_tf(
        tf.data.Dataset.range(22).map(lambda i: {"x": tf.cast(i, tf.float32)}).batch(4, drop_remainder=True)
    ),
    "of unknown length": lambda: of_unknown_length().batch(4, "pad"),
    "of generators": lambda: tfjax.from_generator(
        lambda: ({"x": np.float32(i)} for i in range(22)), {"x": jax.ShapeDtypeStruct((), np.float32)}
    ).batch(4, "pad"),
}


@pytest.mark.parametrize("build", STREAMS.values(), ids=STREAMS)
def test_streams(build):
    pipe = build().random_device_map(noisy)
    singles, stacked = everything(pipe, epochs=2), pipe.stack(2)
    with stacked.iterate(epochs=2) as run:
        stacks, states = [], []
        for stack in run:
            stacks.append(jax.tree.map(np.asarray, stack))
            states.append(run.state.to_json())
    exact(singles, unstacked(stacks))
    exact(stacks[2:], everything(stacked.place(mesh(AxisType.Auto, 2), "data"), epochs=2, state=states[1]))
    assert pipe.stack(2, "drop").spec["x"].shape == (2, 4)


def test_a_stream_leaves_out_what_fills_no_stack():
    for build in (STREAMS["padded"], STREAMS["of unknown length"]):
        assert [s["x"].shape for s in everything(build().stack(4, "drop"), epochs=2)] == [(4, 4)] * 2


def test_a_stream_knows_its_length_and_where_it_does_not():
    assert len(stream().batch(4, "pad").stack(4)) == 2 and len(stream().batch(4, "pad").stack(4).take(1)) == 1
    assert stream(24).batch(4).stack(3).spec["x"].shape == (3, 4)
    with pytest.raises(TypeError, match="not known"):
        len(of_unknown_length().batch(4, "pad").stack(2))
    endless = tfjax.from_tf(tf.data.Dataset.from_tensors({"x": np.float32(1)}).repeat())
    assert endless.batch(4).stack(3).spec["x"].shape == (3, 4)
    assert len(endless.batch(4).take(5).stack(3)) == 2


def test_what_a_stream_refuses():
    unknown = tf.data.Dataset.range(9).batch(2).map(lambda i: {"x": i})
    for pipe in (stream().batch(4), of_unknown_length().batch(4), tfjax.from_tf(unknown)):
        with pytest.raises(tfjax.SpecError, match=r"stack\(k=2.*batches of one size.*'pad'.*drop_remainder=True"):
            pipe.stack(2).iterate()
    with pytest.raises(ValueError, match="6 batches do not fill stacks of 4"):
        stream().batch(4, "pad").stack(4, "error").iterate()
    with pytest.raises((ValueError, tfjax.TfjaxError), match="the batches do not fill stacks of 4"):
        everything(of_unknown_length().batch(4, "pad").stack(4, "error"))


def test_a_checkpoint_between_two_stacks():
    def open_():
        ds = tf.data.Dataset.range(24).map(lambda i: {"x": tf.cast(i, tf.float32)})
        return tfjax.from_tf(ds, state="checkpoint").batch(4, "drop").stack(4)

    whole = everything(open_(), epochs=2)
    with open_().iterate(epochs=2) as run:
        for _ in range(3):
            next(run)
        state = run.state.to_json()
    exact(whole[3:], everything(open_(), epochs=2, state=state))
