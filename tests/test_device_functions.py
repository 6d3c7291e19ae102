"""`random_device_map`: keys that depend on seed, epoch and example alone; all device functions as one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
from jax.sharding import AxisType

import tfjax

ROWS = {"x": np.zeros((24, 5), np.float32), "id": np.arange(24, dtype=np.int32)}


def pipe_of(**_):
    return tfjax.from_arrays(ROWS).shuffle(0)


def noise(batch, key):
    return {**batch, "x": batch["x"] + jax.random.normal(key, batch["x"].shape)}


def drawn(example, key):
    return {**example, "u": jax.random.uniform(key)}


def everything(pipe, **how):
    return [jax.tree.map(np.asarray, b) for b in pipe.iterate(**how)]


def equal(one, other):
    return len(one) == len(other) and jax.tree.all(jax.tree.map(np.array_equal, one, other))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize("devices", [2, 8])
def test_the_same_bits_on_any_number_of_devices(kind, devices):
    pipe = pipe_of().batch(8).random_device_map(noise).random_device_map(drawn, per_example=True)
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(kind,), devices=jax.devices()[:devices])
    placed = pipe.place(mesh, "data")
    assert equal(everything(pipe, epochs=2), everything(placed, epochs=2))
    batch = placed.peek()
    assert batch["u"].sharding.spec[0] == "data" and batch["x"].sharding.is_equivalent_to(batch["id"].sharding, 1)
    assert jax.tree.map(lambda x: x.sharding, placed.spec) == jax.tree.map(lambda x: x.sharding, batch)


def test_keys_of_examples_do_not_depend_on_the_order_or_the_size_of_batches():
    def by_id(pipe):
        return {int(i): float(u) for b in everything(pipe) for i, u in zip(b["id"], b["u"], strict=True)}

    plain = tfjax.from_arrays(ROWS).batch(8).random_device_map(drawn, per_example=True)
    shuffled = pipe_of().batch(6).random_device_map(drawn, per_example=True)
    assert by_id(plain) == by_id(shuffled)
    assert len(set(by_id(plain).values())) == 24


def test_epochs_ops_seeds_and_batches_have_keys_of_their_own():
    twice = (
        pipe_of()
        .batch(8)
        .random_device_map(noise)
        .random_device_map(lambda b, k: {**b, "y": noise(b, k)["x"] - b["x"]})
    )
    first, second = everything(twice, epochs=1), everything(twice, start_epoch=1)
    assert not np.allclose(first[0]["x"], first[0]["y"], atol=1e-3), "two functions share a key"
    assert not np.array_equal(first[0]["x"], first[1]["x"]) and not np.array_equal(first[0]["x"], second[0]["x"])
    assert not equal(everything(twice.seed(1)), first)
    assert equal(everything(twice), first)


def test_it_resumes_in_mid_epoch_and_its_batches_keep_their_keys_behind_skip():
    pipe = pipe_of().batch(4).random_device_map(noise).random_device_map(drawn, per_example=True)
    whole = everything(pipe, epochs=2)
    with pipe.iterate(epochs=2) as batches:
        for _ in range(7):
            next(batches)
        state = batches.state
    assert equal(everything(pipe, epochs=2, state=state), whole[7:])
    assert equal(everything(pipe.skip(2)), whole[2:6])


def test_the_tail_and_padding():
    kept = tfjax.from_arrays(ROWS).take(11).batch(4, "keep").random_device_map(drawn, per_example=True)
    padded = tfjax.from_arrays(ROWS).take(11).batch(4, "pad").random_device_map(drawn, per_example=True)
    assert kept.spec["u"].shape == (None,) and padded.spec["u"].shape == (4,)
    for one, other in zip(everything(kept), everything(padded), strict=True):
        assert np.array_equal(one["u"], other["u"][other["mask"]])


def test_streams_have_a_key_for_each_batch():
    stream = tfjax.from_tf(
        tf.data.Dataset.range(6).map(lambda i: {"x": tf.fill((3,), tf.cast(i, tf.float32))}), batched=False
    )
    pipe = stream.batch(2).random_device_map(noise)
    assert equal(everything(pipe, epochs=2), everything(pipe, epochs=2))
    first, second = everything(pipe), everything(pipe, start_epoch=1)
    assert len(first) == 3 and not np.array_equal(first[0]["x"], second[0]["x"])
    with pytest.raises(ValueError, match=r"per_example=True\).*streams"):
        stream.batch(2).random_device_map(drawn, per_example=True)
    batched = tfjax.from_tf(tf.data.Dataset.range(6).batch(2).map(lambda i: {"x": tf.cast(i, tf.float32)}))
    assert len(everything(batched.random_device_map(noise))) == 3


def test_host_keys_are_not_shown_and_come_back():
    names = {**ROWS, "name": np.array([f"n{i}" for i in range(24)])}
    pipe = tfjax.from_arrays(names).keep_on_host("name").batch(8).random_device_map(noise)
    batch = pipe.peek()
    assert batch["name"][0] == b"n0" and batch["x"].std() > 0.5


def test_to_tf_and_the_copy_report_show_the_batch_before():
    pipe = pipe_of().batch(8).random_device_map(noise)
    assert set(pipe.to_tf().element_spec) == {"x", "id"}
    assert len(pipe.copy_report().leaves) == 2


def test_what_is_refused():
    with pytest.raises(ValueError, match="random_device_map needs batched elements"):
        pipe_of().random_device_map(noise)
    with pytest.raises(ValueError, match="place_per_device"):
        pipe_of().batch(8).random_device_map(noise).place_per_device(jax.devices()[:2])
    with pytest.raises(TypeError, match="random_device_map"):
        pipe_of().batch(8).random_device_map("noise")
    flip, scale = tfjax.on_device.random_flip("x"), tfjax.on_device.normalize("x", 1.0, 2.0)
    with pytest.raises(TypeError, match=r"device_map calls fn\(batch\), and random_flip.*random_device_map"):
        pipe_of().batch(8).device_map(flip)
    with pytest.raises(TypeError, match=r"random_device_map calls fn\(batch, key\), and normalize.*device_map"):
        pipe_of().batch(8).random_device_map(scale)


def test_functions_of_the_library_are_known_by_their_arguments():
    one, other = (pipe_of().batch(8).device_map(tfjax.on_device.normalize("x", m, 2.0)) for m in (1.0, 3.0))
    assert "normalize(key='x', mean=1.0, std=2.0" in one.explain()
    with one.iterate() as batches:
        next(batches)
        state = batches.state
    with pytest.raises(tfjax.StateMismatchError, match="device_map"):
        other.iterate(state=state)


def test_functions_are_traced_once_for_a_run_as_one():
    calls = []

    def count(batch):
        calls.append(None)
        return {**batch, "x": jnp.sum(batch["x"])}

    pipe = pipe_of().batch(8).device_map(count).device_map(lambda b: {"sum": b["x"]})
    assert len(everything(pipe, epochs=3)) == 9
    assert len(everything(pipe, start_epoch=1)) == 3
    assert len(calls) == 1, "another run compiles nothing"


# Errors.


def fails(batch):
    return {"x": batch["x"] + np.zeros(7)}


def test_a_function_that_cannot_be_traced_is_named_with_its_batch():
    pipe = tfjax.from_arrays(ROWS).batch(8).device_map(lambda b: {**b, "y": b["x"][:, 0]})
    given = r"\['id'\]: int32\[8\], \['x'\]: float32\[8,5\], \['y'\]: float32\[8\]"
    with pytest.raises(
        ValueError, match=rf"^device_map\(.*fails\) failed on a batch of {given}: .*broadcast"
    ) as caught:
        pipe.device_map(fails).peek()
    assert "broadcast" in str(caught.value.__cause__) and "failed on" not in str(caught.value.__cause__)
    with pytest.raises(ValueError, match=r"device_map\(.*fails\) failed on a batch of"):
        pipe.device_map(fails).spec  # noqa: B018
    with pytest.raises(KeyError, match=r"random_device_map\(.*per_example=True\) failed .*\['x'\].*KeyError: label"):
        next(pipe.random_device_map(lambda e, _: e["label"], per_example=True).iterate())
    with pytest.raises(
        tfjax.TfjaxError, match=r"device_map\(.*\) failed on a batch of float32\[3\]: ZeroDiv"
    ) as caught:
        tfjax.from_arrays(np.zeros(6, np.float32)).batch(3).device_map(lambda b: b / (1 // 0)).peek()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_an_error_of_the_library_keeps_its_kind():
    def refuse(_):
        raise tfjax.PlacementError("not here")

    with pytest.raises(tfjax.PlacementError, match=r"device_map\(.*refuse\) failed .*: PlacementError: not here"):
        pipe_of().batch(8).device_map(refuse).peek()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cached", [False, True])
def test_a_function_that_fails_when_it_runs_is_named_with_its_batch(cached):
    def broken(_):
        raise OSError("no such thing")

    def call(batch):
        return jax.pure_callback(broken, jax.ShapeDtypeStruct((), np.float32), batch["x"])

    pipe = tfjax.from_arrays(ROWS).cache("device") if cached else tfjax.from_arrays(ROWS)
    pipe = pipe.batch(8).device_map(lambda b: b).device_map(call)
    names = r"device_map\(.*<lambda>\), device_map\(.*call\)"
    with pytest.raises(tfjax.TfjaxError, match=rf"{names} failed on a batch of .*\['x'\]: float32\[8,5\]: ") as caught:
        jax.block_until_ready(pipe.peek())
    assert isinstance(caught.value.__cause__, jax.errors.JaxRuntimeError)
    assert "no such thing" in str(caught.value)
