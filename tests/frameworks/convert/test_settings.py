"""Outputs agree for other sizes and settings, or the transfer is refused: around a circle of all frameworks."""

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.frameworks.convert.layers import Config, filled, fresh
from tfjax.frameworks.convert import equinox as to_equinox
from tfjax.frameworks.convert import haiku as to_haiku
from tfjax.frameworks.convert import keras as to_keras
from tfjax.frameworks.convert import linen as to_linen
from tfjax.frameworks.convert import transfer

CIRCLE = ("keras", "haiku", "equinox", "nnx", "linen")  # first those that have what the next may lack, such as no bias
KEY = jax.random.PRNGKey(0)
few = settings(max_examples=5)
sizes = st.sampled_from([2, 5])  # few, as each shape is compiled


def around(kind, config, circle=CIRCLE):
    """Random values of the first layer go from each to the next, and back."""
    case = filled(circle[0], kind, config)
    expected = case.outputs()
    for name in (*circle[1:], circle[0]):
        case = fresh(name, kind, config).received(case)
        np.testing.assert_allclose(case.outputs(), expected, rtol=1e-5, atol=1e-5, err_msg=name)


@few
@given(inputs=sizes, outputs=sizes, bias=st.booleans(), kind=st.sampled_from(["dense", "embed", "lstm"]))
def test_sizes(kind, inputs, outputs, bias):
    around(kind, Config(inputs=inputs, outputs=outputs, bias=bias))


def test_a_gru_without_bias():
    around("gru", Config(bias=False), ("keras", "equinox", "nnx", "linen"))
    around("gru", Config(bias=False, reset="before"), ("keras", "haiku"))


@few
@given(
    groups=st.sampled_from([1, 2]),
    bias=st.booleans(),
    scale=st.booleans(),
    epsilon=st.sampled_from([1e-6, 1e-5, 1e-3]),
    kind=st.sampled_from(["layer_norm", "batch_norm", "group_norm"]),
)
def test_a_norm(kind, groups, bias, scale, epsilon):
    around(kind, Config(inputs=4, groups=groups, bias=bias, scale=scale, epsilon=epsilon))


@few
@given(heads=st.sampled_from([1, 3]), bias=st.booleans())
def test_attention(heads, bias):
    around("attention", Config(heads=heads, size=2, bias=bias))


@st.composite
def windows(draw, *, dilated):
    """Strides or dilation, as Keras does not have both at once."""
    axes = draw(st.integers(1, 3))
    ones = (1,) * axes
    twos = st.tuples(*[st.integers(1, 2)] * axes)
    strides, dilation = draw(
        st.one_of(st.tuples(twos, st.just(ones)), st.tuples(st.just(ones), twos if dilated else st.just(ones)))
    )
    window = draw(st.tuples(*[st.integers(1, 2 if axes == 3 else 3)] * axes))
    return {
        "window": window,
        "strides": strides,
        "dilation": dilation,
        "padding": draw(st.sampled_from(["SAME", "VALID"])),
    }


@few
@given(window=windows(dilated=True), groups=st.integers(1, 2), bias=st.booleans())
def test_a_convolution(window, groups, bias):
    around("conv", Config(inputs=2 * groups, outputs=3 * groups, groups=groups, bias=bias, **window))


@few
@given(window=windows(dilated=False), bias=st.booleans())
def test_a_transposed_convolution(window, bias):
    longer = tuple(max(k, s) for k, s in zip(window["window"], window["strides"], strict=True))
    around("conv_transpose", Config(inputs=2, outputs=3, bias=bias, **{**window, "window": longer}))


def test_a_dilated_transposed_convolution():
    config = Config(strides=(1, 1), dilation=(2, 3))
    around("conv_transpose", config, ("keras", "equinox", "nnx", "linen"))


def test_strides_over_the_window_without_padding_are_not_the_same_everywhere():
    config = Config(window=(1,), strides=(3,), dilation=(1,), padding="VALID")
    around("conv_transpose", config, ("keras", "haiku", "nnx", "linen"))
    with pytest.raises(ValueError, match=r"padding is \(\(0, 0\),\) in the target and \(\(0, 2\),\) in the source"):
        fresh("equinox", "conv_transpose", config).received(filled("linen", "conv_transpose", config))


def test_causal_padding_in_each_framework():
    x = jax.random.normal(KEY, (2, 7, 3))
    source = nn.Conv(4, (3,), kernel_dilation=(2,), padding="CAUSAL")
    variables = source.init(KEY, x)
    expected, model = source.apply(variables, x), to_linen.Model(source, variables, (x,))
    theirs = keras.layers.Conv1D(4, 3, dilation_rate=2, padding="causal")
    theirs.build(x.shape)
    module = eqx.nn.Conv1d(3, 4, 3, dilation=2, padding=[(4, 0)], key=KEY)
    net = hk.without_apply_rng(hk.transform(lambda x: hk.Conv1D(4, 3, rate=2, padding=hk.pad.causal)(x)))
    np.testing.assert_allclose(transfer(model, to_keras.Model(theirs))(x), expected, rtol=1e-5, atol=1e-5)
    module = transfer(model, to_equinox.Model(module))
    np.testing.assert_allclose(jax.vmap(module)(x.swapaxes(1, 2)).swapaxes(1, 2), expected, rtol=1e-5, atol=1e-5)
    params = transfer(model, to_haiku.Model(net, net.init(KEY, x), inputs=(x,)))
    np.testing.assert_allclose(net.apply(params, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("more", [0, 1])
def test_output_padding_of_keras_is_rows_for_linen_and_equinox(padding, more):
    x = jax.random.normal(KEY, (2, 5, 3))
    layer = keras.layers.Conv1DTranspose(4, 4, strides=2, padding=padding, output_padding=more)
    expected = np.asarray(layer(x))
    ((before, after),) = to_keras.Model(layer).read()[""].settings["padding"]
    module = nn.ConvTranspose(4, (4,), strides=(2,), padding=[(before, after)])
    variables = transfer(to_keras.Model(layer), to_linen.Model(module, module.init(KEY, x), (x,)))
    np.testing.assert_allclose(module.apply(variables, x), expected, rtol=1e-5, atol=1e-5)
    other = eqx.nn.ConvTranspose1d(
        3, 4, 4, stride=2, padding=[(3 - before, 3 - after + more)], output_padding=more, key=KEY
    )
    other = transfer(to_keras.Model(layer), to_equinox.Model(other))
    np.testing.assert_allclose(jax.vmap(other)(x.swapaxes(1, 2)).swapaxes(1, 2), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "theirs", "ours", "said"),
    [
        ("layer_norm", {"epsilon": 1e-6}, {"epsilon": 1e-3}, "epsilon is 0.001 in the target and 1e-06 in the source"),
        ("group_norm", {"inputs": 4, "groups": 4}, {"inputs": 4, "groups": 2}, "groups is 2 in the target and 4 in"),
        ("conv", {"strides": (2, 2)}, {"strides": (1, 1)}, r"strides is \(1, 1\) in the target and \(2, 2\) in"),
        (
            "conv",
            {"padding": "SAME"},
            {"padding": "VALID"},
            r"padding is \(\(0, 0\), \(0, 0\)\) in the target and SAME in",
        ),
        (
            "conv_transpose",
            {"padding": "SAME"},
            {"padding": "VALID"},
            r"padding is .* in the target and .* in the source",
        ),
        (
            "dense",
            {"bias": True},
            {"bias": False},
            "the target has no bias, and that of the source is not 0 everywhere",
        ),
        (
            "attention",
            {"heads": 2, "size": 3},
            {"heads": 3, "size": 2},
            r"query is \(3, 3, 2\) in the target and \(3, 2, 3\)",
        ),
    ],
)
def test_what_would_change_the_outputs_is_refused(kind, theirs, ours, said):
    source, target = filled("linen", kind, Config(**theirs)), fresh("keras", kind, Config(**ours))
    before = [np.array(w.value) for w in target.model.model.weights]
    with pytest.raises(ValueError, match=said):
        target.received(source)
    assert all(np.array_equal(a, b.value) for a, b in zip(before, target.model.model.weights, strict=True))


def test_padding_that_depends_on_the_size_is_not_rows():
    x = jnp.zeros((1, 6, 2))
    one, other = nn.Conv(2, (3,), strides=2), nn.Conv(2, (3,), strides=2, padding=1)
    models = [to_linen.Model(module, module.init(KEY, x), (x,)) for module in (one, other)]
    with pytest.raises(ValueError, match=r"padding is \(\(1, 1\),\) in the target and SAME in the source"):
        transfer(*models)
