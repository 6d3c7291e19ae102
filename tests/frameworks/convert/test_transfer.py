"""Whole models: which layers are paired, what is refused, and what a transfer leaves as it was."""

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from tfjax.frameworks.convert import equinox as to_equinox
from tfjax.frameworks.convert import haiku as to_haiku
from tfjax.frameworks.convert import keras as to_keras
from tfjax.frameworks.convert import linen as to_linen
from tfjax.frameworks.convert import nnx as to_nnx
from tfjax.frameworks.convert import pairs, transfer

KEY = jax.random.PRNGKey(0)
X = jax.random.normal(KEY, (2, 6, 6, 1))


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(3, (3, 3), name="conv")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, epsilon=1e-3, name="norm")(x))
        return nn.Dropout(0.5, deterministic=not train)(x)


class Net(nn.Module):
    """Layers in blocks, dropout, statistics."""

    @nn.compact
    def __call__(self, x, train=False):
        x = Block(name="first")(x, train)
        x = Block(name="second")(x, train)
        return nn.Dense(4, name="head")(x.reshape(len(x), -1))


def linen_net():
    variables = Net().init(KEY, X)
    shifted = jax.tree.map(lambda a: a + 0.3, variables["batch_stats"])
    variables = {"params": variables["params"], "batch_stats": shifted}
    return to_linen.Model(Net(), variables, (X,), {"train": True})


def keras_net():
    def block(name):
        layers = [keras.layers.Conv2D(3, 3, padding="same", name="conv"), keras.layers.BatchNormalization(name="norm")]
        return keras.Sequential([*layers, keras.layers.ReLU(), keras.layers.Dropout(0.5)], name=name)

    parts = [keras.Input((6, 6, 1)), block("first"), block("second"), keras.layers.Flatten()]
    return keras.Sequential([*parts, keras.layers.Dense(4, name="head")])


class NnxNet(nnx.Module):
    """The attributes in the order of the calls, which is not that of their names."""

    def __init__(self, rngs):
        self.start = nnx.List([nnx.Conv(1, 3, (3, 3), rngs=rngs), nnx.BatchNorm(3, epsilon=1e-3, rngs=rngs)])
        self.middle = nnx.List([nnx.Conv(3, 3, (3, 3), rngs=rngs), nnx.BatchNorm(3, epsilon=1e-3, rngs=rngs)])
        self.head = nnx.Linear(108, 4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        for conv, norm in (self.start, self.middle):
            x = self.dropout(nnx.relu(norm(conv(x))))
        return self.head(x.reshape(len(x), -1))


def test_a_whole_model_goes_from_linen_to_keras_and_nnx_and_back():
    source = linen_net()
    expected = Net().apply(source.variables, X)
    model = transfer(source, to_keras.Model(keras_net()))
    np.testing.assert_allclose(model(X), expected, rtol=1e-5, atol=1e-5)
    module = transfer(to_keras.Model(model), to_nnx.Model(NnxNet(nnx.Rngs(0))))
    module.eval()
    np.testing.assert_allclose(module(X), expected, rtol=1e-5, atol=1e-5)
    fresh = to_linen.Model(Net(), Net().init(jax.random.PRNGKey(1), X), (X,))
    back = transfer(to_nnx.Model(module), fresh)
    assert jax.tree.structure(back) == jax.tree.structure(source.variables)
    assert all(map(np.array_equal, jax.tree.leaves(back), jax.tree.leaves(source.variables)))


def test_pairs_are_in_order_within_a_kind():
    assert pairs(linen_net(), to_nnx.Model(NnxNet(nnx.Rngs(0)))) == {
        "start/0": "first/conv",
        "middle/0": "second/conv",
        "start/1": "first/norm",
        "middle/1": "second/norm",
        "head": "head",
    }


def test_names_choose_layers_and_leave_the_others():
    source, module = linen_net(), NnxNet(nnx.Rngs(0))
    head = np.array(module.head.kernel[...])
    transfer(source, to_nnx.Model(module), names={"start/0": "first/conv", "middle/1": "first/norm"})
    assert np.array_equal(module.start[0].kernel[...], source.variables["params"]["first"]["conv"]["kernel"])
    assert np.array_equal(module.middle[1].mean[...], source.variables["batch_stats"]["first"]["norm"]["mean"])
    assert np.array_equal(module.head.kernel[...], head)


def test_a_name_that_is_not_there_lists_what_is():
    source, target = linen_net(), to_nnx.Model(NnxNet(nnx.Rngs(0)))
    with pytest.raises(KeyError, match=r"no layer 'body' in the target.*'first/conv' conv: kernel.*'start/0' conv"):
        transfer(source, target, names={"body": "first/conv"})
    with pytest.raises(KeyError, match="no layer 'third/conv' in the source"):
        transfer(source, target, names={"start/0": "third/conv"})


def linear(inputs, outputs):
    return nnx.Linear(inputs, outputs, rngs=nnx.Rngs(0))


def test_shapes_that_differ_are_all_listed_and_nothing_is_written():
    source = nnx.Dict(a=linear(2, 3), b=linear(3, 4), c=linear(4, 4))
    target = nnx.Dict(a=linear(2, 3), b=linear(3, 5), c=linear(5, 4))
    before = np.array(target.a.kernel[...])
    with pytest.raises(ValueError, match=r"'b' of 'b', dense: kernel is \(3, 5\) in the target and \(3, 4\)") as e:
        transfer(to_nnx.Model(source), to_nnx.Model(target))
    assert "'c' of 'c', dense: kernel is (5, 4) in the target and (4, 4) in the source" in str(e.value)
    target.a.kernel.set_value(target.a.kernel[...] + 1)
    assert np.array_equal(target.a.kernel[...], before + 1)


def test_another_number_of_layers_lists_both_models():
    source, target = nnx.Dict(a=linear(2, 3), b=linear(3, 4)), nnx.Dict(a=linear(2, 3))
    with pytest.raises(ValueError, match=r"dense: 2 in the source, 1 in the target") as e:
        transfer(to_nnx.Model(source), to_nnx.Model(target))
    assert "  'b' dense: kernel (3, 4), bias (4,)" in str(e.value)


def test_a_layer_of_another_kind_is_refused():
    source = nnx.Dict(a=linear(2, 3))
    target = nnx.Dict(a=nnx.Embed(2, 3, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="'a' of 'a': the target is embed, the source dense"):
        transfer(to_nnx.Model(source), to_nnx.Model(target), names={"a": "a"})


class Scaled(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x) * self.param("factor", nn.initializers.ones, (2,))


class EqxScaled(eqx.Module):
    dense: eqx.nn.Linear
    factor: jax.Array


def unknown_parameters():
    x = jnp.ones((1, 3))

    def scaled(x):
        return hk.Linear(2)(x) * hk.get_parameter("factor", (2,), init=jnp.ones)

    function = hk.transform(scaled)
    yield "params/factor", to_linen.Model(Scaled(), Scaled().init(KEY, x), (x,))
    yield "factor", to_nnx.Model(nnx.Dict(dense=linear(3, 2), factor=nnx.Param(jnp.ones(2))))
    yield "factor", to_equinox.Model(EqxScaled(eqx.nn.Linear(3, 2, key=KEY), jnp.ones(2)))
    yield "params/~/factor", to_haiku.Model(function, function.init(KEY, x), inputs=(x,))
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.PReLU(name="factor")])
    yield f"{model.name}/factor/alpha", to_keras.Model(model)


@pytest.mark.parametrize("which", range(5))
def test_a_parameter_of_no_known_layer_is_an_error_unless_layers_are_chosen(which):
    path, model = list(unknown_parameters())[which]
    dense = to_nnx.Model(nnx.Dict(dense=linear(3, 2)))
    with pytest.raises(ValueError, match=f"of no layer that can be converted, in the source: {path}\n"):
        transfer(model, dense)
    with pytest.raises(ValueError, match=f"of no layer that can be converted, in the target: {path}\n"):
        transfer(dense, model)
    (layer,) = (p for p, layer in model.read().items() if layer.kind == "dense")
    transfer(model, dense, names={"dense": layer})
    with pytest.raises(ValueError, match="the target is dense, the source unknown"):
        transfer(model, dense, names={"dense": path})


def test_stacked_layers_are_refused():
    x = jnp.ones((1, 3))

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            layers = nn.vmap(nn.Dense, variable_axes={"params": 0}, split_rngs={"params": True})
            return layers(4)(jnp.stack([x, x]))

    model = to_linen.Model(Net(), Net().init(KEY, x), (x,))
    with pytest.raises(ValueError, match=r"kernel has shape \(2, 3, 4\), and 2 axes are what a dense layer has"):
        model.read()
    stacked = eqx.filter_vmap(lambda key: eqx.nn.Linear(3, 4, key=key))(jax.random.split(KEY))
    with pytest.raises(ValueError, match=r"weight has shape \(2, 4, 3\)"):
        to_equinox.Model(stacked).read()


def test_a_norm_over_several_axes_is_refused():
    with pytest.raises(ValueError, match="a norm over several axes, is not converted"):
        to_equinox.Model(eqx.nn.LayerNorm((2, 3))).read()
    x = jnp.ones((1, 2, 3))
    module = nn.LayerNorm(reduction_axes=(-2, -1), feature_axes=(-2, -1))
    model = to_linen.Model(module, module.init(KEY, x), (x,))
    assert {layer.kind for layer in model.read().values()} == {"unknown"}


def test_lifted_cells_and_shared_layers_are_found_once():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.RNN(nn.OptimizedLSTMCell(4), name="rnn")(x)
            dense = nn.remat(nn.Dense)(4, name="dense")
            return dense(dense(x))

    x = jnp.ones((2, 5, 3))
    layers = to_linen.Model(Twice(), Twice().init(KEY, x), (x,)).read()
    assert sorted(layer.kind for layer in layers.values()) == ["dense", "lstm"]
    unrolled = hk.transform(
        lambda x: hk.dynamic_unroll(hk.LSTM(4), x, hk.LSTM(4, name="other").initial_state(2), False)
    )
    layers = to_haiku.Model(unrolled, unrolled.init(KEY, x), inputs=(x,)).read()
    assert [layer.kind for layer in layers.values()] == ["lstm"]


def test_recurrent_layers_of_keras_hold_cells():
    layers = [
        keras.layers.Bidirectional(keras.layers.LSTM(2, name="own"), name="both"),
        keras.layers.GRU(3, name="gru"),
    ]
    model = keras.Sequential([keras.Input((4, 3)), layers[0], keras.layers.RepeatVector(2), layers[1]])
    found = {path: layer.kind for path, layer in to_keras.Model(model).read().items()}
    assert found == {"both/forward_own/lstm_cell": "lstm", "both/backward_own/lstm_cell": "lstm", "gru/gru_cell": "gru"}


def test_the_target_keeps_dtypes_devices_and_boxes():
    x, device = jnp.ones((1, 3)), jax.devices()[-1]
    initializer = nn.with_partitioning(nn.initializers.ones, (None, "model"))
    module = nn.Dense(2, kernel_init=initializer, param_dtype=jnp.bfloat16)
    variables = jax.device_put(module.init(KEY, x), device)
    received = transfer(to_nnx.Model(linear(3, 2)), to_linen.Model(module, variables, (x,)))["params"]
    assert isinstance(received["kernel"], nn.Partitioned)
    assert received["kernel"].names == (None, "model")
    assert received["kernel"].value.dtype == received["bias"].dtype == jnp.bfloat16
    assert received["bias"].devices() == {device}


def test_statistics_are_averaged_on_as_if_there_had_been_many_batches():
    """After the next batch of zeros the mean is 0.9 of what it was, in each framework."""
    values = to_nnx.Model(nnx.BatchNorm(2, rngs=nnx.Rngs(0)))
    values.module.mean.set_value(jnp.array([1.0, 2.0]))
    zeros = jnp.zeros((4, 2))
    net = hk.transform_with_state(lambda x: hk.BatchNorm(True, True, 0.9)(x, is_training=True))
    params, state = transfer(values, to_haiku.Model(net, *net.init(KEY, zeros), inputs=(zeros,)))
    _, state = net.apply(params, state, None, zeros)
    np.testing.assert_allclose(state["batch_norm/~/mean_ema"]["average"], [[0.9, 1.8]], rtol=1e-6)
    for mode in ("batch", "ema"):
        layer, old = eqx.nn.make_with_state(eqx.nn.BatchNorm)(2, "batch", momentum=0.9, mode=mode)
        layer, state = transfer(values, to_equinox.Model(layer, old))
        _, state = jax.vmap(layer, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(zeros, state)
        mean = to_equinox.Model(layer, state).read()[""].arrays["mean"]
        np.testing.assert_allclose(mean, [0.9, 1.8], rtol=1e-6)
        assert len(jax.tree.leaves(old)) == 3  # the user's state can still be used
        old.get(layer.batch_counter if mode == "batch" else layer.ema_first_time_index)


def test_a_batch_norm_of_equinox_needs_its_state():
    layer, _ = eqx.nn.make_with_state(eqx.nn.BatchNorm)(2, "batch", mode="batch")
    with pytest.raises(ValueError, match="keeps its statistics in a state: give state="):
        to_equinox.Model(layer)


def test_a_keras_model_must_be_built_and_its_paths_differ():
    with pytest.raises(ValueError, match="dense_model is not built"):
        to_keras.Model(keras.Sequential([keras.layers.Dense(2)], name="dense_model"))

    class Twins(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.other = keras.layers.Dense(3, name="d"), keras.layers.Dense(3, name="d")

        def call(self, x):
            return self.other(self.one(x))

    model = Twins()
    model(jnp.ones((1, 3)))
    with pytest.raises(ValueError, match=r"have the path '.*d.*'"):
        to_keras.Model(model).read()


def test_a_table_that_is_only_attended_to_is_found():
    class Tied(nn.Module):
        def setup(self):
            self.table = nn.Embed(5, 3)

        def __call__(self, x):
            return self.table.attend(x)

    x = jnp.ones((1, 3))
    assert list(to_linen.Model(Tied(), Tied().init(KEY, x), (x,)).read()) == ["table"]


def test_what_is_no_model_says_what_to_give():
    with pytest.raises(TypeError, match=r"the target is a Linear: give a Model of tfjax\.frameworks\.convert"):
        transfer(to_nnx.Model(linear(3, 2)), linear(3, 2))
    with pytest.raises(TypeError, match=r"inputs is a ArrayImpl: give the tuple"):
        to_linen.Model(nn.Dense(2), {}, jnp.ones((1, 3)))
    with pytest.raises(TypeError, match=r"inputs is a ArrayImpl: give the tuple"):
        to_haiku.Model(None, {}, inputs=jnp.ones((1, 3)))


def test_values_that_the_source_lacks_are_an_error_and_not_zeros():
    source, target = to_linen.Model(nn.Dense(3), {}, (X,)), to_linen.Model(nn.Dense(3), nn.Dense(3).init(KEY, X), (X,))
    with pytest.raises(ValueError, match=r"dense: the source has no kernel: give its Model all values"):
        transfer(source, target)


@pytest.mark.parametrize("names", [{}, "head", ["head"]])
def test_names_that_are_no_paths_are_refused(names):
    with pytest.raises(TypeError, match=r"names=.*: give a dict \{path in the target"):
        transfer(linen_net(), linen_net(), names=names)
