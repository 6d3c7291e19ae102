"""`find_batch_size`: by what is compiled, then by a run; and the budget of one size."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tfjax
from tests import python_process
from tfjax.sizing.memory import free_bytes

WIDTH = 256
KIB = 1024


def pipeline(rows: int = 4096, size: int = 32, **batch: Any) -> Any:
    return tfjax.from_arrays({"x": np.ones((rows, WIDTH), np.float32)}).batch(size, **batch)


def weights() -> dict[str, jax.Array]:
    return {"params": jnp.eye(WIDTH), "moments": jnp.zeros((WIDTH, WIDTH))}


def forward(state: Any, batch: Any) -> jax.Array:
    return jnp.tanh(batch["x"] @ state["params"])


@functools.partial(jax.jit, donate_argnums=0)
def train(state: Any, batch: Any) -> Any:
    loss, grads = jax.value_and_grad(lambda w: jnp.mean(jnp.tanh(batch["x"] @ w) ** 2))(state["params"])
    moments = 0.9 * state["moments"] + grads
    return {"params": state["params"] - moments, "moments": moments}, {"loss": loss}


@pytest.mark.parametrize("step", [forward, jax.jit(forward), train], ids=["plain", "jitted", "train"])
def test_the_largest_that_fits_and_no_larger(step: Any) -> None:
    limit = 3 * 2**20
    found = tfjax.find_batch_size(step, weights(), pipeline(), memory_bytes=limit, memory_fraction=0.5)
    assert found.limit_bytes == limit // 2
    assert found.budget.device_bytes <= limit // 2
    above = tfjax.memory_budget(step, weights(), pipeline(size=int(found) + 8))
    assert above.device_bytes > limit // 2
    assert found.batch_size % 8 == 0
    assert found.attempts[-1].trial == "ran" and "memory (0.5 of 3.0 MiB)" in str(found)


def test_what_is_counted() -> None:
    """A forward step without temporaries: weights, a batch, two ahead, and outputs as large as a batch."""
    found = tfjax.memory_budget(forward, weights(), pipeline(size=64))
    batch = 64 * KIB
    assert dict(found.device) == {
        "state['moments']": 256 * KIB,
        "state['params']": 256 * KIB,
        "batch": batch,
        "prefetched batches (2)": 2 * batch,
        "outputs": batch,
        "activations and temporaries": found.device["activations and temporaries"],
    }
    placed = tfjax.memory_budget(forward, weights(), pipeline(size=64).place(jax.devices()[0], prefetch=0))
    assert "prefetched batches" not in str(placed) and placed.device["batch"] == batch


def test_more_memory_never_gives_a_smaller_batch() -> None:
    limits = [KIB * n for n in (700, 900, 1000, 2000, 3000)]
    found = [int(tfjax.find_batch_size(forward, weights(), pipeline(), memory_bytes=n)) for n in limits]
    assert found == sorted(found) and found[0] < found[-1]


def test_it_is_an_int_wherever_one_is_taken() -> None:
    found = tfjax.find_batch_size(forward, weights(), pipeline(rows=100), memory_bytes=2**30)
    assert pipeline(size=found).spec["x"].shape[1] == WIDTH
    assert range(200)[found] == int(found) == found.batch_size == 96


def test_the_state_is_as_it_was() -> None:
    state = weights()
    found = tfjax.find_batch_size(train, state, pipeline(rows=64), memory_bytes=2**30)
    assert found.attempts[-1].trial == "ran"
    np.testing.assert_array_equal(state["params"], np.eye(WIDTH))
    np.testing.assert_array_equal(state["moments"], np.zeros((WIDTH, WIDTH)))
    assert not any(leaf.is_deleted() for leaf in state.values())


def test_sizes_divide_over_the_devices() -> None:
    mesh = jax.make_mesh((8,), ("data",))
    state = jax.device_put(weights(), jax.NamedSharding(mesh, jax.P()))
    placed = pipeline(size=64).place(mesh, "data")
    found = tfjax.find_batch_size(jax.jit(forward), state, placed, memory_bytes=700 * KIB)
    assert found.batch_size % 64 == 0 and found.attempts[-1].trial == "ran"
    assert found.budget.devices == 8 and "each of 8 devices" in str(found)
    assert found.budget.device["batch"] == found.batch_size // 8 * WIDTH * 4
    few = tfjax.find_batch_size(jax.jit(forward), state, placed, memory_bytes=595 * KIB)
    assert few.batch_size in (8, 16, 32), "rows on a device below multiple_of are a power of two"


def test_parts_of_batches_for_pmap() -> None:
    cut = pipeline(size=16).place_per_device(jax.devices()[:2])
    found = tfjax.find_batch_size(lambda _, b: jnp.sum(b["x"]), None, cut, memory_bytes=2**30, multiple_of=5)
    assert found.batch_size == 4090


def test_at_most_the_examples_of_an_epoch() -> None:
    found = tfjax.find_batch_size(forward, weights(), pipeline(rows=100), memory_bytes=2**30)
    assert found.batch_size == 96 and "an epoch, which fills no batch over 100" in found.limited_by
    shorter = pipeline(rows=100).take(1)
    assert int(tfjax.find_batch_size(forward, weights(), shorter, memory_bytes=2**30)) == 96


def test_a_stream_is_bounded_by_memory_alone() -> None:
    spec = {"x": jax.ShapeDtypeStruct((WIDTH,), np.float32)}
    stream = tfjax.from_generator(lambda: iter([{"x": np.zeros(WIDTH, np.float32)}] * 3), spec).batch(8)
    found = tfjax.find_batch_size(forward, weights(), stream, memory_bytes=2**23)
    assert found.batch_size > 1024 and found.attempts[-1].trial == "ran"


def test_more_than_this_machine_has_is_not_run() -> None:
    spec = {"x": jax.ShapeDtypeStruct((2**20,), np.float32)}
    stream = tfjax.from_generator(lambda: iter([{"x": np.zeros(2**20, np.float32)}]), spec).batch(8)
    found = tfjax.find_batch_size(lambda _, b: b["x"] * 2, None, stream, memory_bytes=2**44)
    assert found.batch_size * 2**22 * 4 > 0.8 * 2**44
    assert "not run" in str(found) and not any(a.trial for a in found.attempts)


def test_masks_stacks_and_host_leaves_are_part_of_batches() -> None:
    rows = {"x": np.ones((512, WIDTH), np.float32), "n": np.arange(512)}

    def step(state: Any, batch: Any) -> Any:
        value = jnp.sum(batch["x"] * batch["mask"][:, None]) + jnp.sum(batch["n"])
        return jax.tree.map(lambda w: w + value, state), {"loss": value}

    pipe = tfjax.from_arrays(rows).keep_on_host("n").batch(32, remainder="pad")
    found = tfjax.find_batch_size(step, weights(), pipe, memory_bytes=2**30)
    assert found.batch_size == 512 and found.budget.device["batch"] == 512 * (4 * WIDTH + 4 + 1)


def test_a_scan_counts_the_donated_state_once() -> None:
    found = tfjax.find_batch_size(
        tfjax.scan_steps(train, 4), weights(), pipeline(rows=256).stack(4), memory_bytes=2**30
    )
    assert found.batch_size == 64 and found.budget.device["batch"] == 4 * 64 * WIDTH * 4
    assert found.budget.device["outputs"] < KIB and found.attempts[-1].trial == "ran"


def test_rows_of_a_device_cache_count() -> None:
    cached = tfjax.from_arrays({"x": np.ones((512, WIDTH), np.float32)}).cache("device").batch(32)
    found = tfjax.memory_budget(forward, weights(), cached)
    assert found.device["rows of cache('device')"] == 512 * KIB


def test_the_memory_of_this_machine() -> None:
    free = free_bytes(jax.devices()[:2])
    assert free is not None and 0 < free <= (free_bytes(jax.devices()[:1]) or 0)
    found = tfjax.find_batch_size(forward, weights(), pipeline(rows=64))
    assert found.batch_size == 64 and found.limit_bytes > 2**20


def test_out_of_memory_is_caught_and_the_size_lowered() -> None:
    """The process may take 512 MiB more than it has; what XLA counts for the first size that is run is 1 GiB."""
    done = python_process.run(
        """
        import resource
        import jax.numpy as jnp, numpy as np, tfjax

        def step(weights, batch):
            return jnp.tanh(batch["x"] @ weights) @ weights.T

        weights = jnp.ones((2, 2**20))
        pipe = tfjax.from_arrays({"x": np.ones((4096, 2), np.float32)}).batch(2)
        tfjax.find_batch_size(step, weights, pipe, memory_bytes=2**25)
        pages = int(open("/proc/self/statm").read().split()[0])
        most = pages * resource.getpagesize() + 2**29
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        found = tfjax.find_batch_size(step, weights, pipe, memory_bytes=2**30, memory_fraction=1.0)
        print([attempt.trial for attempt in found.attempts if attempt.trial])
        print(found.limited_by, 0 < found.budget.device_bytes < 2**29)
        """
    )
    assert done.returncode == 0, done.stderr
    trials, ended = done.stdout.strip().splitlines()
    assert trials.startswith("['out of memory', ") and trials.endswith(", 'ran']")
    assert ended == "what ran True"


def test_nothing_fits() -> None:
    with pytest.raises(ValueError, match=r"not even a batch of 1 fits: it takes 5.*KiB of each device \(state.*256"):
        tfjax.find_batch_size(forward, weights(), pipeline(), memory_bytes=100 * KIB)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"step": 3}, TypeError, "takes a function, given 3"),
        ({"pipe": [1]}, TypeError, r"pipe is a list: pass a pipeline, batched with \.batch\(size\)"),
        ({"pipe": tfjax.from_arrays(np.zeros(3))}, ValueError, r"which this pipeline has not: add \.batch\(size\)"),
        ({"memory_fraction": 0}, ValueError, "memory_fraction is 0: pass a number above 0, at most 1"),
        ({"memory_fraction": 1.5}, ValueError, "memory_fraction is 1.5"),
        ({"memory_fraction": "half"}, TypeError, "memory_fraction is 'half'"),
        ({"memory_bytes": 0}, ValueError, "memory_bytes takes an int from 1"),
        ({"memory_bytes": 1.5}, TypeError, "memory_bytes takes an int"),
        ({"multiple_of": 0}, ValueError, "multiple_of takes an int from 1"),
    ],
)
def test_refused(change: dict[str, Any], error: type[Exception], said: str) -> None:
    given = {"step": forward, "state": None, "pipe": pipeline(), **change}
    with pytest.raises(error, match=said):
        tfjax.find_batch_size(given.pop("step"), given.pop("state"), given.pop("pipe"), **given)


def test_text_in_batches_is_refused() -> None:
    named = tfjax.from_arrays({"x": np.array(["a", "b"])}).keep_on_host("x").batch(2)
    with pytest.raises(TypeError, match=r"\['x'\] is text, which no compiled step takes: drop it"):
        tfjax.find_batch_size(forward, weights(), named)


def test_batches_that_were_made_elsewhere() -> None:
    tf = pytest.importorskip("tensorflow")
    with pytest.raises(ValueError, match=r"yields batches: unbatch\(\) the dataset before \.batch"):
        tfjax.find_batch_size(forward, weights(), tfjax.from_tf(tf.data.Dataset.range(8).batch(2)))


def test_fewer_examples_than_devices() -> None:
    mesh = jax.make_mesh((8,), ("data",))
    few = tfjax.from_arrays({"x": np.zeros((4, WIDTH), np.float32)}).batch(8, remainder="pad").place(mesh, "data")
    with pytest.raises(ValueError, match="4 examples in an epoch are no batch for 8 devices: use fewer devices"):
        tfjax.find_batch_size(forward, weights(), few)


def test_a_state_that_a_step_took_is_refused() -> None:
    state = weights()
    state["moments"].delete()
    with pytest.raises(
        ValueError, match=r"\['moments'\] is gone, donated to a step: give the state that the step returned"
    ):
        tfjax.find_batch_size(train, state, pipeline(), memory_bytes=2**20)
