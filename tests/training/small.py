"""A linear model and its pipeline, for tests of the loop."""

import jax
import jax.numpy as jnp
import numpy as np

import tfjax

ROWS, BATCH = 22, 4
STEPS = ROWS // BATCH  # in an epoch
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, 3)).astype(np.float32)
DATA = {"x": X, "y": X @ np.array([1.0, -2.0, 0.5], np.float32)}


def pipe(**changes):
    return tfjax.from_arrays({**DATA, **changes}).shuffle(seed=0).batch(BATCH)


def held_out():
    return tfjax.from_arrays(DATA).batch(BATCH, remainder="pad")


def first():
    return {"w": jnp.zeros(3), "key": jax.random.key_data(jax.random.key(0)), "step": jnp.zeros((), jnp.int32)}


@jax.jit
def step(state, batch):
    """Gradient descent with noise of its own, so that a resume has a random state to lose."""
    key = jax.random.fold_in(jax.random.wrap_key_data(state["key"]), state["step"])

    def mean(w):
        losses = (batch["x"] @ w - batch["y"]) ** 2
        return losses.mean(), losses

    (loss, losses), grads = jax.value_and_grad(mean, has_aux=True)(state["w"])
    w = state["w"] - 0.05 * grads + 1e-4 * jax.random.normal(key, (3,))
    return {**state, "w": w, "step": state["step"] + 1}, {"loss": loss, "losses": losses}


@jax.jit
def metrics(state, batch):
    errors = jnp.where(batch["mask"], jnp.abs(batch["x"] @ state["w"] - batch["y"]), 0)
    return {"error": errors.sum(), "count": batch["mask"].sum()}


def by_hand(epochs, start=None):
    """The same run without `fit`."""
    state, losses = start or first(), []
    with pipe().iterate(epochs=epochs) as batches:
        for batch in batches:
            state, measured = step(state, batch)
            losses.append(float(measured["loss"]))
    return state, losses


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
