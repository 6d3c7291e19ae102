"""What the contract's tests share: one small network in five frameworks, a batch for it, and steps compiled once.

`plain` is Dense, relu, Dense; `full` has batch statistics after the first Dense and dropout after the relu.
"""

import dataclasses
import functools
import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

LIBRARIES = {"linen": "flax", "nnx": "flax", "equinox": "equinox", "haiku": "haiku", "keras": "keras"}
BATCH, FEATURES, HIDDEN, CLASSES = 8, 8, 128, 4  # FEATURES * HIDDEN is just enough for fsdp to cut it
LEARNING_RATE = 0.1


def linen(*, full: bool) -> Any:
    from flax import linen as nn

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x: Any, train: bool) -> Any:
            x = nn.Dense(HIDDEN)(x)
            if full:
                x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
            x = nn.relu(x)
            if full:
                x = nn.Dropout(0.5, deterministic=not train)(x)
            return nn.Dense(CLASSES)(x)

    return Network()


def nnx(*, full: bool) -> Any:
    from flax import nnx

    class Network(nnx.Module):
        def __init__(self, inputs: Any, rngs: Any) -> None:
            self.first = nnx.Linear(inputs.shape[-1], HIDDEN, rngs=rngs)
            self.norm = nnx.BatchNorm(HIDDEN, momentum=0.9, rngs=rngs) if full else None
            self.dropout = nnx.Dropout(0.5, rngs=rngs) if full else None
            self.last = nnx.Linear(HIDDEN, CLASSES, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            x = self.first(x)
            x = jax.nn.relu(self.norm(x) if self.norm else x)
            return self.last(self.dropout(x) if self.dropout else x)

    return Network


def equinox(*, full: bool, mode: str = "batch") -> Any:
    import equinox as eqx

    class Plain(eqx.Module):
        first: Any
        last: Any

        def __init__(self, inputs: Any, key: Any) -> None:
            keys = jax.random.split(key)
            self.first = eqx.nn.Linear(inputs.shape[-1], HIDDEN, key=keys[0])
            self.last = eqx.nn.Linear(HIDDEN, CLASSES, key=keys[1])

        def __call__(self, x: Any) -> Any:
            return self.last(jax.nn.relu(self.first(x)))

    class Full(Plain):
        norm: Any
        dropout: Any

        def __init__(self, inputs: Any, key: Any) -> None:
            super().__init__(inputs, key)
            self.norm = eqx.nn.BatchNorm(HIDDEN, "batch", momentum=0.9, mode=mode)
            self.dropout = eqx.nn.Dropout(0.5)

        def __call__(self, x: Any, state: Any, key: Any) -> Any:
            x, state = self.norm(self.first(x), state)
            return self.last(self.dropout(jax.nn.relu(x), key=key)), state

    return eqx.nn.make_with_state(Full) if full else Plain


def haiku(*, full: bool) -> Any:
    import haiku as hk

    def network(x: Any, is_training: bool) -> Any:
        x = hk.Linear(HIDDEN)(x)
        if full:
            x = hk.BatchNorm(create_scale=True, create_offset=True, decay_rate=0.9)(x, is_training)
        x = jax.nn.relu(x)
        if full and is_training:
            x = hk.dropout(hk.next_rng_key(), 0.5, x)
        return hk.Linear(CLASSES)(x)

    return network


def keras(*, full: bool) -> Any:
    from tfjax.frameworks.keras import keras as library

    layers = library.layers

    def network() -> Any:
        norm = [layers.BatchNormalization(momentum=0.9)] if full else []
        dropout = [layers.Dropout(0.5)] if full else []
        return library.Sequential([layers.Dense(HIDDEN), *norm, layers.ReLU(), *dropout, layers.Dense(CLASSES)])

    return network


MODELS = {"linen": linen, "nnx": nnx, "equinox": equinox, "haiku": haiku, "keras": keras}


def loss(predict: Any, batch: Any) -> Any:
    """Cross-entropy, with the rows that are right as a metric; infinite, as its gradient, of a label below 0."""
    logits, label = predict(batch["x"]), batch["label"]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.clip(label, 0))
    return losses / (label >= 0), {"right": logits.argmax(-1) == label}


def metrics(predict: Any, batch: Any) -> Any:
    losses, more = loss(predict, batch)
    return {"loss": losses, **more}


def rows(*, seed: int = 0) -> dict[str, jax.Array]:
    """A batch, all of it real and of weight 1, of features around the class."""
    rng = np.random.default_rng(seed)
    label = np.arange(BATCH) % CLASSES
    x = rng.normal(0, 0.3, (BATCH, FEATURES)) + 2 * np.eye(CLASSES, FEATURES)[label]
    return {
        "x": jnp.asarray(x, jnp.float32),
        "label": jnp.asarray(label, jnp.int32),
        "weight": jnp.ones(BATCH, jnp.float32),
        "mask": jnp.ones(BATCH, bool),
    }


@dataclasses.dataclass(frozen=True)
class Case:
    """One framework and one of its networks."""

    name: str
    full: bool = False
    options: tuple[tuple[str, Any], ...] = ()

    @functools.cached_property
    def module(self) -> Any:
        pytest.importorskip(LIBRARIES[self.name])
        return importlib.import_module(f"tfjax.frameworks.{self.name}")

    def create(self, spec: Any = None, seed: int = 0, **more: Any) -> Any:
        return self.module.create_state(self.model, OPTIMIZER, rows() if spec is None else spec, seed, x="x", **more)

    @functools.cached_property
    def model(self) -> Any:
        assert self.module
        return MODELS[self.name](full=self.full, **dict(self.options))

    @functools.cached_property
    def first(self) -> Any:
        return self.create()

    def state(self) -> Any:
        """The first state again, as steps donate theirs."""
        return copied(self.first)

    @functools.cache  # noqa: B019 - cases are few, and live as long as the tests
    def step(self, **more: Any) -> Any:
        return self.module.train_step(loss, sample_weight="weight", **more)

    @functools.cached_property
    def evaluate(self) -> Any:
        return self.module.eval_step(metrics, sample_weight="weight")


OPTIMIZER = optax.sgd(LEARNING_RATE, momentum=0.9)


@functools.cache
def case(name: str, *, full: bool = False, **options: Any) -> Case:
    """The same one for every test that asks for it, with all that it compiled."""
    return Case(name, full, tuple(options.items()))


def copied(state: Any) -> Any:
    """The state with values of its own, as a checkpoint gives it back: through the host."""
    return jax.tree.map(lambda a: jax.device_put(np.array(a), a.sharding), state)


def bits(tree: Any) -> list[np.ndarray]:
    return [np.array(leaf) for leaf in jax.tree.leaves(tree)]


def same_bits(a: Any, b: Any) -> bool:
    a, b = bits(a), bits(b)
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def close(a: Any, b: Any, atol: float) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(bits(a), bits(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=atol)
