"""prefetch_to_device: any iterable of pytrees, the same for every depth; nothing shared that could be written to."""

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

import tfjax
from tests.python_process import run
from tfjax._memory import is_immutable

SIZES = [0, 1, 2, 5]


def sharding(*entries: str | None) -> NamedSharding:
    return NamedSharding(jax.make_mesh((8,), ("data",)), P(*(entries or ("data",))))


def trees(n: int = 4, rows: int = 8) -> list[dict[str, Any]]:
    return [{"x": np.full((rows, 3), i, np.float32), "n": np.arange(rows) + i, "i": i} for i in range(n)]


def assert_same(got: Any, want: Any) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert isinstance(a, jax.Array)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


class Rows:
    """The old sequence protocol, which `for` takes too."""

    def __getitem__(self, i: int) -> Any:
        return trees()[i]


SOURCES = {
    "list": trees,
    "tuple": lambda: tuple(trees()),
    "generator": lambda: (t for t in trees()),
    "iterator": lambda: iter(trees()),
    "sequence": Rows,
    "map": lambda: map(dict, trees()),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_every_kind_of_iterable(source: Any, size: int) -> None:
    batches = list(tfjax.prefetch_to_device(source(), sharding(), size=size))
    assert len(batches) == 4
    for got, want in zip(batches, trees(), strict=True):
        assert_same(got, want)
        assert (got["x"].sharding.spec, got["i"].sharding.spec) == (P("data"), P())
        assert (got["n"].dtype, got["i"].dtype) == (np.int32, np.int32)


def test_a_list_does_not_repeat_its_first_element() -> None:
    assert [int(b["i"]) for b in tfjax.prefetch_to_device(trees(3), size=2)] == [0, 1, 2]


@pytest.mark.parametrize("size", SIZES)
def test_an_array_that_is_filled_again(size: int) -> None:
    def refilled() -> Iterator[Any]:
        memory = np.zeros((8, 4096), np.float32)
        for i in range(6):
            memory[:] = i
            yield {"x": memory, "view": memory[:, :16]}

    batches = list(tfjax.prefetch_to_device(refilled(), sharding(), size=size))
    assert [set(np.unique(b["x"])) for b in batches] == [{float(i)} for i in range(6)]
    assert [set(np.unique(b["view"])) for b in batches] == [{float(i)} for i in range(6)]


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    memory.flags.writeable = False
    return memory[start : start + size].view(dtype).reshape(shape)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "bfloat16"])
def test_a_read_only_array_is_shared_shard_by_shard(dtype: str) -> None:
    batch = aligned((8, 64), np.dtype(dtype) if dtype != "bfloat16" else ml_dtypes.bfloat16)
    (placed,) = tfjax.prefetch_to_device([batch], sharding())
    begin = batch.ctypes.data
    for shard in placed.addressable_shards:
        assert shard.data.unsafe_buffer_pointer() == begin + (shard.index[0].start or 0) * 64 * batch.itemsize


def test_what_can_still_be_written_to() -> None:
    memory = np.zeros(8)
    view = memory[:]
    view.flags.writeable = False
    assert not is_immutable(memory) and not is_immutable(view)
    memory.flags.writeable = False
    assert is_immutable(memory[2:]) and is_immutable(np.frombuffer(b"1234", np.uint8))
    assert not is_immutable(np.frombuffer(bytearray(4), np.uint8))
    assert not is_immutable(np.asarray(memoryview(bytearray(4))))


def test_donating_a_batch_leaves_the_source_alone() -> None:
    source = aligned((8, 64), np.float32)
    (placed,) = tfjax.prefetch_to_device([source], jax.devices()[0])
    jax.jit(lambda x: x + 1, donate_argnums=0)(placed).block_until_ready()
    assert not source.any()


def test_batches_outlive_what_they_came_from() -> None:
    batches = list(tfjax.prefetch_to_device((aligned((8, 512), np.int32) + i for i in range(50)), sharding()))
    gc.collect()
    assert [int(b.sum()) for b in batches] == [i * 8 * 512 for i in range(50)]


class TestShardings:
    def test_a_pytree_prefix(self) -> None:
        where = {"x": sharding(), "n": jax.devices()[2], "i": jax.devices()[2]}
        (batch,) = tfjax.prefetch_to_device(trees(1), where)
        assert batch["x"].sharding == sharding()
        assert batch["n"].sharding == batch["i"].sharding == SingleDeviceSharding(jax.devices()[2])

    def test_specs_over_the_mesh_that_is_set(self) -> None:
        with jax.set_mesh(jax.make_mesh((4, 2), ("data", "model"))):
            (batch,) = tfjax.prefetch_to_device([{"x": np.zeros((8, 4)), "y": np.zeros(8)}], {"x": P("data", "model")})
        assert (batch["x"].sharding.spec, batch["y"].sharding.spec) == (P("data", "model"), P("data"))

    def test_the_default_device_of_the_moment(self) -> None:
        with jax.default_device(jax.devices()[4]):
            (batch,) = tfjax.prefetch_to_device(trees(1))
        assert batch["x"].devices() == {jax.devices()[4]}
        assert not batch["x"].committed

    def test_the_leading_device_axis(self) -> None:
        mesh = jax.sharding.Mesh(np.array(jax.devices()), ("device",))
        (batch,) = tfjax.prefetch_to_device([np.arange(32.0).reshape(8, 4)], NamedSharding(mesh, P("device")))
        assert jax.pmap(lambda x: x.sum())(batch).tolist() == np.arange(32.0).reshape(8, 4).sum(1).tolist()

    def test_jax_arrays_are_moved(self) -> None:
        (batch,) = tfjax.prefetch_to_device([jax.numpy.arange(8)], sharding())
        assert batch.sharding == sharding() and batch.tolist() == list(range(8))


class TestLibraries:
    def test_torch_tensors(self) -> None:
        torch = pytest.importorskip("torch")
        source = [
            {"x": torch.full((8, 2), i, dtype=dtype)}
            for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.uint8, torch.int64)
            for i in (1, 2)
        ]
        for i in range(0, 10, 2):
            got = list(tfjax.prefetch_to_device(source[i : i + 2], sharding()))
            source[i]["x"].fill_(7)
            assert [float(b["x"].astype(np.float32).sum()) for b in got] == [16.0, 32.0]

    def test_a_torch_tensor_that_keeps_its_sign_elsewhere(self) -> None:
        torch = pytest.importorskip("torch")
        negative = torch.ones(8, dtype=torch.complex64).mul(1j).conj().imag
        (batch,) = tfjax.prefetch_to_device([negative])
        assert batch.tolist() == [-1.0] * 8

    def test_a_strided_torch_tensor(self) -> None:
        torch = pytest.importorskip("torch")
        (batch,) = tfjax.prefetch_to_device([torch.arange(24).reshape(4, 6).T[::2]])
        assert batch.tolist() == np.arange(24).reshape(4, 6).T[::2].tolist()

    def test_a_wide_torch_value_is_not_cut_off(self) -> None:
        torch = pytest.importorskip("torch")
        with pytest.raises(tfjax.SpecError, match="does not fit int32"):
            list(tfjax.prefetch_to_device([torch.tensor([2**40 + 5])]))

    def test_memory_of_torch_behind_a_read_only_array(self) -> None:
        torch = pytest.importorskip("torch")
        tensor = torch.zeros(64)
        array = tensor.numpy()
        array.flags.writeable = False
        (batch,) = tfjax.prefetch_to_device([array])
        tensor.fill_(7)
        assert not batch.any()

    def test_a_torch_loader(self) -> None:
        torch = pytest.importorskip("torch")
        data = torch.utils.data.TensorDataset(torch.arange(12.0).reshape(6, 2), torch.arange(6))
        got = list(tfjax.prefetch_to_device(torch.utils.data.DataLoader(data, batch_size=3)))
        assert [y.tolist() for _, y in got] == [[0, 1, 2], [3, 4, 5]]

    def test_grain(self) -> None:
        grain = pytest.importorskip("grain")
        data = grain.MapDataset.range(24).map(lambda i: {"x": np.full(4, i)}).batch(8).to_iter_dataset()
        got = list(tfjax.prefetch_to_device(data, sharding()))
        assert [b["x"][:, 0].tolist() for b in got] == np.arange(24).reshape(3, 8).tolist()

    def test_as_numpy_of_tfds(self) -> None:
        tf, tfds = pytest.importorskip("tensorflow"), pytest.importorskip("tensorflow_datasets")
        dataset = tf.data.Dataset.range(16).map(lambda i: {"i": i}).batch(8)
        for source in (tfds.as_numpy(dataset), dataset.as_numpy_iterator()):
            got = list(tfjax.prefetch_to_device(source, sharding()))
            assert [b["i"].tolist() for b in got] == np.arange(16).reshape(2, 8).tolist()

    @pytest.mark.parametrize("size", [0, 2])
    def test_a_pipeline(self, size: int) -> None:
        pipe = tfjax.from_arrays({"x": np.arange(32)}).shuffle(0).batch(8)
        got = list(tfjax.prefetch_to_device(pipe.iterate(), sharding(), size=size))
        assert [b["x"].tolist() for b in got] == [b["x"].tolist() for b in pipe.iterate()]
        assert got[0]["x"].sharding == sharding()

    @pytest.mark.parametrize("make", [lambda tf: tf.data.Dataset.range(3), lambda tf: [tf.constant(["a"])]])
    def test_tensorflow_has_its_own_way(self, make: Any) -> None:
        tf = pytest.importorskip("tensorflow")
        with pytest.raises(TypeError, match="from_tf"):
            list(tfjax.prefetch_to_device(make(tf)))


class TestChanges:
    """What differs from the first item is refused, with the item and both specs."""

    @pytest.mark.parametrize(
        ("second", "text"),
        [
            (np.zeros((8, 4), np.float32), r"\['x'\] is float32\[8,4\] in item 1, and was float32\[8,3\] in item 0"),
            (np.zeros((8, 3), np.int32), r"\['x'\] is int32\[8,3\] in item 1, and was float32\[8,3\]"),
            (np.zeros(8, np.float32), r"\['x'\] is float32\[8\] in item 1"),
        ],
    )
    @pytest.mark.parametrize("size", [0, 2])
    def test_shape_and_dtype(self, second: np.ndarray, text: str, size: int) -> None:
        batches = tfjax.prefetch_to_device([{"x": np.zeros((8, 3), np.float32)}, {"x": second}], size=size)
        next(batches)
        with pytest.raises(tfjax.SpecError, match=text):
            next(batches)

    def test_structure(self) -> None:
        with pytest.raises(tfjax.SpecError, match=r"item 1 has the structure .*'y'"):
            list(tfjax.prefetch_to_device([{"x": np.zeros(2)}, {"y": np.zeros(2)}]))

    def test_a_shorter_last_batch_that_divides(self) -> None:
        got = list(tfjax.prefetch_to_device([np.zeros(24), np.zeros(24), np.zeros(8)], sharding()))
        assert [b.shape for b in got] == [(24,), (24,), (8,)]

    def test_a_shorter_last_batch_that_does_not(self) -> None:
        batches = tfjax.prefetch_to_device([np.zeros(24), np.zeros(7)], sharding())
        next(batches)
        with pytest.raises(tfjax.PlacementError, match=r"item 1: the batch of shape \(7,\).*7 rows.*8 devices"):
            next(batches)

    def test_a_spec_longer_than_the_rank(self) -> None:
        with pytest.raises(tfjax.PlacementError, match=r"\['n'\] has rank 1"):
            list(tfjax.prefetch_to_device(trees(1), sharding(None, "data")))

    @pytest.mark.parametrize(
        "leaf",
        [np.array(["a"]), np.array([b"a"]), np.array([object()]), np.array(["2020-01-01"], "M8[D]"),
         np.zeros(2, np.longdouble), np.zeros(2, "V3"), np.zeros(2, [("a", "i4")]), np.zeros(2, np.longdouble)],
        ids=lambda a: str(a.dtype),
    )  # fmt: skip
    def test_dtypes_that_jax_has_not(self, leaf: np.ndarray) -> None:
        with pytest.raises(tfjax.SpecError, match=r"\['id'\] has dtype.*does not have"):
            list(tfjax.prefetch_to_device([{"id": leaf}]))

    def test_a_mask_is_not_lost(self) -> None:
        with pytest.raises(TypeError, match=r"\['x'\] is a masked array.*filled"):
            list(tfjax.prefetch_to_device([{"x": np.ma.masked_array(np.arange(2.0), mask=[True, False])}]))

    def test_the_item_is_named(self) -> None:
        batches = tfjax.prefetch_to_device([{"x": np.ones(2)}, {"x": np.full(2, 1e300)}])
        next(batches)
        with pytest.raises(tfjax.SpecError, match=r"item 1: \['x'\] holds a value of float64"):
            next(batches)

    def test_what_is_no_array(self) -> None:
        with pytest.raises(TypeError, match=r"\['x'\] is a str"):
            list(tfjax.prefetch_to_device([{"x": "text"}]))

    def test_no_leaf(self) -> None:
        with pytest.raises(tfjax.SpecError, match="no leaf"):
            list(tfjax.prefetch_to_device([None]))


WIDE = [(np.int64, 2**31), (np.int64, -(2**31) - 1), (np.uint64, 2**32), (np.float64, 1e39), (np.complex128, 1e39j)]


@pytest.mark.parametrize(("dtype", "value"), WIDE, ids=str)
def test_what_does_not_fit_32_bits(dtype: Any, value: Any) -> None:
    with pytest.raises(tfjax.SpecError, match="does not fit"):
        list(tfjax.prefetch_to_device([np.array([value], dtype)]))
    with jax.enable_x64(True):
        (got,) = tfjax.prefetch_to_device([np.array([value], dtype)])
    assert got.dtype == dtype and np.asarray(got)[0] == value


def test_a_number_that_does_not_fit() -> None:
    for number in (2**40, -(2**40), 2**70, 1e300):
        with pytest.raises(tfjax.SpecError, match=r"does not fit|dtype object"):
            list(tfjax.prefetch_to_device([{"n": number}]))
    (got,) = tfjax.prefetch_to_device([{"b": True, "i": 3, "f": 0.5, "c": 1j}])
    assert [(v.dtype.name, v.shape) for v in got.values()] == [
        ("bool", ()),
        ("complex64", ()),
        ("float32", ()),
        ("int32", ()),
    ]


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1))
def test_what_does_fit(values: list[int]) -> None:
    (got,) = tfjax.prefetch_to_device([np.array(values, np.int64)], size=0)
    assert got.dtype == np.int32 and got.tolist() == values


def test_infinite_and_missing_floats_stay() -> None:
    (got,) = tfjax.prefetch_to_device([np.array([np.inf, -np.inf, np.nan])])
    np.testing.assert_array_equal(np.asarray(got), np.array([np.inf, -np.inf, np.nan], np.float32))


def test_another_byte_order() -> None:
    (got,) = tfjax.prefetch_to_device([np.arange(4).astype(">i4")])
    assert got.tolist() == [0, 1, 2, 3]


class TestArguments:
    def test_messages_name_this_function(self) -> None:
        with pytest.raises(tfjax.PlacementError, match=r"prefetch_to_device: .* needs a mesh: use jax.set_mesh"):
            tfjax.prefetch_to_device(trees(), P("data"))
        with pytest.raises(tfjax.PlacementError, match=r"prefetch_to_device: the mesh has the axes.*NamedSharding"):
            tfjax.prefetch_to_device(trees(), jax.make_mesh((4, 2), ("data", "model")))

    def test_the_call_of_flax(self) -> None:
        with pytest.raises(TypeError, match=r"prefetch_to_device\(iterable, sharding, size=2\)"):
            tfjax.prefetch_to_device(trees(), 2)

    @pytest.mark.parametrize("size", [1.5, "2", None, True])
    def test_a_size_that_is_no_int(self, size: Any) -> None:
        with pytest.raises(TypeError, match="size is"):
            tfjax.prefetch_to_device(trees(), size=size)

    def test_a_size_below_0(self) -> None:
        with pytest.raises(ValueError, match="size is -1"):
            tfjax.prefetch_to_device(trees(), size=-1)

    @pytest.mark.parametrize("what", [3, None, object()])
    def test_what_is_no_iterable(self, what: Any) -> None:
        with pytest.raises(TypeError, match="takes an iterable"):
            tfjax.prefetch_to_device(what)

    def test_a_sharding_of_a_wrong_kind(self) -> None:
        with pytest.raises(TypeError, match="no Mesh, Sharding or device"):
            tfjax.prefetch_to_device(trees(), "data")


@pytest.mark.parametrize("size", [0, 2])
class TestEnds:
    def test_what_the_iterable_raises_comes_in_its_place(self, size: int) -> None:
        def failing() -> Iterator[Any]:
            yield from trees(3)
            raise OSError("the disk is gone")

        batches = tfjax.prefetch_to_device(failing(), size=size)
        assert [int(next(batches)["i"]) for _ in range(3)] == [0, 1, 2]
        for _ in range(2):
            with pytest.raises(OSError, match="the disk is gone") as caught:
                next(batches)
            assert any("asked for item 3" in note for note in caught.value.__notes__)

    def test_an_iterable_that_raises_at_once(self, size: int) -> None:
        class Broken:
            def __iter__(self) -> Iterator[Any]:
                raise KeyError("nothing here")

        with pytest.raises(KeyError, match="nothing here"):
            next(tfjax.prefetch_to_device(Broken(), size=size))

    def test_the_end_is_the_end(self, size: int) -> None:
        batches = tfjax.prefetch_to_device(trees(1), size=size)
        assert len(list(batches)) == 1 and list(batches) == []

    def test_an_empty_iterable(self, size: int) -> None:
        assert list(tfjax.prefetch_to_device([], sharding(), size=size)) == []

    def test_a_closed_one_says_so(self, size: int) -> None:
        with tfjax.prefetch_to_device(trees(), size=size) as batches:
            next(batches)
        batches.close()
        with pytest.raises(ValueError, match="closed"):
            next(batches)

    def test_closing_ends_the_generator(self, size: int) -> None:
        ended = threading.Event()

        def endless() -> Iterator[Any]:
            try:
                while True:
                    yield np.zeros(8)
            finally:
                ended.set()

        with tfjax.prefetch_to_device(endless(), size=size) as batches:
            next(batches)
        gc.collect()
        assert ended.wait(10)

    def test_dropping_it_frees_what_it_read(self, size: int) -> None:
        class Source:
            def __iter__(self) -> Iterator[Any]:
                return iter(trees())

        source = Source()
        alive = weakref.ref(source)
        batches = tfjax.prefetch_to_device(source, size=size)
        next(batches)
        batches.close()
        del source, batches
        gc.collect()
        assert alive() is None

    def test_what_jax_is_set_to_holds_for_the_run(self, size: int) -> None:
        with jax.enable_x64(True):
            batches = tfjax.prefetch_to_device([np.array([2**40])] * 3, size=size)
            assert [int(b[0]) for b in batches] == [2**40] * 3


def test_no_more_than_size_items_are_read_ahead() -> None:
    read = []
    source = (read.append(i) or np.full(4, i) for i in range(20))
    with tfjax.prefetch_to_device(source, size=3) as batches:
        next(batches)
        for _ in range(100):
            if len(read) >= 4:
                break
            threading.Event().wait(0.01)
        threading.Event().wait(0.05)
        assert len(read) == 4


def test_a_hanging_iterable_is_closed_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfjax.placement.prefetch._JOIN_TIMEOUT_S", 0.05)
    go_on, hangs = threading.Event(), threading.Event()
    batches = tfjax.prefetch_to_device(iter(lambda: hangs.set() or go_on.wait(), True))
    assert hangs.wait(10)
    with pytest.warns(UserWarning, match=r"closed while a batch was being made.*in wait, line"):
        batches.close()
    go_on.set()


def test_the_interpreter_ends_with_a_live_one() -> None:
    code = (
        "import itertools, numpy as np, tfjax\n"
        "batches = tfjax.prefetch_to_device((np.zeros(4) for _ in itertools.count()))\n"
        "next(batches)\nprint('ends')"
    )
    done = run(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ends\n", "")


def test_neither_tensorflow_nor_a_framework_is_loaded() -> None:
    code = (
        "import sys, numpy as np, tfjax\n"
        "assert len(list(tfjax.prefetch_to_device([{'x': np.zeros(4)}] * 3))) == 3\n"
        "print(sorted(m for m in ('tensorflow', 'tensorflow_datasets', 'flax', 'keras', 'torch') if m in sys.modules))"
    )
    assert run(code).stdout.strip() == "[]"


def test_two_processes_each_give_their_part() -> None:
    """Over loopback: a sharding over both processes makes one global array of what each of them yields."""
    from tests.placement.two_processes import run_two

    outputs = run_two(
        "mesh = jax.make_mesh((2,), ('data',))\n"
        "where = {'x': NamedSharding(mesh, P('data')), 'n': NamedSharding(mesh, P())}\n"
        "trees = [{'x': np.arange(4.0) + 4 * jax.process_index() + 8 * i, 'n': i} for i in range(3)]\n"
        "for batch in tfjax.prefetch_to_device(trees, where):\n"
        "    print(batch['x'].shape, float(jax.jit(jnp.sum)(batch['x'])), int(batch['n']))\n"
    )
    expected = "".join(f"(8,) {float(sum(range(8 * i, 8 * i + 8)))} {i}\n" for i in range(3))
    assert outputs == [expected, expected]
