"""Advice is given where it would matter, and nowhere else."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tfjax


def advice(step: Any, state: Any, pipe: Any) -> str:
    return "\n".join(tfjax.memory_budget(step, state, pipe).advice)


def images(dtype: Any) -> Any:
    return tfjax.from_arrays({"image": np.zeros((16, 8, 8, 3), dtype), "label": np.zeros(16, np.int64)}).batch(8)


def mean(_: Any, batch: Any) -> jax.Array:
    return jnp.mean(batch["image"].astype(jnp.float32))


def test_float_images_on_the_host() -> None:
    assert "['image'] are float32 on the host: leave images in uint8" in advice(mean, None, images(np.float32))
    normalised = images(np.uint8).device_map(tfjax.on_device.normalize("image", [0.5] * 3, [0.2] * 3))
    assert advice(mean, None, normalised) == ""


def test_wide_integers() -> None:
    tokens = tfjax.from_arrays({"tokens": np.zeros((16, 64), np.int64)}).batch(8)
    assert "['tokens'] is int64 until it leaves the graph as int32" in advice(lambda _, b: b["tokens"], None, tokens)


def test_float32_activations() -> None:
    pipe = tfjax.from_arrays({"x": np.zeros((1024, 4), np.float32)}).batch(1024)

    def step(w: Any, batch: Any) -> jax.Array:
        return jnp.tanh(batch["x"].astype(w.dtype) @ w) @ w.T

    assert "bfloat16 halves the activations" in advice(step, jnp.zeros((4, 1024)), pipe)
    assert "bfloat16" not in advice(step, jnp.zeros((4, 1024), jnp.bfloat16), pipe)


@pytest.mark.parametrize("donated", [True, False])
def test_a_state_that_is_not_donated(donated: bool) -> None:
    step = jax.jit(lambda w, b: (w + jnp.sum(b["x"]), 0), donate_argnums=(0,) if donated else ())
    pipe = tfjax.from_arrays({"x": np.zeros((8, 4), np.float32)}).batch(8)
    assert ("donate_argnums=0) saves 256.0 KiB" in advice(step, jnp.zeros((256, 256)), pipe)) is not donated


def test_a_state_that_lies_whole_on_each_device() -> None:
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    state = jax.device_put(jnp.zeros((256, 256)), jax.NamedSharding(mesh, jax.P()))
    pipe = tfjax.from_arrays({"x": np.zeros((8, 4), np.float32)}).batch(8).place(mesh, "data")
    step = lambda w, b: jnp.sum(w) + jnp.sum(b["x"])  # noqa: E731
    assert "each of 2 devices holds the whole state" in advice(step, state, pipe)
    cut = jax.device_put(state, jax.NamedSharding(mesh, jax.P("data")))
    assert "sharding='fsdp'" not in advice(step, cut, pipe)


def test_more_than_the_host_has() -> None:
    pipe = tfjax.from_arrays({"x": np.zeros((8, 4), np.float32)}).batch(8)
    step = lambda _, b: b["x"]  # noqa: E731
    assert "the host has" in advice(step, None, pipe.options(ram_budget_bytes=2**50))
    small = tfjax.memory_budget(step, None, pipe.options(parallel_calls=2, prefetch_batches=3))
    assert dict(small.host) == {"batches in the graph (2 computed, 3 ready)": 5 * 8 * 16}


def test_caches_on_the_host(tmp_path: Any) -> None:
    rows = tfjax.from_arrays({"x": np.zeros((64, 4), np.float32)})
    host = lambda pipe: tfjax.memory_budget(lambda _, b: b["x"], None, pipe.batch(8)).host  # noqa: E731
    assert host(rows.cache("memory"))["caches in memory"] == 64 * 16
    assert host(rows.cache("memory", limit_bytes=160))["caches in memory"] == 160
    assert "caches in memory" not in host(rows.cache(tmp_path / "kept"))
