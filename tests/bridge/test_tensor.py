"""One tensor to JAX: every dtype and shape, over the same memory, which lives as long as the array."""

import gc
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import pytest
import tensorflow as tf

import tfjax
from tests import python_process
from tfjax import _jaxlib
from tfjax.bridge import tensor as bridge
from tfjax.errors import SpecError

NARROW = ("bool", "int8", "int16", "int32", "uint8", "uint16", "uint32", "float16", "bfloat16", "float32", "complex64")
WIDE = ("int64", "uint64", "float64", "complex128")
SHAPES = ((), (3,), (4, 5), (2, 1, 3), (0,), (2, 0, 3))


def tensor_of(dtype: str, shape: tuple[int, ...] = (4, 5)) -> tf.Tensor:
    values = np.arange(int(np.prod(shape))).reshape(shape) % 100 + 1
    return tf.cast(tf.constant(values), dtype)


def pointer(tensor: tf.Tensor) -> int:
    view = tensor if tensor.dtype != tf.bfloat16 else tf.bitcast(tensor, tf.uint16)
    return int(np.asarray(memoryview(view)).ctypes.data)


@pytest.fixture
def fresh_importer() -> Iterator[None]:
    """Whatever the test makes the importer choose is forgotten afterwards."""
    bridge.importer.cache_clear()
    yield
    bridge.importer.cache_clear()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", NARROW)
def test_values_dtype_and_shape(dtype: str, shape: tuple[int, ...]) -> None:
    tensor = tensor_of(dtype, shape)
    array = bridge.as_array(tensor)
    assert isinstance(array, jax.Array)
    assert (array.shape, array.dtype) == (shape, tensor.dtype.as_numpy_dtype)
    np.testing.assert_array_equal(np.asarray(array), tensor.numpy())
    assert array.devices() == {jax.devices("cpu")[0]}


@pytest.mark.parametrize("dtype", [d for d in NARROW if d != "bfloat16"])
@pytest.mark.parametrize("shape", [(), (3,), (4, 5)], ids=str)
def test_memory_is_shared(dtype: str, shape: tuple[int, ...]) -> None:
    tensor = tensor_of(dtype, shape)
    assert bridge.as_array(tensor).unsafe_buffer_pointer() == pointer(tensor)
    assert bridge.as_view(tensor).ctypes.data == pointer(tensor)


def test_bfloat16_is_shared_by_array_and_view() -> None:
    tensor = tensor_of("bfloat16", (64,))
    array, view = bridge.as_array(tensor), bridge.as_view(tensor)
    assert array.unsafe_buffer_pointer() == view.ctypes.data
    assert view.dtype == tf.bfloat16.as_numpy_dtype


@pytest.mark.parametrize("dtype", WIDE)
def test_64_bits_are_shared_where_jax_has_them(dtype: str) -> None:
    tensor = tensor_of(dtype)
    with jax.enable_x64(True):
        array = tfjax.to_jax(tensor)
    assert (array.dtype, array.unsafe_buffer_pointer()) == (tensor.dtype.as_numpy_dtype, pointer(tensor))


def test_narrows_follows_the_setting_of_jax() -> None:
    assert bridge.narrows()
    with jax.enable_x64(True):
        assert not bridge.narrows()


def test_dlpack_alone_would_lose_values_in_silence() -> None:
    """What the checked narrowing is for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = jax.dlpack.from_dlpack(tf.constant([2**40 + 5]))
    assert array.tolist() == [5]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "bool"])
def test_views_are_read_only(dtype: str) -> None:
    view = bridge.as_view(tensor_of(dtype))
    assert not view.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 0


@pytest.mark.parametrize("leave", [bridge.as_array, bridge.as_view], ids=["array", "view"])
def test_memory_outlives_the_tensor(leave: Callable[[tf.Tensor], Any]) -> None:
    values = np.random.default_rng(0).integers(0, 255, (64, 1000), dtype=np.uint8)
    dataset = tf.data.Dataset.from_tensor_slices(values).batch(32)
    tensors = iter(dataset.repeat())
    tensor = next(tensors)
    gone = weakref.ref(tensor)
    kept = leave(tensor)
    del tensor
    gc.collect()
    assert gone() is None, "the array holds the memory, not the tensor object"
    for _ in range(300):
        leave(next(tensors))
    gc.collect()
    np.testing.assert_array_equal(np.asarray(kept), values[:32])


def changes_by_donation(leave: Callable[[tf.Tensor], jax.Array]) -> bool:
    """Whether donating the array overwrites the tensor that it came from."""
    tensor = tf.constant(np.arange(4096, dtype=np.float32))
    before = tensor.numpy().copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the donated buffer is not usable is the point
        jax.jit(lambda x: x * 0 - 1, donate_argnums=0)(leave(tensor)).block_until_ready()
    return not np.array_equal(tensor.numpy(), before)


def test_donation_leaves_the_source_as_it_was() -> None:
    assert not changes_by_donation(bridge.as_array)
    assert not changes_by_donation(jax.dlpack.from_dlpack)


def test_the_test_of_donation_can_fail() -> None:
    assert changes_by_donation(lambda t: jax.dlpack.from_dlpack(t, copy=True))


@pytest.mark.parametrize("source", ["arrays", "cache", "foreign"])
def test_donated_batches_leave_pipelines_as_they_were(source: str) -> None:
    values = np.arange(32 * 256, dtype=np.float32).reshape(32, 256)
    if source == "foreign":
        pipe = tfjax.from_tf(tf.data.Dataset.from_tensor_slices({"x": values}).batch(32).cache())
    else:
        pipe = tfjax.from_arrays({"x": values.copy()})
        pipe = pipe.map(lambda e: {"x": e["x"] + 0}).cache("memory") if source == "cache" else pipe
        pipe = pipe.batch(32)
    spoil = jax.jit(lambda b: {"x": b["x"] * 0 - 1}, donate_argnums=0)
    with warnings.catch_warnings(), pipe.iterate(epochs=4) as batches:
        warnings.simplefilter("ignore")
        for batch in batches:
            np.testing.assert_array_equal(np.asarray(batch["x"]), values)
            spoil(batch)["x"].block_until_ready()


@pytest.mark.parametrize("dtype", sorted(bridge.NUMERIC, key=str), ids=lambda d: d.name)
def test_numeric_dtypes_pass(dtype: tf.DType) -> None:
    bridge.require_numeric(tf.zeros((2,), dtype), "['x']")


def variant() -> tf.Tensor:
    return tf.raw_ops.EmptyTensorList(element_shape=-1, max_num_elements=1, element_dtype=tf.int32)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "string": (lambda: tf.constant("a"), "dtype string"),
    "variant": (variant, "dtype variant"),
    "resource": (lambda: tf.Variable(1.0).handle, "dtype resource"),
    "quantized": (lambda: tf.cast([1, 2], tf.qint8), "dtype qint8"),
    "ragged": (lambda: tf.ragged.constant([[1], [2, 3]]), r"Ragged.*\.to_tensor\(\)"),
    "sparse": (lambda: tf.sparse.eye(3), r"Sparse.*tf\.sparse\.to_dense"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_jax_cannot_hold_is_refused_with_its_path(kind: str) -> None:
    make, words = REFUSED[kind]
    with pytest.raises(SpecError, match=rf"\['a'\]\['b'\].*{words}"):
        tfjax.to_jax({"a": {"b": make()}})


def test_dlpack_would_abort_the_process() -> None:
    """What the check of the dtype is for."""
    variant = "tf.raw_ops.EmptyTensorList(element_shape=-1, max_num_elements=1, element_dtype=tf.int32)"
    makes = ("tf.constant('a')", variant, "tf.Variable(1.0).handle")
    no_core_file = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); "
    code = no_core_file + "import tensorflow as tf; t = {}; print('made', flush=True); t.__dlpack__(); print('alive')"
    for process in [python_process.start(code.format(make)) for make in makes]:
        out, err = process.communicate(timeout=60)
        assert (out, process.returncode < 0) == ("made\n", True), err


@pytest.mark.parametrize("shape", [(), (2,), (2, 2), (0,)], ids=str)
def test_strings_on_the_host_are_objects_of_bytes(shape: tuple[int, ...]) -> None:
    host = bridge.as_host(tf.fill(shape, "grün"))
    assert (host.dtype, host.shape) == (np.dtype(object), shape)
    assert all(x == "grün".encode() for x in host.flat)


def test_numbers_on_the_host_are_views_in_their_own_dtype() -> None:
    tensor = tf.constant([2**40, 1])
    host = bridge.as_host(tensor)
    assert (host.dtype, host.ctypes.data) == (np.int64, pointer(tensor))


@pytest.mark.usefixtures("fresh_importer")
class TestImporter:
    """The private function of jaxlib where it is right, the public one everywhere else."""

    def test_the_private_one_is_used_with_the_tested_jaxlib(self) -> None:
        assert bridge.importer() is not jax.dlpack.from_dlpack

    def test_another_jaxlib_gets_the_public_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_jaxlib, "TESTED", ("0.0.",))
        assert bridge.importer() is jax.dlpack.from_dlpack

    @pytest.mark.parametrize("error", [ImportError, AttributeError, TypeError, ValueError, RuntimeError])
    def test_one_that_is_missing(self, monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
        def missing() -> None:
            raise error("gone")

        monkeypatch.setattr(bridge, "_private_importer", missing)
        assert bridge.importer() is jax.dlpack.from_dlpack

    @pytest.mark.parametrize(
        "wrong",
        [
            lambda t: jax.numpy.array(t.numpy()),
            lambda t: np.asarray(memoryview(t)),
            lambda t: jax.dlpack.from_dlpack(t) + 1,
        ],
        ids=["copies", "no jax.Array", "other values"],
    )
    def test_one_that_fails_its_trial(self, monkeypatch: pytest.MonkeyPatch, wrong: Callable[..., Any]) -> None:
        monkeypatch.setattr(bridge, "_private_importer", lambda: wrong)
        assert bridge.importer() is jax.dlpack.from_dlpack

    def test_one_that_raises_when_called(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(_: tf.Tensor) -> jax.Array:
            raise TypeError("takes 7 arguments")

        monkeypatch.setattr(bridge, "_private_importer", lambda: broken)
        assert bridge.importer() is jax.dlpack.from_dlpack

    @pytest.mark.parametrize("dtype", NARROW)
    def test_both_give_the_same(self, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
        tensor = tensor_of(dtype)
        fast = bridge.as_array(tensor)
        bridge.importer.cache_clear()
        monkeypatch.setattr(_jaxlib, "TESTED", ())
        public = bridge.as_array(tensor)
        assert (fast.dtype, fast.shape, fast.sharding) == (public.dtype, public.shape, public.sharding)
        assert fast.unsafe_buffer_pointer() == public.unsafe_buffer_pointer()

    def test_a_pipeline_over_the_public_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_jaxlib, "TESTED", ())
        pipe = tfjax.from_arrays({"x": np.arange(6), "b": np.ones((6, 2), tf.bfloat16.as_numpy_dtype)}).batch(4)
        assert [b["x"].tolist() for b in pipe] == [[0, 1, 2, 3], [4, 5]]
