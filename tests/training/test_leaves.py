"""What a checkpoint keeps of a state: every leaf to the bit, or a refusal that names it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("orbax.checkpoint")

from jax.sharding import NamedSharding, PartitionSpec

import tfjax
from tests.training import small
from tfjax.training import Checkpoints, leaves
from tfjax.training.checkpoints import Store

REST = {"position": "{}", "history": {}, "callbacks": [], "stopped": ""}


def written_and_read(folder, state, into):
    store = Store(Checkpoints(folder))
    try:
        store.save(1, state, **REST)
        return store.restore(into).state
    finally:
        store.close()


def bits(leaf):
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf.dtype, np.asarray(jax.random.key_data(leaf)).tobytes()
    if isinstance(leaf, jax.Array | np.ndarray | np.generic):
        return type(leaf), leaf.dtype, leaf.shape, getattr(leaf, "weak_type", None), np.asarray(leaf).tobytes()
    return type(leaf), repr(leaf)


STATE = {
    "float32": jnp.array([1.1, jnp.nan]),
    "float16": jnp.full(3, 1.1, jnp.float16),
    "bfloat16": jnp.full(3, 1.1, jnp.bfloat16),
    "float8": jnp.full(3, 1.1, jnp.float8_e4m3fn),
    "int4": jnp.full(3, 5, jnp.int4),
    "bool": jnp.array([True, False]),
    "complex": jnp.array([1 + 2j]),
    "typed key": jax.random.key(3),
    "keys": jax.random.split(jax.random.key(3, impl="rbg"), 2),
    "empty": jnp.zeros((0, 2)),
    "weak": jnp.asarray(0.1),
    "numpy": np.array([2.0**60 + 2**10]),
    "numpy scalar": np.int64(2**40),
    "numpy float": np.float64(0.1),
    "int": 2**70,
    "float": 0.1,
    "infinite": float("-inf"),
    "text": "same",
    "none": None,
}


def test_every_kind_of_leaf_is_read_to_the_bit(tmp_path):
    other = jax.tree.map(lambda x: x[::-1] if np.ndim(x) == 1 else x, STATE) | {"int": 1, "float": 2.0, "text": ""}
    found = written_and_read(tmp_path, STATE, other)
    assert {name: bits(leaf) for name, leaf in found.items()} == {name: bits(leaf) for name, leaf in STATE.items()}


def test_what_is_no_array_is_plain_json():
    apart = leaves.taken_apart(STATE)
    assert json.loads(json.dumps(apart.plain)) == apart.plain
    assert len(apart.arrays) == len(leaves.targets(STATE, apart.kinds))


@pytest.mark.parametrize("first", [0, np.int32(0), np.zeros((), np.int32), jnp.zeros((), jnp.int32)])
def test_a_number_that_jit_made_an_array_is_read_for_the_number(first, tmp_path):
    """The state that a run begins with has a number where all later ones have an array."""
    found = written_and_read(tmp_path, {"n": jax.jit(lambda n: n + 1)(first)}, {"n": first})
    assert bits(found["n"]) == bits(jax.jit(lambda n: n + 1)(first))


def test_functions_are_those_of_the_state_that_it_is_read_for(tmp_path):
    state = {"w": jnp.ones(2), "activation": jax.nn.relu, "kind": dict}
    found = written_and_read(tmp_path, state, {**state, "w": jnp.zeros(2)})
    assert found["activation"] is jax.nn.relu and found["kind"] is dict
    assert found["w"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        (np.random.default_rng(0), r"\['inner'\]\[1\] is a Generator, of which a checkpoint would keep nothing: hold"),
        (np.array(["a"]), r"\['inner'\]\[1\] is a ndarray of <U1, of which"),
    ],
)
def test_what_would_be_lost_is_refused_before_the_first_step(leaf, message, tmp_path):
    def never(*_):
        raise AssertionError

    with pytest.raises(TypeError, match=message):
        tfjax.fit(never, {"inner": [1, leaf]}, small.pipe(), progress=False, checkpoint_dir=tmp_path)


def test_arrays_that_are_on_no_certain_device_stay_so(tmp_path):
    """A step may move them to the devices of its batch, as those that a run began with."""
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    state = {"free": jnp.ones(2), "key": jax.random.key(0), "weak": jnp.asarray(1.0), "laid": jnp.ones(4)}
    state["laid"] = jax.device_put(state["laid"], sharding)
    trained = jax.device_put(state, jax.devices()[1])
    found = written_and_read(tmp_path, trained, state)
    assert [found[name].committed for name in ("free", "key", "weak")] == [False] * 3
    assert found["laid"].sharding == sharding


def test_a_hand_written_state_goes_on_over_two_devices(tmp_path):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    pipe = small.pipe().place(mesh, "data")
    whole = tfjax.fit(small.step, small.first(), pipe, epochs=2, progress=False)
    for epochs in (1, 2):
        cut = tfjax.fit(small.step, small.first(), pipe, epochs=epochs, progress=False, checkpoint_dir=tmp_path)
    assert small.same(cut.state, whole.state)
