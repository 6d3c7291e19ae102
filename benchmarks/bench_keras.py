"""Keras `fit` on JAX over batches of 64x224x224x3 and of 128x28x28 float32, against what Keras makes of the same data.

The dataset is one batch of constants, repeated, so that what is measured is `fit` and the way of a batch into it. A
second table for the small batch has rows shuffled in memory. The floor is `fit` over one batch that is on the device.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras
import numpy as np
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

import tfjax
from benchmarks.harness import Bench, Contender, Timed, arguments, require_equal
from tfjax._tensorflow import tf

LARGE, SMALL = (64, 224, 224, 3), (128, 28, 28)
TFJAX, TF_DATA, NUMPY, PY_DATASET = "tfjax", "fit(tf.data.Dataset)", "fit(NumPy arrays)", "fit(PyDataset)"
CONSTANT = "fit on a constant device batch"
ROWS = 60_032  # of the table of shuffled rows, as many as MNIST has, in whole batches


class Constant(DataAdapter):  # type: ignore[misc]  # Keras ships no types
    """One batch on the device, again and again."""

    def __init__(self, batch: tuple[Any, Any], steps: int) -> None:
        """Put it there."""
        self._batch, self._steps = jax.device_put(batch), steps

    def get_jax_iterator(self) -> Iterator[tuple[Any, Any]]:
        """The batch, `steps` times."""
        return iter([self._batch] * self._steps)

    @property
    def num_batches(self) -> int:
        """How often."""
        return self._steps


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches by number."""

    def __init__(self, make: Callable[[int], tuple[Any, Any]], steps: int) -> None:
        """Keep the function."""
        super().__init__()
        self._make, self._steps = make, steps

    def __len__(self) -> int:
        """How many there are."""
        return self._steps

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        """One of them."""
        return self._make(number)


def batch_of(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Random images in [0, 1) and labels."""
    rng = np.random.default_rng(0)
    return rng.random(shape, np.float32), rng.integers(0, 10, shape[0]).astype(np.int32)


def model_for(shape: tuple[int, ...]) -> Any:
    """A model of few steps that reads every pixel: means of channels, or all pixels, to 10 logits."""
    keras.utils.set_random_seed(0)
    first = keras.layers.GlobalAveragePooling2D() if len(shape) == 4 else keras.layers.Flatten()
    model = keras.Sequential([keras.Input(shape[1:]), first, keras.layers.Dense(10)])
    model.compile(optimizer="sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def constant_ways(shape: tuple[int, ...], steps: int, held: int) -> dict[str, tuple[Any, int]]:
    """What `fit` is given for one batch `steps` times, and how many steps that is; arrays hold fewer, for memory."""
    x, y = batch_of(shape)
    ds = tf.data.Dataset.from_tensors({"x": x, "y": y}).repeat(steps)
    pairs = ds.map(lambda batch: (batch["x"], batch["y"]))
    arrays = (np.concatenate([x] * held), np.concatenate([y] * held))
    return {
        TFJAX: (tfjax.from_tf(ds, batched=True).to_keras(x="x", y="y"), steps),
        TF_DATA: (pairs, steps),
        PY_DATASET: (Batches(lambda _: (x, y), steps), steps),
        NUMPY: (arrays, held),
        CONSTANT: (Constant((x, y), steps), steps),
    }


def shuffled_ways(rows: int, batch: int) -> dict[str, tuple[Any, int]]:
    """What `fit` is given for rows in memory, shuffled."""
    x, y = batch_of((rows, *SMALL[1:]))
    steps = rows // batch
    ds = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(10_000).batch(batch, drop_remainder=True)
    ours = tfjax.from_arrays({"x": x, "y": y}).shuffle(seed=0).batch(batch, remainder="drop")
    order = np.random.default_rng(1).permutation(rows)

    def rows_of(number: int) -> tuple[Any, Any]:
        index = order[number * batch : (number + 1) * batch]
        return x[index], y[index]

    return {
        TFJAX: (ours.to_keras(x="x", y="y"), steps),
        TF_DATA: (ds.prefetch(tf.data.AUTOTUNE), steps),
        PY_DATASET: (Batches(rows_of, steps), steps),
        NUMPY: ((x, y), steps),
        CONSTANT: (Constant((x[:batch], y[:batch]), steps), steps),
    }


def fit(model: Any, data: Any, batch: int, *, shuffle: bool) -> float:
    """One epoch; its mean loss."""
    if isinstance(data, tuple):
        return float(model.fit(*data, batch_size=batch, shuffle=shuffle, verbose=0).history["loss"][0])
    shuffle = shuffle and isinstance(data, keras.utils.PyDataset)
    return float(model.fit(data, shuffle=shuffle, verbose=0).history["loss"][0])


def fitting(model: Any, data: Any, steps: int, batch: int, *, shuffle: bool) -> Callable[[], Timed]:
    """A contender's `open`: a whole `fit` of one epoch is timed."""

    def timed() -> int:
        fit(model, data, batch, shuffle=shuffle)
        return steps

    return lambda: timed


def measure(bench: Bench, title: str, ways: dict[str, tuple[Any, int]], shape: tuple[int, ...], shuffle: bool) -> Any:
    """A `fit` of each, by the same model."""
    model = model_for(shape)
    contenders = [
        Contender(name, fitting(model, data, steps, shape[0], shuffle=shuffle), floor=name == CONSTANT)
        for name, (data, steps) in ways.items()
    ]
    return bench.measure(title, contenders, unit="step")


def require_same(ways: dict[str, tuple[Any, int]], shape: tuple[int, ...]) -> None:
    """Let each train a new model, and compare the losses of those that see as many batches."""
    model = model_for(shape)
    first = [np.asarray(weight.value) for weight in model.weights]
    found = {}
    for name, (data, steps) in ways.items():
        for weight, value in zip(model.weights, first, strict=True):
            weight.assign(value)
        found[name] = steps, round(fit(model, data, shape[0], shuffle=False), 4)
    steps, want = found[CONSTANT]
    for name, (other, loss) in found.items():
        if other == steps:
            require_equal(f"the losses of {name} and {CONSTANT}", loss, want)


def main() -> None:
    """Measure both batches, and shuffled rows."""
    bench = Bench("keras", "Keras fit on JAX, a step", quick=arguments(__doc__).quick)
    kinds = (
        ("64x224x224x3", LARGE, bench.size(40, 2), bench.size(10, 2), 1.9, 2.05, 1.03),
        ("128x28x28", SMALL, bench.size(1000, 5), bench.size(1000, 5), 1.2, 1.3, 1.6),
    )
    for title, shape, steps, held, firm, stretch, floor in kinds:
        ways = constant_ways(shape, steps, held)
        require_same(ways, shape)
        table = measure(bench, f"{title} float32, one batch repeated", ways, shape, shuffle=False)
        bench.claim_faster(title, table, TFJAX, TF_DATA, firm=firm, stretch=stretch)
        bench.claim_within(title, table, TFJAX, CONSTANT, firm=floor)
        for peer in (NUMPY, PY_DATASET):
            bench.claim_faster(title, table, TFJAX, peer, firm=None)
    ways = shuffled_ways(bench.size(ROWS, 5 * SMALL[0]), SMALL[0])
    table = measure(bench, "128x28x28 float32, rows shuffled in memory", ways, SMALL, shuffle=True)
    bench.claim_faster("128x28x28, shuffled", table, TFJAX, TF_DATA, firm=None)
    bench.write()


if __name__ == "__main__":
    main()
