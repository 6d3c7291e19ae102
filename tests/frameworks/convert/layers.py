"""The same layer in every framework: `CASES[framework](kind, config)` to a `Case` of random values."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import keras
import numpy as np
from flax import linen as nn
from flax import nnx

from tfjax.frameworks import convert
from tfjax.frameworks.convert import equinox as to_equinox
from tfjax.frameworks.convert import haiku as to_haiku
from tfjax.frameworks.convert import keras as to_keras
from tfjax.frameworks.convert import linen as to_linen
from tfjax.frameworks.convert import nnx as to_nnx

NAMES = ("linen", "nnx", "equinox", "haiku", "keras")
KINDS = (
    "dense",
    "conv",
    "conv_transpose",
    "embed",
    "layer_norm",
    "batch_norm",
    "group_norm",
    "attention",
    "lstm",
    "gru",
)
KEY = jax.random.PRNGKey(0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes and settings, all of which some kind uses."""

    inputs: int = 3
    outputs: int = 4
    bias: bool = True
    scale: bool = True
    window: tuple[int, ...] = (3, 2)
    strides: tuple[int, ...] = (2, 1)
    padding: str = "SAME"
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1
    heads: int = 2
    size: int = 3
    epsilon: float = 1e-3
    reset: str = "after"


@dataclasses.dataclass
class Case:
    """A layer with values, and its outputs for what `transfer` returns."""

    model: convert.Model
    run: Callable[[Any], Any]
    held: Any  # what `transfer` would return

    def outputs(self) -> np.ndarray:
        return np.asarray(self.run(self.held))

    def received(self, source: "Case") -> "Case":
        """The layer after a transfer from the source."""
        return self.holding(convert.transfer(source.model, self.model))

    def holding(self, held: Any) -> "Case":
        """The layer with what a transfer returned."""
        fields = {
            to_linen.Model: ("variables",),
            to_equinox.Model: ("module", "state"),
            to_haiku.Model: ("params", "state"),
        }
        names = fields.get(type(self.model), ())
        values = held if len(names) == 2 else (held,) * len(names)
        return Case(dataclasses.replace(self.model, **dict(zip(names, values, strict=True))), self.run, held)


def inputs(kind, c):
    """What the layer is called with, channels last."""
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    space = (6, 5, 4)[: len(c.window)]
    return {
        "dense": lambda: (normal(2, c.inputs),),
        "conv": lambda: (normal(2, *space, c.inputs),),
        "conv_transpose": lambda: (normal(2, *space, c.inputs),),
        "embed": lambda: (jnp.asarray(rng.integers(0, c.inputs, (2, 3)), jnp.int32),),
        "layer_norm": lambda: (normal(2, 3, c.inputs),),
        "batch_norm": lambda: (normal(2, 3, c.inputs),),
        "group_norm": lambda: (normal(2, 3, 2, c.inputs),),
        "attention": lambda: (normal(2, 5, c.inputs), normal(2, 11, c.inputs + 1)),
        "lstm": lambda: (normal(2, c.inputs), normal(2, c.outputs), normal(2, c.outputs)),
        "gru": lambda: (normal(2, c.inputs), normal(2, c.outputs)),
    }[kind]()


def flax_call(kind, apply, x):
    """Flax's order of arguments and results: a cell takes its state first, an LSTM's with c before h."""
    if kind == "attention":
        return apply(x[0], x[1], x[1])
    if kind == "lstm":
        (c, h), _ = apply((x[2], x[1]), x[0])
        return jnp.concatenate([h, c])
    if kind == "gru":
        return apply(x[1], x[0])[1]
    return apply(x[0])


def flax_inputs(kind, x):
    return {
        "attention": lambda: (x[0], x[1], x[1]),
        "lstm": lambda: ((x[2], x[1]), x[0]),
        "gru": lambda: (x[1], x[0]),
    }.get(kind, lambda: x)()


def ones(init, *x):
    """First values without the initializers, which take longer to compile than all the rest."""
    return jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), jax.eval_shape(init, KEY, *x))


def linen(kind, c):
    window = {"kernel_size": c.window, "strides": c.strides, "padding": c.padding, "kernel_dilation": c.dilation}
    norm = {"epsilon": c.epsilon, "use_bias": c.bias, "use_scale": c.scale}
    module = {
        "dense": lambda: nn.Dense(c.outputs, use_bias=c.bias),
        "conv": lambda: nn.Conv(c.outputs, **window, use_bias=c.bias, feature_group_count=c.groups),
        "conv_transpose": lambda: nn.ConvTranspose(c.outputs, **window, use_bias=c.bias),
        "embed": lambda: nn.Embed(c.inputs, c.outputs),
        "layer_norm": lambda: nn.LayerNorm(**norm),
        "batch_norm": lambda: nn.BatchNorm(use_running_average=True, **norm),
        "group_norm": lambda: nn.GroupNorm(c.groups, **norm),
        "attention": lambda: nn.MultiHeadAttention(
            c.heads, qkv_features=c.heads * c.size, out_features=c.outputs, use_bias=c.bias
        ),
        "lstm": lambda: nn.LSTMCell(c.outputs),
        "gru": lambda: nn.GRUCell(c.outputs),
    }[kind]()
    x = inputs(kind, c)
    variables = ones(module.init, *flax_inputs(kind, x))

    def run(variables):
        return flax_call(kind, lambda *args: module.apply(variables, *args), x)

    return Case(to_linen.Model(module, variables, flax_inputs(kind, x)), run, variables)


def nnx_(kind, c):
    window = {"kernel_size": c.window, "strides": c.strides, "padding": c.padding, "kernel_dilation": c.dilation}
    norm = {"epsilon": c.epsilon, "use_bias": c.bias, "use_scale": c.scale}
    rngs = {"rngs": nnx.Rngs(1)}
    first = {"kernel_init": nnx.initializers.ones, **rngs}
    cell = {**first, "recurrent_kernel_init": nnx.initializers.ones}
    module = {
        "dense": lambda: nnx.Linear(c.inputs, c.outputs, use_bias=c.bias, **first),
        "conv": lambda: nnx.Conv(c.inputs, c.outputs, **window, use_bias=c.bias, feature_group_count=c.groups, **first),
        "conv_transpose": lambda: nnx.ConvTranspose(
            c.inputs, c.outputs, **window, use_bias=c.bias, transpose_kernel=True, **first
        ),
        "embed": lambda: nnx.Embed(c.inputs, c.outputs, **rngs),
        "layer_norm": lambda: nnx.LayerNorm(c.inputs, **norm, **rngs),
        "batch_norm": lambda: nnx.BatchNorm(c.inputs, use_running_average=True, **norm, **rngs),
        "group_norm": lambda: nnx.GroupNorm(c.inputs, c.groups, **norm, **rngs),
        "attention": lambda: nnx.MultiHeadAttention(
            c.heads,
            c.inputs,
            qkv_features=c.heads * c.size,
            out_features=c.outputs,
            in_kv_features=c.inputs + 1,
            use_bias=c.bias,
            decode=False,
            **first,
        ),
        "lstm": lambda: nnx.OptimizedLSTMCell(c.inputs, c.outputs, **cell),
        "gru": lambda: nnx.GRUCell(c.inputs, c.outputs, **cell),
    }[kind]()
    x = inputs(kind, c)
    return Case(to_nnx.Model(module), lambda module: flax_call(kind, module, x), module)


def equinox(kind, c):
    n = len(c.window)
    window = {"kernel_size": c.window, "stride": c.strides, "padding": c.padding, "dilation": c.dilation}
    module, state = eqx.nn.make_with_state(
        {
            "dense": lambda: eqx.nn.Linear(c.inputs, c.outputs, use_bias=c.bias, key=KEY),
            "conv": lambda: eqx.nn.Conv(n, c.inputs, c.outputs, **window, groups=c.groups, use_bias=c.bias, key=KEY),
            "conv_transpose": lambda: eqx.nn.ConvTranspose(n, c.inputs, c.outputs, **window, use_bias=c.bias, key=KEY),
            "embed": lambda: eqx.nn.Embedding(c.inputs, c.outputs, key=KEY),
            "layer_norm": lambda: eqx.nn.LayerNorm(c.inputs, c.epsilon, c.scale, c.bias),
            "batch_norm": lambda: eqx.nn.BatchNorm(c.inputs, "batch", c.epsilon, c.bias or c.scale, mode="batch"),
            "group_norm": lambda: eqx.nn.GroupNorm(c.groups, c.inputs, c.epsilon, c.bias or c.scale),
            "attention": lambda: eqx.nn.MultiheadAttention(
                c.heads,
                c.inputs,
                key_size=c.inputs + 1,
                value_size=c.inputs + 1,
                output_size=c.outputs,
                qk_size=c.size,
                vo_size=c.size,
                **{f"use_{name}_bias": c.bias for name in ("query", "key", "value", "output")},
                key=KEY,
            ),
            "lstm": lambda: eqx.nn.LSTMCell(c.inputs, c.outputs, use_bias=c.bias, key=KEY),
            "gru": lambda: eqx.nn.GRUCell(c.inputs, c.outputs, use_bias=c.bias, key=KEY),
        }[kind]
    )()
    x = inputs(kind, c)

    def first(x):
        return jnp.moveaxis(x, -1, 1)

    def run(held):
        module, state = held
        if kind in ("conv", "conv_transpose", "group_norm"):
            return jnp.moveaxis(jax.vmap(module)(first(x[0])), 1, -1)
        if kind == "batch_norm":
            module = eqx.nn.inference_mode(module)
            return jnp.moveaxis(jax.vmap(lambda x: module(x, state)[0], axis_name="batch")(first(x[0])), 1, -1)
        if kind == "layer_norm" or kind == "embed":
            return jax.vmap(jax.vmap(module))(x[0])
        if kind == "attention":
            return jax.vmap(module)(x[0], x[1], x[1])
        if kind == "lstm":
            return jnp.concatenate(jax.vmap(module)(x[0], (x[1], x[2])))
        return jax.vmap(module)(*x)

    return Case(to_equinox.Model(module, state), run, (module, state))


def haiku(kind, c):
    n = len(c.window)
    window = {"kernel_shape": c.window, "stride": c.strides, "padding": c.padding, "with_bias": c.bias}
    norm = {"create_scale": c.scale, "create_offset": c.bias, "eps": c.epsilon}
    layer = {
        "dense": lambda: hk.Linear(c.outputs, with_bias=c.bias),
        "conv": lambda: hk.ConvND(n, c.outputs, **window, rate=c.dilation, feature_group_count=c.groups),
        "conv_transpose": lambda: hk.ConvNDTranspose(n, c.outputs, **window),
        "embed": lambda: hk.Embed(c.inputs, c.outputs),
        "layer_norm": lambda: hk.LayerNorm(-1, **norm),
        "batch_norm": lambda: hk.BatchNorm(decay_rate=0.9, **norm),
        "group_norm": lambda: hk.GroupNorm(c.groups, **norm),
        "attention": lambda: hk.MultiHeadAttention(
            c.heads, c.size, w_init=hk.initializers.VarianceScaling(), with_bias=c.bias, model_size=c.outputs
        ),
        "lstm": lambda: hk.LSTM(c.outputs),
        "gru": lambda: hk.GRU(c.outputs),
    }[kind]
    x = inputs(kind, c)

    def call(*x, training=True):
        if kind == "batch_norm":
            return layer()(*x, is_training=training)
        if kind == "attention":
            return layer()(x[0], x[1], x[1])
        if kind == "lstm":
            _, new = layer()(x[0], hk.LSTMState(x[1], x[2]))
            return jnp.concatenate([new.hidden, new.cell])
        return layer()(*x)[0] if kind == "gru" else layer()(*x)

    transformed = hk.without_apply_rng(hk.transform_with_state(call))
    params, state = ones(transformed.init, *x)
    model = to_haiku.Model(transformed, params, state, inputs=x)
    return Case(model, lambda held: transformed.apply(*held, *x, training=False)[0], (params, state))


def keras_(kind, c):
    n = len(c.window)
    first = {"kernel_initializer": "ones"}
    cell = {**first, "recurrent_initializer": "ones", "use_bias": c.bias}
    window = {"kernel_size": c.window, "strides": c.strides, "padding": c.padding, "use_bias": c.bias, **first}
    norm = {"epsilon": c.epsilon, "center": c.bias, "scale": c.scale}
    layers = keras.layers
    layer = {
        "dense": lambda: layers.Dense(c.outputs, use_bias=c.bias, **first),
        "conv": lambda: getattr(layers, f"Conv{n}D")(c.outputs, **window, dilation_rate=c.dilation, groups=c.groups),
        "conv_transpose": lambda: getattr(layers, f"Conv{n}DTranspose")(c.outputs, **window, dilation_rate=c.dilation),
        "embed": lambda: layers.Embedding(c.inputs, c.outputs),
        "layer_norm": lambda: layers.LayerNormalization(**norm),
        "batch_norm": lambda: layers.BatchNormalization(**norm),
        "group_norm": lambda: layers.GroupNormalization(c.groups, **norm),
        "attention": lambda: layers.MultiHeadAttention(
            c.heads, c.size, use_bias=c.bias, output_shape=(c.outputs,), **first
        ),
        "lstm": lambda: layers.LSTMCell(c.outputs, **cell),
        "gru": lambda: layers.GRUCell(c.outputs, **cell, reset_after=c.reset == "after"),
    }[kind]()
    x = inputs(kind, c)

    def run(layer):
        if kind == "lstm":
            return jnp.concatenate(layer(x[0], [x[1], x[2]])[1])
        return layer(x[0], [x[1]])[0] if kind == "gru" else layer(*x)

    run(layer)
    return Case(to_keras.Model(layer), run, layer)


CASES = {"linen": linen, "nnx": nnx_, "equinox": equinox, "haiku": haiku, "keras": keras_}


def fresh(framework, kind, config):
    """The layer with its first values."""
    return CASES[framework](kind, config)


def filled(framework, kind, config, *, without=()):
    """The layer with random values; arrays named in `without` are zero."""
    case = fresh(framework, kind, config)
    rng = np.random.default_rng(len(framework))

    def random(name, array):
        if name in without:
            return np.zeros_like(array)
        values = rng.normal(0.1, 0.6, array.shape)
        return (np.abs(values) + 0.3 if name in ("var", "scale") else values).astype(array.dtype)

    layers = {
        path: dataclasses.replace(layer, arrays={name: random(name, a) for name, a in layer.arrays.items()})
        for path, layer in case.model.read().items()
    }
    return case.holding(case.model.write(layers))
