"""Small steps: an MLP over digits, stacks of 32 batches trained by one scan, against a step at a time and Keras.

Every contender trains the same model with the same Adam on shuffled batches of the same rows, held in memory: the
digits of scikit-learn, repeated, as a stack ends with its epoch.
"""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tensorflow_datasets as tfds

import tfjax
from benchmarks.consume import going_on, row_sums
from benchmarks.harness import Bench, Contender, Timed, arguments, require_equal
from tfjax._tensorflow import tf

SIZES, HIDDEN, K, RATE = (32, 128), 128, 32, 1e-3
REPEATS = 16
# Steps a sample, of those that are fast and of those that are not.
STEPS, SLOW_STEPS, ROUNDS = 8192, 2048, 9
OURS, HELD, SINGLE = "tfjax, stack + scan", "tfjax, cache('device'), stack + scan", "tfjax, a step at a time"
PEER, FLOOR = "as_numpy, a step at a time", "scan over device data"
KERAS = {1: "Keras fit", K: f"Keras fit, steps_per_execution={K}"}
Rows = dict[str, np.ndarray]
Step = Callable[[Any, Any], tuple[Any, Any]]
OPTIMIZER = optax.adam(RATE)


def digits() -> Rows:
    """Whole stacks of batches of any of the sizes."""
    from sklearn.datasets import load_digits

    found = load_digits()
    count = REPEATS * len(found.target) // (max(SIZES) * K) * max(SIZES) * K
    image = np.tile(found.images.astype(np.uint8), (REPEATS, 1, 1))[:count]
    return {"image": image, "label": np.tile(found.target.astype(np.int32), REPEATS)[:count]}


def first() -> Any:
    """Weights of two dense layers, and the moments of Adam."""
    keys = jax.random.split(jax.random.key(0))
    shapes = ((64, HIDDEN), (HIDDEN, 10))
    weights = [jax.random.normal(k, s) / np.sqrt(s[0]) for k, s in zip(keys, shapes, strict=True)]
    params = {"weights": weights, "biases": [jnp.zeros(HIDDEN), jnp.zeros(10)]}
    return jax.block_until_ready((params, OPTIMIZER.init(params)))


def step(state: Any, batch: Any) -> tuple[Any, Any]:
    """One update."""
    params, moments = state

    def loss(params: Any) -> jax.Array:
        (one, two), (a, b) = params["weights"], params["biases"]
        x = batch["image"].reshape(-1, 64).astype(jnp.float32) / 16
        logits = jax.nn.relu(x @ one + a) @ two + b
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    value, slopes = jax.value_and_grad(loss)(params)
    changes, moments = OPTIMIZER.update(slopes, moments, params)
    return (optax.apply_updates(params, changes), moments), value


def trained(train: Step) -> Callable[[Iterable[Any]], int]:
    """Trains on what an iterator yields, going on from the state of before; how many steps that were."""
    states = [first()]

    def train_on(batches: Iterable[Any]) -> int:
        steps, state = 0, states.pop()
        for batch in batches:
            state, loss = train(state, batch)
            steps += loss.size
        states.append(jax.block_until_ready(state))
        return steps

    return train_on


def pipe_of(rows: Rows, size: int) -> tfjax.Pipeline:
    """Shuffled batches."""
    return tfjax.from_arrays(rows).shuffle(seed=0).batch(size)


def as_numpy(rows: Rows, size: int) -> Iterator[Any]:
    """The usual tf.data graph, without an end."""
    ds = tf.data.Dataset.from_tensor_slices(rows).cache().shuffle(len(rows["label"]), seed=0).repeat()
    return iter(tfds.as_numpy(ds.batch(size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)))


def on_device(rows: Rows, size: int) -> Iterator[Any]:
    """The stacks of one epoch, which lie on the device already, for ever."""
    return itertools.cycle([jax.tree.map(jnp.copy, stack) for stack in pipe_of(rows, size).stack(K)])


def keras_fit(rows: Rows, size: int, steps_per_execution: int) -> Callable[[], Timed]:
    """One epoch of `fit` over NumPy arrays, which Keras shuffles."""
    import keras

    layers = [keras.layers.Flatten(), keras.layers.Rescaling(1 / 16), keras.layers.Dense(HIDDEN, activation="relu")]
    model = keras.Sequential([keras.Input((8, 8)), *layers, keras.layers.Dense(10)])
    model.compile(
        optimizer=keras.optimizers.Adam(RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=steps_per_execution,
    )

    def fit() -> int:
        model.fit(rows["image"], rows["label"], batch_size=size, epochs=1, verbose=0)
        return len(rows["label"]) // size

    fit()
    return lambda: fit


def contenders(bench: Bench, rows: Rows, size: int) -> list[Contender]:
    """Those that go on, and the epochs of Keras."""
    scan, single = tfjax.scan_steps(step, K), jax.jit(step, donate_argnums=0)
    pipe, steps, slow = pipe_of(rows, size), bench.size(STEPS, 2 * K), bench.size(SLOW_STEPS, 2 * K)
    held = tfjax.from_arrays(rows).cache("device").shuffle(seed=0).batch(size)
    return [
        Contender(OURS, going_on(pipe.stack(K).iterate(forever=True), steps // K, trained(scan))),
        Contender(HELD, going_on(held.stack(K).iterate(forever=True), steps // K, trained(scan))),
        Contender(SINGLE, going_on(pipe.iterate(forever=True), slow, trained(single))),
        Contender(PEER, going_on(as_numpy(rows, size), slow, trained(single))),
        *(Contender(name, keras_fit(rows, size, count)) for count, name in KERAS.items()),
        Contender(FLOOR, going_on(on_device(rows, size), steps // K, trained(scan)), floor=True),
    ]


def require_same(rows: Rows, size: int) -> None:
    """An epoch of each holds the same rows, and the scan trains what single steps train."""
    wanted, steps = row_sums([rows]), len(rows["label"]) // size
    single = jax.jit(step, donate_argnums=0)
    one, other = first(), first()
    stacks = list(pipe_of(rows, size).stack(K))
    batches = [jax.tree.map(lambda leaf, i=i: leaf[i], stack) for stack in stacks for i in range(K)]
    require_equal("an epoch of stacks and the arrays", row_sums(batches), wanted)
    require_equal(
        "an epoch of as_numpy and the arrays", row_sums(itertools.islice(as_numpy(rows, size), steps)), wanted
    )
    for batch in batches:
        one, _ = single(one, batch)
    for stack in stacks:
        other, _ = tfjax.scan_steps(step, K)(other, stack)
    near = jax.tree.map(lambda a, b: bool(np.allclose(a, b, rtol=1e-4, atol=1e-5)), one, other)
    require_equal("parameters after an epoch, which are near each other,", jax.tree.all(near), True)


def main() -> None:
    """Compare, then measure."""
    about = "small steps: an MLP over digits, stacks of 32 batches by one scan"
    bench = Bench("scan", about, quick=arguments(__doc__).quick)
    rows = digits()
    require_same(rows, max(SIZES))
    for size in SIZES:
        title = f"digits MLP 64-{HIDDEN}-10, batch {size}"
        table = bench.measure(title, contenders(bench, rows, size), unit="step", rounds=bench.size(ROUNDS, 1))
        what = f"batch {size}, stack {K} + scan"
        bench.claim_faster(what, table, OURS, PEER, firm=3.0)
        for name in KERAS.values():
            bench.claim_faster(what, table, OURS, name, firm=4.0)
        bench.claim_within(what, table, OURS, FLOOR, firm=1.2)
        bench.claim_within(f"batch {size}, cache('device'), stack {K} + scan", table, HELD, FLOOR, firm=None)
    bench.write()


if __name__ == "__main__":
    main()
