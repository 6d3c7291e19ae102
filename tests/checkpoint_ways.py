"""Ways to keep a run: parameters, optimizer and the position of the data, each written and read as its library does.

`train_and_die` trains in each way, saving as it goes, and ends by SIGKILL while the last save is still under way.
"""

import io
import json
import os
import pathlib
import signal
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")  # read when Keras is imported

import equinox as eqx
import flax.serialization
import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import orbax.checkpoint as ocp
import tensorflow as tf
from flax import linen as nn
from flax import nnx as flax_nnx

import tfjax
from tfjax.frameworks import equinox, linen, nnx

EPOCHS = 3
STEPS_PER_EPOCH = 6
SAVE_EVERY = 4
KILLED_AFTER = 11  # in the second epoch, three steps after the last save


def pipeline() -> tfjax.Pipeline:
    """36 rows in batches of 6, in another order and with other noise each epoch."""
    rows = np.random.default_rng(0).normal(size=(36, 8)).astype(np.float32)
    labels = np.arange(36) % 3

    def noisy(example: dict[str, Any], seed: Any) -> dict[str, Any]:
        return {**example, "x": example["x"] + tf.random.stateless_normal((8,), seed)}

    return tfjax.from_arrays({"x": rows, "label": labels}).shuffle(seed=1).random_map(noisy).batch(6)


def loss(predict: Any, batch: Any) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(predict(batch["x"]), batch["label"])


def written(path: pathlib.Path, data: bytes) -> None:
    """A file that is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".part").write_bytes(data)
    path.with_suffix(".part").replace(path)


class Orbax:
    """Linen's `TrainState` and the position in one Orbax checkpoint, written in the background."""

    framework: Any = linen
    model: Any = nn.Dense(3)

    def __init__(self, folder: pathlib.Path) -> None:
        self.state = self.framework.create_state(self.model, optax.adam(0.1), pipeline().spec, x="x")
        self._step = self.framework.train_step(loss)
        self.folder = folder

    def open(self) -> Any:
        return ocp.CheckpointManager(self.folder.absolute(), options=ocp.CheckpointManagerOptions(max_to_keep=2))

    def train(self, batch: Any) -> None:
        self.state, _ = self._step(self.state, batch)

    def save(self, position: str) -> None:
        if not hasattr(self, "manager"):
            self.manager = self.open()
        args = ocp.args.Composite(state=ocp.args.StandardSave(self.state), data=ocp.args.JsonSave(json.loads(position)))
        self.manager.save(json.loads(position)["step"], args=args)  # goes on while the next steps run

    def restore(self) -> str:
        """Fill the state, and return the position."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, self.state)
        with self.open() as manager:
            args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore())
            found = manager.restore(manager.latest_step(), args=args)
        self.state = found.state
        return json.dumps(found.data)

    def parameters(self) -> Any:
        return jax.tree.map(jnp.copy, self.state.params)  # the next step donates them


class NnxOrbax(Orbax):
    """The same of nnx, with dropout, whose random streams are part of the state."""

    framework = nnx
    model = staticmethod(
        lambda inputs, rngs: flax_nnx.Sequential(
            flax_nnx.Dropout(0.2, rngs=rngs), flax_nnx.Linear(inputs.shape[-1], 3, rngs=rngs)
        )
    )


class Msgpack(Orbax):
    """The leaves of Linen's `TrainState` and the position in one file of Flax's msgpack."""

    def save(self, position: str) -> None:
        leaves = jax.tree.leaves(self.state)
        written(self.folder / "run.msgpack", flax.serialization.to_bytes({"leaves": leaves, "data": position}))

    def restore(self) -> str:
        leaves, tree = jax.tree.flatten(self.state)
        like = {"leaves": leaves, "data": ""}
        found = flax.serialization.from_bytes(like, (self.folder / "run.msgpack").read_bytes())
        self.state = jax.tree.unflatten(tree, [jnp.asarray(leaf) for leaf in found["leaves"]])
        return str(found["data"])


class EquinoxFile(Orbax):
    """An Equinox module and its optimizer behind a first line of JSON, in one file."""

    framework = equinox
    model = staticmethod(lambda inputs, key: eqx.nn.Linear(inputs.shape[0], 3, key=key))

    def save(self, position: str) -> None:
        file = io.BytesIO()
        file.write(json.dumps({"data": position}).encode() + b"\n")
        eqx.tree_serialise_leaves(file, self.state)
        written(self.folder / "run.eqx", file.getvalue())

    def restore(self) -> str:
        with (self.folder / "run.eqx").open("rb") as file:
            position = json.loads(file.readline())["data"]
            self.state = eqx.tree_deserialise_leaves(file, self.state)
        return str(position)


WAYS: dict[str, Any] = {"orbax": Orbax, "nnx": NnxOrbax, "msgpack": Msgpack, "equinox": EquinoxFile}


class KerasRun:
    """A Keras model in its own file beside the position, by a callback of `fit`."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.pipe = folder, pipeline()

    def new(self) -> Any:
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        model.compile(keras.optimizers.Adam(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    def fit(
        self, model: Any, *, killed_after: int | None = None, first: int = 0, epochs: int = EPOCHS, **where: Any
    ) -> None:
        """Epochs `first` to `epochs` of the run."""
        run, data = self, self.pipe.to_keras(x="x", y="label", **where)

        class Keep(keras.callbacks.Callback):
            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
                position = data.state
                if position.step == SAVE_EVERY and killed_after:
                    run.save(self.model, position)
                if position.start_epoch * STEPS_PER_EPOCH + position.step == killed_after:
                    self.model.stop_training = True

        model.fit(data, initial_epoch=first, epochs=epochs, verbose=0, callbacks=[Keep()])

    def save(self, model: Any, position: Any) -> None:
        """A folder for each step; the position is written last, and says that the model is whole."""
        folder = self.folder / f"epoch {position.start_epoch}, {position.step} batches"
        folder.mkdir(parents=True)
        model.save(folder / "model.keras")
        written(folder / "data.json", position.to_json().encode())

    def restore(self) -> tuple[Any, str]:
        last = max(self.folder.glob("*/data.json"))
        return keras.saving.load_model(last.parent / "model.keras"), last.read_text()


def train_and_die(root: pathlib.Path) -> None:
    for name, way in WAYS.items():
        run = way(root / name)
        with pipeline().iterate(epochs=EPOCHS) as batches:
            while batches.step < KILLED_AFTER:
                run.train(next(batches))
                if batches.step % SAVE_EVERY == 0:
                    run.save(batches.state.to_json())
    kept = KerasRun(root / "keras")
    model = kept.new()
    kept.fit(model, killed_after=KILLED_AFTER)
    run = WAYS["orbax"](root / "in flight")
    run.save(pipeline().iterate().state.to_json())
    run.manager.wait_until_finished()
    with pipeline().iterate(epochs=EPOCHS) as batches:
        for batch in batches:
            run.train(batch)
            run.save(batches.state.to_json())
            if batches.step == KILLED_AFTER:
                os.kill(os.getpid(), signal.SIGKILL)
