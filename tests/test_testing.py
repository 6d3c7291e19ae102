"""The helpers of `tfjax.testing` pass where they should, fail where they should, and say what differs."""

import itertools
import threading
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as hs

import tfjax
from tests import python_process
from tests.dtypes import DTYPES
from tfjax.report import CopyReport, LeafReport
from tfjax.testing import assert_resumes_anywhere, assert_zero_copy, exact, fake_source, resume

MESH = jax.make_mesh((8,), ("data",))


def spec(shape: tuple[int | None, ...] = (), dtype: Any = "float32") -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def test_the_module_is_loaded_when_it_is_first_named() -> None:
    code = """
        import sys, tfjax
        assert "tfjax.testing" not in sys.modules
        tfjax.testing.assert_zero_copy
        assert "tensorflow" not in sys.modules
    """
    done = python_process.run(code)
    assert done.returncode == 0, done.stderr


class TestExact:
    """Two batches, bit for bit."""

    @pytest.mark.parametrize("dtype", [*DTYPES, object])
    def test_the_same(self, dtype: Any) -> None:
        values = (
            np.array([b"a", b"", b"cc"], object) if dtype is object else np.array([0, 1, 2]).astype(jnp.dtype(dtype))
        )
        exact({"x": [values], "n": 3}, {"x": [values.copy()], "n": 3})

    def test_nan_equals_nan_of_the_same_bits_only(self) -> None:
        bits = np.array([0x7FC00001, 0x7FC00000, 0x7FC00000], np.uint32)
        exact(bits.view(np.float32), bits.copy().view(np.float32))
        with pytest.raises(AssertionError, match=r"\[0\] is nan \(0x7fc00000\), expected nan \(0x7fc00001\)"):
            exact(bits.view(np.float32), np.full(3, np.nan, np.float32))

    def test_random_keys(self) -> None:
        exact(jax.random.key(1), jax.random.key(1))
        with pytest.raises(AssertionError, match=r"the batch\[1\] is 2, expected 1"):
            exact(jax.random.key(1), jax.random.key(2))

    @pytest.mark.parametrize(
        ("expected", "given", "said"),
        [
            (np.zeros(3, np.int32), np.zeros(3, np.int64), r"\['x'\] has dtype int64, expected int32"),
            (np.zeros((2, 3)), np.zeros((3, 2)), r"\['x'\] has shape \(3, 2\), expected \(2, 3\)"),
            (np.zeros(3), jnp.zeros(3), r"\['x'\] has kind jax.Array, expected ndarray"),
            (
                np.float32([0.0]),
                np.float32([-0.0]),
                r"\['x'\]\[0\] is -0.0 \(0x80000000\), expected 0.0 \(0x00000000\)",
            ),
            (np.zeros((2, 3)), np.eye(2, 3), r"\['x'\]\[0\]\[0\] is 1.0, expected 0.0 .* \(2 of 6 values differ\)"),
            (np.array([b"a" * 99], object), np.array([b"b"], object), r"\['x'\]\[0\] is b'b', expected b'a+\.\.\. "),
            ((1, 2), [1, 2], "the structure is"),
            (7, 8, r"\['x'\] is 8, expected 7$"),
            (
                jax.device_put(np.zeros(8), jax.devices()[1]),
                jax.device_put(np.zeros(8), jax.devices()[2]),
                r"\['x'\] has sharding .*, expected ",
            ),
        ],
    )
    def test_what_differs_is_named(self, expected: Any, given: Any, said: str) -> None:
        with pytest.raises(AssertionError, match=said):
            exact({"x": expected}, {"x": given})


def rich(length: int = 12) -> "tfjax.Pipeline":
    """Every kind of leaf: a leaf on the host, strings, 16 and 64 bits, NaN, random ops, a mask."""
    specs = {"x": spec((2,), "bfloat16"), "n": spec((), "int64"), "id": spec((), str), "h": spec((3,), "float64")}

    def with_nan(example: dict[str, Any]) -> dict[str, Any]:
        return {**example, "f": tf.math.log(tf.cast(example["n"] - 64, tf.float32))}

    def noisy(example: dict[str, Any], seed: Any) -> dict[str, Any]:
        return {**example, "r": tf.random.stateless_uniform((2,), seed)}

    pipe = fake_source(specs, length=length).seed(3).shuffle(1).map(with_nan).random_map(noisy)
    return pipe.keep_on_host("id", "h").batch(8, "pad")


def scaled(batch: dict[str, Any]) -> dict[str, Any]:
    return {**batch, "x": batch["x"] * 2}


def counting() -> "tfjax.Pipeline":
    """What it yields depends on how often it was asked, which no state can hold."""
    calls = itertools.count()

    def number(example: dict[str, Any]) -> dict[str, Any]:
        drawn = tf.py_function(lambda: next(calls), [], tf.int64)
        return {"x": example["x"], "call": tf.ensure_shape(drawn, ())}

    return tfjax.from_arrays({"x": np.arange(8)}).map(number).batch(2)


class Altered:
    """A pipeline whose resumed iterators are changed by `alter`."""

    def __init__(self, alter: Any) -> None:
        self._pipe, self._alter = tfjax.from_arrays({"x": np.arange(8)}).batch(2), alter

    def iterate(self, **given: Any) -> Any:
        run = self._pipe.iterate(**given)
        if given.get("state"):
            self._alter(run)
        return run


def skip_one(run: Any) -> None:
    next(run, None)
    run._delivered = 0


def count_wrong(run: Any) -> None:
    run._delivered = 1


def end_early(run: Any) -> None:
    run._items.close()


def go_on(run: Any) -> None:
    items = run._items
    run._items = itertools.chain(items, [{"x": jnp.arange(2)}])
    run._items.close = items.close if hasattr(run._items, "close") else None


class TestResumesAnywhere:
    """States at every step, resumed through JSON."""

    @pytest.mark.parametrize("where", [None, jax.devices()[3], MESH], ids=["default", "device 3", "mesh of 8"])
    def test_indexed(self, where: Any) -> None:
        pipe = rich().device_map(scaled)
        assert_resumes_anywhere(pipe if where is None else pipe.place(where), epochs=3)

    def test_examples_of_varying_shape(self) -> None:
        assert_resumes_anywhere(fake_source({"x": spec((None, 2))}, length=5).shuffle(0), epochs=2)

    @pytest.mark.parametrize("state", ["replay", "checkpoint"])
    @pytest.mark.parametrize("where", [None, MESH], ids=["default", "mesh of 8"])
    def test_streaming(self, state: Any, where: Any) -> None:
        rows = {"x": np.arange(44, dtype=np.float32), "id": np.array([str(i) for i in range(44)])}
        stream = tf.data.Dataset.from_tensor_slices(rows).shuffle(11, seed=3).batch(8)
        pipe = tfjax.from_tf(stream, batched=True, state=state).keep_on_host("id")
        assert_resumes_anywhere(pipe if where is None else pipe.take(5).place(where), epochs=3)

    @pytest.mark.parametrize("state", ["replay", "checkpoint"])
    def test_streaming_of_unknown_length(self, state: Any) -> None:
        odd = tf.data.Dataset.range(9).filter(lambda n: n % 2 == 1)
        assert_resumes_anywhere(tfjax.from_tf(odd, state=state))

    def test_streams_without_an_end_are_given_steps(self) -> None:
        pipe = tfjax.from_tf(tf.data.Dataset.range(5).repeat().batch(2))
        assert_resumes_anywhere(pipe, steps=6)
        with pytest.raises(ValueError, match=r"never ends: use steps="):
            assert_resumes_anywhere(pipe)

    def test_a_function_that_counts_its_calls_is_found(self) -> None:
        with pytest.raises(AssertionError, match=r"^run a second time: batch 0: \['call'\]\[0\] is \d+, expected \d"):
            assert_resumes_anywhere(counting())

    def test_a_graph_that_differs_from_run_to_run_is_found(self) -> None:
        def timed(i: tf.Tensor) -> tf.Tensor:
            return tf.cast(i, tf.float64) + tf.timestamp() % 1000

        pipe = tfjax.from_tf(tf.data.Dataset.range(64).map(timed).batch(32))
        with jax.enable_x64(True), pytest.raises(AssertionError, match=r"run a second time: batch 0: the batch\["):
            assert_resumes_anywhere(pipe)

    @pytest.mark.parametrize(
        ("alter", "said"),
        [
            (skip_one, r"^resumed at step 0 of 4: batch 0: \['x'\]\[0\] is 2, expected 0 \(2 of 2 values differ\)"),
            (count_wrong, r"^resumed at step 0 of 4: the state is .*\"step\":1.*, expected .*\"step\":0"),
            (end_early, r"^resumed at step 0 of 4: the run ended after 0 of 4 batches"),
        ],
    )
    def test_resumed_runs_that_differ_are_found(self, alter: Any, said: str) -> None:
        with pytest.raises(AssertionError, match=said):
            assert_resumes_anywhere(Altered(alter), epochs=1)  # type: ignore[arg-type]

    def test_a_run_that_goes_on_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The total is not what is left, but that of the whole run."""
        pipe = tfjax.from_arrays(np.arange(8)).batch(2)
        whole = tfjax.Pipeline.iterate

        def beyond(self: Any, epochs: Any = None, *, state: Any = None, **more: Any) -> Any:
            return whole(self, epochs=epochs + (state is not None), state=state, **more)

        monkeypatch.setattr(tfjax.Pipeline, "iterate", beyond)
        with pytest.raises(AssertionError, match=r"resumed at step 0 of 4: the run went on after 4 of 4 batches"):
            assert_resumes_anywhere(pipe, epochs=1)

    def test_epochs_are_compared(self, monkeypatch: pytest.MonkeyPatch) -> None:
        numbers = itertools.count()
        monkeypatch.setattr("tfjax.iterator.BatchIterator.epoch", property(lambda _: next(numbers)))
        with pytest.raises(AssertionError, match=r"run a second time: step and epoch are 0 and 3, expected 0 and 0"):
            assert_resumes_anywhere(tfjax.from_arrays(np.arange(4)).batch(2), epochs=1)

    def test_a_comparison_of_ones_own(self) -> None:
        compared = []

        def loose(expected: Any, given: Any) -> None:
            compared.append(expected.tolist())
            assert given.shape == expected.shape, "shapes"

        assert_resumes_anywhere(tfjax.from_arrays(np.arange(4)).batch(2), epochs=1, at=[1], compare=loose)
        assert compared == [[0, 1], [2, 3], [2, 3]]
        with pytest.raises(AssertionError, match="run a second time: batch 0: never"):
            assert_resumes_anywhere(tfjax.from_arrays(np.arange(4)).batch(2), compare=_never)

    @pytest.mark.parametrize("at", [[5], [0, 9]])
    def test_steps_outside_of_the_run(self, at: list[int]) -> None:
        with pytest.raises(ValueError, match=rf"at holds {at[-1]}: the run has 4 batches"):
            assert_resumes_anywhere(tfjax.from_arrays(np.arange(8)).batch(2), epochs=1, at=at)
        with pytest.raises(ValueError, match="at"):
            assert_resumes_anywhere(tfjax.from_arrays(np.arange(8)).batch(2), at=[-1])

    @given(hs.integers(1, 200), hs.integers(1, 5))
    def test_which_steps_are_chosen(self, per_epoch: int, epochs: int) -> None:
        count = per_epoch * epochs
        record = resume._Record([None] * count, [s // per_epoch for s in range(count + 1)])
        chosen = resume._sample(record)
        assert chosen <= set(range(count + 1))
        assert {0, 1, per_epoch, count - 1, count} <= chosen
        assert len(chosen) <= 25
        assert len(chosen) == count + 1 or count > 24

    def test_what_it_opens_is_closed(self) -> None:
        before = threading.active_count()
        assert_resumes_anywhere(rich())
        with pytest.raises(AssertionError):
            assert_resumes_anywhere(counting())
        deadline = time.monotonic() + 5
        while threading.active_count() > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert threading.active_count() <= before


def _never(*_: Any) -> None:
    raise AssertionError("never")


class TestZeroCopy:
    """By the addresses of the first batch."""

    @pytest.mark.parametrize("devices", [1, 2, 8])
    def test_shards_that_start_on_64_bytes(self, devices: int) -> None:
        pipe = fake_source({"x": spec((16,)), "n": spec((32,), "int64"), "id": spec((), str)}, length=16)
        mesh = jax.make_mesh((devices,), ("d",), devices=jax.devices()[:devices])
        assert_zero_copy(pipe.keep_on_host("id").batch(8).place(mesh, "d"))

    def test_shards_that_do_not_are_named(self) -> None:
        pipe = fake_source({"x": spec((16,)), "y": spec((3,))}, length=16).batch(8).place(MESH, "data")
        with pytest.raises(AssertionError) as failed:
            assert_zero_copy(pipe)
        lines = str(failed.value).splitlines()
        assert lines[0] == "['y']: copied on the host"
        assert lines[2:] == str(pipe.copy_report()).splitlines()
        assert "shards of 12 bytes do not start on 64" in lines[-1]

    def test_an_accelerator_is_never_zero_copy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        report = CopyReport((LeafReport("['x']", "float32[8]", "transferred", "to 1 gpu device(s)"),))
        monkeypatch.setattr(tfjax.Pipeline, "copy_report", lambda _: report)
        with pytest.raises(AssertionError, match=r"\['x'\]: transferred; zero-copy holds on the host only"):
            assert_zero_copy(tfjax.from_arrays(np.zeros(8)).batch(8))

    @pytest.mark.gpu
    def test_on_a_gpu(self) -> None:
        with pytest.raises(AssertionError, match="zero-copy holds on the host only"):
            assert_zero_copy(tfjax.from_arrays(np.zeros((8, 16))).batch(8).place(jax.devices("cuda")[0]))


SHAPES = hs.lists(hs.sampled_from([1, 2, 3, None]), max_size=3).map(tuple)


class TestFakeSource:
    """Examples that are a function of seed and index, and bad ones where asked."""

    @settings(max_examples=25)
    @given(hs.dictionaries(hs.sampled_from("abc"), hs.tuples(SHAPES, hs.sampled_from([*DTYPES, str])), min_size=1))
    def test_examples_are_what_the_specs_say(self, leaves: dict[str, Any]) -> None:
        pipe = fake_source({k: spec(*leaf) for k, leaf in leaves.items()}, length=3)
        strings = [k for k, (_, dtype) in leaves.items() if dtype is str]
        example = next(iter((pipe.keep_on_host(*strings) if strings else pipe).to_tf()))
        assert sorted(example) == sorted(leaves)
        for key, (shape, dtype) in leaves.items():
            assert example[key].dtype == (tf.string if dtype is str else tf.as_dtype(dtype))
            assert tf.TensorShape(shape).is_compatible_with(example[key].shape)
            declared = pipe.to_tf().element_spec[key].shape
            assert [n is None for n in declared] == [n is None for n in shape]

    def test_seed_and_index_decide(self) -> None:
        specs = {"x": spec((3,)), "id": spec((), str), "v": spec((None,), "int32")}

        def rows(length: int, seed: int) -> list[Any]:
            pipe = fake_source(specs, length=length, seed=seed).keep_on_host("id")
            return [jax.tree.map(lambda x: np.asarray(x).tolist(), example) for example in pipe]

        assert rows(6, 1) == rows(6, 1)
        assert rows(6, 1)[:4] == rows(4, 1)
        assert all(a["x"] != b["x"] for a, b in zip(rows(6, 1), rows(6, 2), strict=True))
        assert len({len(row["v"]) for row in rows(6, 1)}) > 1

    def test_specs_of_tensorflow_and_of_another_pipeline(self) -> None:
        given = fake_source({"x": tf.TensorSpec((2,), tf.int32), "s": tf.TensorSpec((), tf.string)}, length=4)
        again = fake_source(given.spec, length=4)
        assert given.spec == again.spec
        exact(given.keep_on_host("s")[2], again.keep_on_host("s")[2])

    def test_an_unreadable_example_is_named(self) -> None:
        pipe = fake_source(spec(), length=10, unreadable=[7, 8]).batch(2)
        with pipe.iterate() as batches, pytest.raises(tfjax.CorruptDataError, match=r"example 7 .*record is damaged"):
            assert len([next(batches) for _ in range(3)]) == 3
            next(batches)

    def test_an_example_that_fails_is_named_with_its_error(self) -> None:
        pipe = fake_source(spec(), length=10, failing={5}).batch(4)
        with pytest.raises(tfjax.CorruptDataError, match=r"example 5 .*asked to fail on example 5"):
            list(pipe)

    def test_slow_examples_wait(self, monkeypatch: pytest.MonkeyPatch) -> None:
        waits: list[float] = []
        monkeypatch.setattr("tfjax.testing.fake.time.sleep", waits.append)
        pipe = fake_source(spec(), length=6, slow={1: 30.0, 2: 5.0, 3: 7.0}).batch(2)
        assert len(list(pipe.options(parallel_calls=1).place(jax.devices()[0], prefetch=0))) == 3
        assert sorted(waits) == [0.0, 7.0, 30.0]

    def test_a_state_resumes_with_a_source_that_is_whole(self) -> None:
        specs, chain = {"x": spec((2,))}, lambda pipe: pipe.shuffle(seed=0).batch(2)
        whole = list(chain(fake_source(specs, length=10)))
        with chain(fake_source(specs, length=10, unreadable=[3])).iterate() as batches:
            delivered = []
            with pytest.raises(tfjax.CorruptDataError):
                delivered.extend(batches)
            state = batches.state
        assert len(delivered) == state.step < len(whole)
        with chain(fake_source(specs, length=10)).iterate(state=state) as rest:
            exact(whole, [*delivered, *rest])

    def test_another_seed_is_another_source(self) -> None:
        with fake_source(spec(), length=4).iterate() as batches:
            state = batches.state
        with pytest.raises(tfjax.StateMismatchError, match="source"):
            fake_source(spec(), length=4, seed=1).iterate(state=state)

    @pytest.mark.parametrize(
        ("given", "error", "said"),
        [
            ({"length": 0}, ValueError, "length"),
            ({"length": 4, "unreadable": [4]}, ValueError, "index 4 is outside of the 4 examples"),
            ({"length": 4, "failing": [-1]}, ValueError, "index -1 is outside"),
            ({"length": 4, "slow": {9: 1.0}}, ValueError, "index 9 is outside"),
            ({"length": 4, "seed": -1}, ValueError, "seed"),
        ],
    )
    def test_bad_input(self, given: dict[str, Any], error: type[Exception], said: str) -> None:
        with pytest.raises(error, match=said):
            fake_source(spec(), **given)

    def test_leaves_without_shape_and_dtype(self) -> None:
        with pytest.raises(TypeError, match=r"\['x'\] is 'float32': give a jax.ShapeDtypeStruct or a tf.TensorSpec"):
            fake_source({"x": "float32"}, length=3)


HELPERS: dict[str, tuple[Any, type[Exception], str]] = {
    "two totals": (lambda: assert_resumes_anywhere(fake(), epochs=2, steps=3), ValueError, "epochs or steps"),
    "no step": (lambda: assert_resumes_anywhere(fake(), at=[]), ValueError, "at is empty"),
    "no pipeline": (lambda: assert_resumes_anywhere([1]), TypeError, "takes a Pipeline.*a list"),  # type: ignore[arg-type]
    "a list": (lambda: assert_zero_copy([1]), TypeError, "takes a Pipeline.*a list"),  # type: ignore[arg-type]
    "all on the host": (lambda: assert_zero_copy(host_only()), AssertionError, "all are kept on the host"),
    "an index": (lambda: fake(unreadable=1), TypeError, r"unreadable takes indices, .*given 1"),
    "no waits": (lambda: fake(slow=[1]), TypeError, r"slow takes a dict .*given \[1\]"),
    "a wait below 0": (lambda: fake(slow={0: -1}), ValueError, "0: -1"),
    "a wait as text": (lambda: fake(slow={0: "a"}), TypeError, "0: 'a'"),
}


def host_only() -> tfjax.Pipeline:
    return fake_source({"x": np.zeros(2, np.float32)}, length=4).keep_on_host("x").batch(2)


def fake(**more: Any) -> tfjax.Pipeline:
    return fake_source({"x": np.zeros(2, np.float32)}, length=4, **more).batch(2)


@pytest.mark.parametrize("name", HELPERS)
def test_what_would_test_nothing_or_something_else_is_refused(name: str) -> None:
    call, kind, words = HELPERS[name]
    with pytest.raises(kind, match=words):
        call()


def test_long_values_are_cut_and_masks_compared() -> None:
    with pytest.raises(AssertionError, match="1000000 characters") as caught:
        exact(np.array(["a" * 10**6]), np.array(["b" * 10**6]))
    assert len(str(caught.value)) < 300
    with pytest.raises(AssertionError, match="another mask"):
        exact(np.ma.masked_array([1, 2], [0, 1]), np.ma.masked_array([1, 2], [1, 0]))
