"""What JAX is set to where an iterator is made holds for its run, on any thread and outside of the `with`."""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

import tfjax
from tfjax.placement.context import CarriedContext

SIZES = [0, 2]


def wide() -> "tfjax.Pipeline":
    return tfjax.from_arrays({"x": np.array([2**40 + 5] * 4)}).batch(2)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("made_wide", [True, False])
def test_64_bits_are_those_of_the_making(size: int, made_wide: bool) -> None:
    with jax.enable_x64(made_wide):
        pipeline = wide().place(jax.devices()[1], prefetch=size).iterate()
        foreign = tfjax.prefetch_to_device([np.array([2**40 + 5])], jax.devices()[1], size=size)
    for batches in (pipeline, foreign):
        with jax.enable_x64(not made_wide):
            if made_wide:
                assert [int(np.asarray(x)[0]) for x in jax.tree.leaves(next(batches))] == [2**40 + 5]
            else:
                with pytest.raises(tfjax.SpecError, match="does not fit"):
                    next(batches)


@pytest.mark.parametrize("size", SIZES)
def test_the_default_device_is_that_of_the_making(size: int) -> None:
    with jax.default_device(jax.devices()[3]):
        batches = tfjax.prefetch_to_device([np.zeros(2)], size=size)
    assert next(batches).devices() == {jax.devices()[3]}


def test_precision_and_mesh_are_carried() -> None:
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    with jax.default_matmul_precision("float32"), jax.set_mesh(mesh):
        carried = CarriedContext()
    with carried():
        assert jax.config.jax_default_matmul_precision == "float32"
        assert jax.sharding.get_mesh() == mesh
    assert jax.config.jax_default_matmul_precision is None
    assert jax.sharding.get_mesh().empty


def test_where_there_was_no_mesh_there_is_none() -> None:
    carried = CarriedContext()
    with jax.set_mesh(jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])), carried():
        assert jax.sharding.get_mesh().empty


def alive(arrays: list[Any]) -> int:
    gc.collect()
    return sum(array() is not None for array in arrays)


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("end", ["close", "with", "drop"])
def test_what_was_read_ahead_is_let_go(size: int, end: str) -> None:
    """Of the iterables, the trees; of a pipeline, the arrays on the devices."""
    read: list[Any] = []

    def arrays() -> Iterator[np.ndarray]:
        for _ in range(50):
            array = np.zeros(16)
            read.append(weakref.ref(array))
            yield array
            del array

    before = len(jax.live_arrays())
    pipe = tfjax.from_arrays(np.zeros((64, 4))).batch(2).place(jax.devices()[1], prefetch=size)
    for make in (
        lambda: tfjax.prefetch_to_device(arrays(), jax.devices()[1], size=size),
        lambda: pipe.iterate(forever=True),
    ):
        batches = make()
        next(batches)
        if end == "close":
            batches.close()
        elif end == "with":
            with batches:
                pass
        else:
            thread = batches._items._thread
            del batches
            gc.collect()
            thread.join(10)
            assert not thread.is_alive()
    assert alive(read) == 0
    assert len(jax.live_arrays()) <= before


@pytest.mark.parametrize("size", SIZES)
def test_a_delivered_batch_is_nobody_elses(size: int) -> None:
    """Neither the thread nor a generator's frame keeps a batch alive that the user has dropped."""
    pipe = tfjax.from_arrays(np.zeros((64, 4))).batch(2).place(jax.devices()[1], prefetch=size)
    for batches in (pipe.iterate(forever=True), tfjax.prefetch_to_device([np.zeros(4)] * 3, size=size)):
        batch = weakref.ref(next(batches))
        gc.collect()
        assert batch() is None
        batches.close()
