"""Zero-copy through whole pipelines: by address for each dtype and alignment, and by what lives on and stays as it was.

The addresses are those of the tensors that the running iterator took from the graph; what each should share follows
from one rule: a shard that starts on 64 bytes lies where TensorFlow wrote it, and any other is copied alone.
"""

import contextlib
import functools
import gc
import hashlib
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
from jax.sharding import NamedSharding, PartitionSpec

import tfjax
from tfjax.bridge.reader import Reader
from tfjax.testing import exact

ALIGNMENT = 64
ROWS = 16
DTYPES = (
    *("bfloat16", "bool", "complex128", "complex64", "float16", "float32", "float64"),
    *("int16", "int32", "int64", "int8", "uint16", "uint32", "uint64", "uint8"),
)
# Values a row: with 1 to 16 bytes each, rows of 1 byte to 1 KB, on 64 bytes and on both sides of it.
WIDTHS = (1, 3, 4, 8, 15, 16, 17, 32, 63, 64)


def mesh_of(*sizes: int) -> jax.sharding.Mesh:
    names = "abc"[: len(sizes)]
    return jax.make_mesh(sizes, tuple(names), devices=jax.devices()[: int(np.prod(sizes))])


TARGETS: dict[str, Any] = {
    "default": None,
    "device 0": jax.devices()[0],
    "device 5": jax.devices()[5],
    "mesh of 1": NamedSharding(mesh_of(1), PartitionSpec("a")),
    "mesh of 2": NamedSharding(mesh_of(2), PartitionSpec("a")),
    "mesh of 8": NamedSharding(mesh_of(8), PartitionSpec("a")),
    "mesh of 2 by 4": NamedSharding(mesh_of(2, 4), PartitionSpec("a")),
    "both axes": NamedSharding(mesh_of(2, 4), PartitionSpec(("a", "b"))),
    "replicated": NamedSharding(mesh_of(8), PartitionSpec()),
}


def rows(dtype: str, width: int, count: int = ROWS) -> np.ndarray:
    """Values that 32 bits and every dtype hold, and that differ from row to row."""
    values = np.random.default_rng(width).integers(0, 100, (count, width))
    return values.astype(jnp.dtype(dtype))


def every_leaf(widths: tuple[int, ...] = WIDTHS, count: int = ROWS) -> dict[str, np.ndarray]:
    return {f"{dtype}[{width}]": rows(dtype, width, count) for dtype in DTYPES for width in widths}


def placed(pipe: "tfjax.Pipeline", where: Any) -> "tfjax.Pipeline":
    return pipe if where is None else pipe.place(where)


def address(tensor: tf.Tensor) -> int:
    view = tf.bitcast(tensor, tf.uint16) if tensor.dtype == tf.bfloat16 else tensor
    return int(np.asarray(memoryview(view)).ctypes.data)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[list[tf.Tensor]]:
    """The tensors of each element that an iterator takes from its graph."""
    found: list[list[tf.Tensor]] = []
    take = Reader.tensors

    def tensors(self: Reader) -> list[tf.Tensor]:
        found.append(take(self))
        return found[-1]

    monkeypatch.setattr(Reader, "tensors", tensors)
    return found


def of(batch: dict[str, Any], taken: list[list[tf.Tensor]]) -> list[tf.Tensor]:
    """The tensors of a batch; a thread that another test has left may have taken others meanwhile."""
    return next(tensors for tensors in taken if len(tensors) == len(batch))


@contextlib.contextmanager
def bits(x64: bool) -> Iterator[None]:
    with jax.enable_x64(x64):
        yield


@pytest.mark.parametrize("x64", [False, True], ids=["32 bits", "64 bits"])
@pytest.mark.parametrize("where", TARGETS)
def test_a_shard_is_shared_exactly_where_it_starts_on_64_bytes(
    where: str, x64: bool, taken: list[list[tf.Tensor]]
) -> None:
    leaves = every_leaf()
    with bits(x64), placed(tfjax.from_arrays(leaves).batch(ROWS), TARGETS[where]).iterate() as batches:
        batch = next(batches)
    seen = set()
    for (key, array), tensor in zip(sorted(batch.items()), of(batch, taken), strict=True):
        begin, size = address(tensor), tensor.dtype.size * int(tf.size(tensor))
        assert begin % ALIGNMENT == 0
        assert (array.shape, array.dtype) == (tuple(tensor.shape), tensor.dtype.as_numpy_dtype)
        for shard in array.addressable_shards:
            first = shard.index[0].start or 0
            offset = first * (size // ROWS)
            at = shard.data.unsafe_buffer_pointer() - begin
            shares = offset % ALIGNMENT == 0
            assert (at == offset) if shares else not 0 <= at < size, f"{key}, rows from {first}"
            seen.add(shares)
        values = leaves[key].astype(array.dtype)
        assert np.asarray(array).tobytes() == values.tobytes(), key
    assert seen == ({True, False} if len({str(s.index) for s in array.addressable_shards}) > 1 else {True})


@pytest.mark.parametrize("where", ["default", "mesh of 2", "mesh of 8"])
def test_the_report_says_the_same(where: str) -> None:
    pipe = placed(tfjax.from_arrays(every_leaf()).batch(ROWS), TARGETS[where])
    parts = 1 if where == "default" else int(where.split()[-1])
    for leaf in pipe.copy_report().leaves:
        array = pipe.spec[leaf.path[2:-2]]
        shard = array.dtype.itemsize * int(np.prod(array.shape)) // parts
        copied = sum(i * shard % ALIGNMENT != 0 for i in range(parts))
        assert leaf.outcome == ("copied" if copied else "shared"), str(leaf)
        assert not copied or f"{copied} of {parts} shards; shards of {shard} bytes do not start on 64" in leaf.why


SOURCES: dict[str, Callable[[dict[str, np.ndarray]], "tfjax.Pipeline"]] = {
    "arrays": lambda leaves: tfjax.from_arrays(leaves).shuffle(seed=0),
    "cache": lambda leaves: tfjax.from_arrays(leaves).map(dict).cache("memory").shuffle(seed=0),
    "foreign": lambda leaves: tfjax.from_tf(tf.data.Dataset.from_tensor_slices(leaves), batched=False),
    "numpy_function": lambda leaves: tfjax.from_arrays(leaves).map(through_python),
}


def through_python(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Each leaf as memory that NumPy made and that nothing but TensorFlow holds."""
    out = {key: tf.numpy_function(np.copy, [leaf], leaf.dtype) for key, leaf in example.items()}
    return {key: tf.ensure_shape(out[key], leaf.shape) for key, leaf in example.items()}


def digest(batch: Any) -> list[str]:
    return [hashlib.sha256(np.asarray(leaf).tobytes()).hexdigest() for leaf in jax.tree.leaves(batch)]


@pytest.mark.parametrize("where", ["default", "mesh of 2", "mesh of 8"])
@pytest.mark.parametrize("source", SOURCES)
def test_values_outlive_everything_of_tensorflow(source: str, where: str) -> None:
    """Kept batches hold their values while hundreds more are made, and when pipeline, graph and tensors are gone."""
    leaves = every_leaf((3, 16), count=64)
    if source == "numpy_function":  # 50 us a leaf and example
        leaves = {key: leaves[key] for key in ("bool[16]", "bfloat16[3]", "float32[16]")}
    pipe = placed(SOURCES[source](leaves).batch(ROWS), TARGETS[where])
    gone = weakref.ref(pipe)
    with pipe.iterate(epochs=75) as batches:
        kept = [next(batches) for _ in range(3)]
        said = [digest(batch) for batch in kept]
        more = sum(1 for _ in batches)
    assert more == 297
    del pipe, batches
    gc.collect()
    assert gone() is None
    scratch = [tf.fill((64, 64), -1.0) for _ in range(200)]  # would take the memory that was let go
    assert [digest(batch) for batch in kept] == said
    assert len({tuple(d) for d in said}) == 3
    del scratch


@functools.partial(jax.jit, donate_argnums=0)
def wipe(batch: Any) -> Any:
    return jax.tree.map(lambda x: ~x if x.dtype == bool else x * 0 + 77, batch)


def spoil(batch: Any) -> None:
    """Let XLA write over every leaf, as far as it may."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that donated memory is not usable is what is hoped for
        jax.block_until_ready(wipe(batch))


@pytest.mark.parametrize("where", ["device 5", "mesh of 2", "mesh of 8", "replicated"])
@pytest.mark.parametrize("source", ["arrays", "cache", "foreign"])
def test_donated_shards_leave_the_source_as_it_was(source: str, where: str) -> None:
    leaves = every_leaf((3, 16))
    given = {key: leaf.copy() for key, leaf in leaves.items()}
    if source == "foreign":
        pipe = tfjax.from_tf(tf.data.Dataset.from_tensor_slices(given).batch(ROWS).cache())
    else:
        pipe = tfjax.from_arrays(given)
        pipe = (pipe.map(dict).cache("memory") if source == "cache" else pipe).batch(ROWS)
    with placed(pipe, TARGETS[where]).iterate(epochs=4) as batches:
        for batch in batches:
            for key, array in batch.items():
                assert np.asarray(array).tobytes() == leaves[key].astype(array.dtype).tobytes(), key
            spoil(batch)
    for key, leaf in given.items():
        assert leaf.tobytes() == leaves[key].tobytes(), f"{key} as it was given"


@pytest.mark.parametrize("where", ["default", "mesh of 8"])
def test_donation_leaves_the_tensors_as_they_were(where: str, taken: list[list[tf.Tensor]]) -> None:
    with placed(tfjax.from_arrays(every_leaf((16,))).batch(ROWS), TARGETS[where]).iterate() as batches:
        batch = next(batches)
        tensors = of(batch, taken)
        before = [t.numpy().tobytes() for t in tensors]
        spoil(batch)
        assert [t.numpy().tobytes() for t in tensors] == before


@pytest.mark.parametrize("where", ["device 5", "mesh of 2", "mesh of 8", "replicated"])
def test_donation_leaves_arrays_of_numpy_as_they_were(where: str) -> None:
    """Read-only arrays are shared with the devices, not copied."""
    leaves = {key: leaf for key, leaf in every_leaf((3, 16)).items() if leaf.dtype.itemsize < 8}
    kept = {key: leaf.copy() for key, leaf in leaves.items()}
    for leaf in leaves.values():
        leaf.flags.writeable = False
    with tfjax.prefetch_to_device([leaves] * 3, TARGETS[where]) as batches:
        for batch in batches:
            exact(kept, jax.tree.map(np.asarray, batch))
            spoil(batch)
    exact(kept, leaves)


@pytest.mark.parametrize("dtype", [*DTYPES, "object"])
def test_arrays_may_be_written_to_once_they_were_given(dtype: str) -> None:
    """Also where they are aligned as TensorFlow wants it, and large enough to be shared."""
    shape = (4096, 16)
    raw = np.zeros(shape[0] * shape[1] * 16 + ALIGNMENT, np.uint8)
    aligned = raw[-raw.ctypes.data % ALIGNMENT :]
    if dtype == "object":
        given = np.full(shape, b"before", object)
    else:
        given = aligned[: shape[0] * shape[1] * jnp.dtype(dtype).itemsize].view(jnp.dtype(dtype)).reshape(shape)
        given[...] = 1
    pipe = tfjax.from_arrays({"x": given}).keep_on_host("x").batch(2048)
    with pipe.iterate() as batches:
        given[...] = b"after" if dtype == "object" else 0
        first = next(batches)["x"]
        given[...] = b"later" if dtype == "object" else 0
        second = next(batches)["x"]
    expected = b"before" if dtype == "object" else 1
    assert (first == expected).all()
    assert (second == expected).all()


def test_host_leaves_are_views_that_nobody_can_write_to() -> None:
    leaves = every_leaf((3, 16))
    batch = tfjax.from_arrays(leaves).keep_on_host(*leaves).batch(ROWS).peek()
    for key, view in batch.items():
        assert (type(view), view.dtype, view.flags.writeable) == (np.ndarray, leaves[key].dtype, False), key
        assert view.ctypes.data % ALIGNMENT == 0
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 0
