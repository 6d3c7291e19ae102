"""A small ResNet in Haiku on 8 devices: batches and parameters cut over a mesh.

python examples/eight_devices_haiku.py --epochs 10 --checkpoint-dir runs/eight

Where there are no accelerators, the devices are 8 virtual ones on the CPU. A run that was stopped goes on from its last
checkpoint when the same command is given again; on another number of devices it goes on too, to float tolerance.
"""

import argparse
import os
import pathlib

# Read when JAX starts. Virtual devices share the cores, and may wait for one another for longer than XLA's 40 seconds.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8 --xla_cpu_collective_call_terminate_timeout_seconds=600"
)

import haiku as hk
import jax
import optax

import tfjax
from tfjax import on_device
from tfjax.frameworks.haiku import create_state, eval_step, train_step
from tfjax.training import classification, cross_entropy


def resnet(x, is_training):
    """Images (batch, 8, 8, 1) to logits (batch, 10). Its BatchNorm takes the statistics of the whole global batch."""

    def norm(x):
        return hk.BatchNorm(create_scale=True, create_offset=True, decay_rate=0.9)(x, is_training)

    def conv(x, features, stride=1):
        return norm(hk.Conv2D(features, 3, stride, with_bias=False)(x))

    x = jax.nn.relu(conv(x, 16))
    for features, stride in ((16, 1), (32, 2)):
        shortcut = norm(hk.Conv2D(features, 1, stride, with_bias=False)(x))
        y = jax.nn.relu(conv(x, features, stride))
        x = jax.nn.relu(conv(y, features) + shortcut)
    return hk.Linear(10)(x.mean((1, 2)))


def main(epochs, batch_size, checkpoint_dir):
    """Train; each device holds an eighth of each batch, and of each parameter that is large enough to be worth it."""
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    normalize = on_device.normalize("image", (4.9,), (6.0,))  # digits have values 0 to 16
    train = tfjax.load("digits", split="train").shuffle(seed=0).batch(batch_size)
    test = tfjax.load("digits", split="test").batch(batch_size, remainder="pad")
    train, test = (pipe.device_map(normalize).place(mesh, "data") for pipe in (train, test))

    state = create_state(resnet, optax.adam(5e-3), train.spec, seed=0, sharding="fsdp")
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(state.params))
    own = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state.params))
    print(f"{mesh.size} devices: {batch_size // mesh.size} images each, {own:,} of {whole:,} bytes of parameters each")

    step, evaluate = train_step(cross_entropy()), (eval_step(classification()), test)
    state, history = tfjax.fit(step, state, train, epochs=epochs, evaluate=evaluate, checkpoint_dir=checkpoint_dir)
    print(f"eight_devices: test accuracy {history.evaluations[-1]['accuracy']:.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=128, help="of all devices together")
    parser.add_argument("--checkpoint-dir", type=pathlib.Path, help="a folder for the checkpoints of this run")
    given = parser.parse_args()
    main(given.epochs, given.batch_size, given.checkpoint_dir)
