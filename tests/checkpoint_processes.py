"""One run over two processes: each takes the global batch on a device of its own; they share parameters and saves."""

import hashlib
import json
import os
import signal
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import tfjax

EPOCHS = 2
SAVED = 5
FOLLOWS = {"w": PartitionSpec("data"), "b": PartitionSpec()}


def pipeline(device: jax.Device) -> tfjax.Pipeline:
    """Four batches of 8 an epoch."""
    rows = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    return tfjax.from_arrays({"x": rows, "y": rows.sum(axis=1)}).shuffle(seed=0).batch(8).place(device)


def spread(array: Any, sharding: NamedSharding) -> jax.Array:
    """The parts of a global array that are this process's own; each process has all of it."""
    host = np.asarray(array)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


@jax.jit
def train_step(params: Any, batch: Any) -> Any:
    def loss(params: Any) -> jax.Array:
        return jnp.mean((batch["x"] @ params["w"] + params["b"] - batch["y"]) ** 2)

    return jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params))


def fresh(mesh: Mesh) -> Any:
    """Parameters of which each device holds a part, and one that each holds whole."""
    values = {"w": np.zeros(4, np.float32), "b": np.zeros((), np.float32)}
    return {name: spread(value, NamedSharding(mesh, FOLLOWS[name])) for name, value in values.items()}


def restored(folder: str, mesh: Mesh) -> tuple[Any, str]:
    """Parameters laid out over the mesh at hand, and the position."""
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, fresh(mesh))
    with ocp.CheckpointManager(folder) as manager:
        args = ocp.args.Composite(params=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore())
        found = manager.restore(manager.latest_step(), args=args)
    return found.params, json.dumps(found.data)


def train(params: Any, batches: Any, mesh: Mesh) -> tuple[Any, list[str]]:
    """To the end of the run; the parameters, and a digest of each batch as it was delivered."""
    said = []
    for batch in batches:
        said.append(hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(batch))).hexdigest())
        rows = jax.tree.map(lambda leaf: spread(leaf, NamedSharding(mesh, PartitionSpec("data"))), batch)
        params = train_step(params, rows)
    return params, said


def whole(params: Any) -> Any:
    """Every value, as numbers."""
    from jax.experimental.multihost_utils import process_allgather

    return {name: np.asarray(process_allgather(value, tiled=True)).tolist() for name, value in params.items()}


def main(port: int, index: int, folder: str, *, resume: bool) -> None:
    """One of two processes; writes one line of JSON. The one that was not resumed ends by SIGKILL."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, index)
    mesh = Mesh(np.array(jax.devices()), ("data",))
    pipe, said = pipeline(jax.local_devices()[0]), {}
    if resume:
        params, said["state"] = restored(folder, mesh)
    else:
        params = fresh(mesh)
        with pipe.iterate(steps=SAVED) as batches, ocp.CheckpointManager(folder) as manager:
            params, _ = train(params, batches, mesh)
            said["state"] = batches.state.to_json()
            args = ocp.args.Composite(
                params=ocp.args.StandardSave(params), data=ocp.args.JsonSave(json.loads(said["state"]))
            )
            manager.save(SAVED, args=args)
    said["saved"] = whole(params)
    with pipe.iterate(epochs=EPOCHS, state=said["state"]) as batches:
        params, said["batches"] = train(params, batches, mesh)
    sys.stdout.write(json.dumps({**said, "devices": len(jax.devices()), "params": whole(params)}) + "\n")
    sys.stdout.flush()
    if not resume:
        from jax.experimental.multihost_utils import sync_global_devices

        sync_global_devices("both have said it")
        os.kill(os.getpid(), signal.SIGKILL)
