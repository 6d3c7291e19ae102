"""A pipeline is a value: what can be asked of it, and that asking or building on it changes nothing."""

import gc
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf

import tfjax
from tfjax.errors import SpecError

ROWS = {"x": np.arange(10), "y": np.arange(10, dtype=np.float32) / 2}


def numbers() -> "tfjax.Pipeline":
    return tfjax.from_arrays(ROWS)


def values(pipe: Any, **how: Any) -> list[Any]:
    with pipe.iterate(**how) as batches:
        return [jax.tree.map(lambda a: np.asarray(a).tolist(), b) for b in batches]


class TestValue:
    """Every method makes a new pipeline and leaves the old one as it was."""

    def test_methods_change_nothing(self) -> None:
        pipe = numbers().shuffle(seed=1)
        batched = pipe.batch(4)
        before = (repr(batched), batched.spec, len(batched), batched.explain(), values(batched))
        batched.take(1), batched.skip(1), batched.options(parallel_calls=1), batched.seed(3)
        batched.device_map(lambda b: {"z": b["x"]}), batched.place(jax.devices()[1])
        pipe.take(3).batch(2), pipe.map(lambda e: {"z": e["x"]}), pipe.keep_on_host("x")
        assert (repr(batched), batched.spec, len(batched), batched.explain(), values(batched)) == before

    def test_a_function_that_changes_its_argument_changes_no_other_pipeline(self) -> None:
        def rename(e: dict[str, Any]) -> dict[str, Any]:
            e["z"] = e.pop("x")
            return e

        pipe = numbers()
        assert set(pipe.map(rename).spec) == {"y", "z"}
        assert set(pipe.spec) == {"x", "y"}

    def test_branches_do_not_know_of_each_other(self) -> None:
        stem = numbers().map(lambda e: {**e, "z": e["x"] + 1})
        one, two = stem.take(2).batch(2), stem.skip(8).batch(2)
        assert (one.peek()["z"].tolist(), two.peek()["z"].tolist()) == ([1, 2], [9, 10])

    def test_the_arrays_are_copied_once(self) -> None:
        rows = np.arange(4)
        pipe = tfjax.from_arrays(rows).batch(4)
        rows[:] = -1
        assert pipe.peek().tolist() == [0, 1, 2, 3]

    def test_repr_is_the_chain(self) -> None:
        pipe = numbers().seed(4).shuffle(2).take(5).select("x").batch(2)
        assert repr(pipe) == (
            "Pipeline(from_arrays(10 rows) -> seed(n=4) -> shuffle(seed=2) -> take(n=5) -> select('x')"
            " -> batch(size=2, remainder='drop'))"
        )

    def test_it_is_true_even_when_it_is_empty(self) -> None:
        empty = numbers().skip(10)
        assert bool(empty) and bool(numbers()) and len(empty) == 0


class TestAsked:
    """peek, pipe[i], len, info and spec."""

    def test_peek(self) -> None:
        assert int(numbers().peek()["x"]) == 0
        assert numbers().batch(3).peek()["x"].tolist() == [0, 1, 2]
        shuffled = numbers().shuffle(5).batch(4)
        assert shuffled.peek()["x"].tolist() == values(shuffled)[0]["x"]

    def test_peek_sees_placement_and_device_functions(self) -> None:
        pipe = numbers().batch(2).device_map(lambda b: {"z": b["x"] + 1}).place(jax.devices()[3])
        assert pipe.peek()["z"].tolist() == [1, 2]
        assert pipe.peek()["z"].devices() == {jax.devices()[3]}

    @pytest.mark.parametrize("pipe", [numbers().skip(10), numbers().skip(10).batch(2)], ids=["examples", "batches"])
    def test_peek_of_nothing(self, pipe: "tfjax.Pipeline") -> None:
        with pytest.raises(IndexError, match=r"from_arrays.*yields nothing"):
            pipe.peek()

    def test_an_example_by_index(self) -> None:
        pipe = numbers().shuffle(3).map(lambda e: {"z": e["x"] * 10})
        all_of_them = [e["z"] for e in values(pipe)]
        for i in (0, 7, 9, -1, -10):
            assert int(pipe[i]["z"]) == all_of_them[i]
        assert int(pipe[np.int64(2)]["z"]) == all_of_them[2]

    @pytest.mark.parametrize("i", [10, -11, 10**30])
    def test_an_index_that_is_not_there(self, i: int) -> None:
        with pytest.raises(IndexError, match=rf"pipe\[{i}\].*10 examples"):
            numbers()[i]

    @pytest.mark.parametrize("i", [1.0, "x", slice(1, 2), None, True], ids=str)
    def test_an_index_of_another_kind(self, i: object) -> None:
        with pytest.raises(TypeError, match="is an int"):
            numbers()[i]

    def test_a_batch_has_no_index(self) -> None:
        for pipe in (numbers().batch(2), tfjax.from_tf(tf.data.Dataset.range(3))):
            with pytest.raises(TypeError, match="peek"):
                pipe[0]

    @pytest.mark.parametrize(
        ("build", "length"),
        [
            (lambda p: p, 10),
            (lambda p: p.batch(4), 3),
            (lambda p: p.batch(4, remainder="drop"), 2),
            (lambda p: p.batch(4, remainder="pad"), 3),
            (lambda p: p.shuffle(0).batch(4), 2),
            (lambda p: p.batch(4).take(2).skip(1), 1),
            (lambda p: p.take(99).batch(10), 1),
            (lambda p: p.filter(lambda e: e["x"] < 4).batch(3), 2),
        ],
    )
    def test_length(self, build: Any, length: int) -> None:
        pipe = build(numbers())
        assert len(pipe) == length == len(values(pipe))

    def test_an_iterator_over_two_epochs_yields_twice_as_many(self) -> None:
        assert len(values(numbers().batch(4), epochs=2)) == 6

    def test_info_is_the_sources_own(self) -> None:
        assert numbers().batch(2).info is None

    def test_spec_is_what_is_delivered(self) -> None:
        for pipe in (numbers(), numbers().batch(5), numbers().batch(5, remainder="pad")):
            described = jax.tree.map(lambda s: (s.shape, s.dtype), pipe.spec)
            assert described == jax.tree.map(lambda a: (a.shape, a.dtype), pipe.peek())

    def test_spec_of_a_kept_tail_is_open(self) -> None:
        assert numbers().batch(4).spec["x"].shape == (None,)
        assert numbers().batch(5).spec["x"].shape == (5,)
        assert numbers().batch(4).take(2).spec["x"].shape == (4,)
        assert numbers().shuffle(0).batch(4).spec["x"].shape == (4,)

    def test_a_size_may_be_a_numpy_integer(self) -> None:
        pipe = numbers().shuffle(np.uint32(1)).take(np.int32(6)).skip(np.int64(2)).seed(np.int16(3)).batch(np.int64(2))
        plain = numbers().shuffle(1).take(6).skip(2).seed(3).batch(2)
        assert values(pipe, epochs=np.int64(2)) == values(plain, epochs=2)
        assert repr(pipe) == repr(plain)
        assert pipe.iterate(start_epoch=np.int64(1)).state == plain.iterate(start_epoch=1).state
        assert len(numbers().split({"a": np.float32(0.5)}, np.int64(0))["a"]) == 5

    @pytest.mark.parametrize("size", [2.0, "2", None, True, np.bool_(True), np.float64(2), [2]], ids=repr)
    def test_a_size_of_another_kind(self, size: object) -> None:
        for build in (numbers().batch, numbers().take, numbers().skip, numbers().shuffle, numbers().seed):
            with pytest.raises(TypeError, match="int"):
                build(size)

    def test_a_size_that_fits_no_int64(self) -> None:
        for build in (numbers().take, numbers().skip, numbers().batch, numbers().shuffle, numbers().seed):
            with pytest.raises(ValueError, match=str(2**80)):
                build(2**80)
        assert len(numbers().take(2**62)) == 10
        assert len(numbers().skip(2**62)) == 0
        assert values(numbers().batch(2**62)) == [{k: v.tolist() for k, v in ROWS.items()}]
        for wrong in ({"steps": 2**64}, {"epochs": 2**64}, {"start_epoch": 2**64}):
            with pytest.raises(ValueError, match=rf"{next(iter(wrong))}.*{2**64}"):
                next(numbers().shuffle(0).batch(2).iterate(**wrong))


class TestExplain:
    """The plan in words."""

    def test_what_an_array_pipeline_is(self) -> None:
        text = numbers().shuffle(0).batch(4).explain()
        assert text.startswith("indexed: from_arrays(10 rows) fetches any row")
        for words in (
            "one gather a leaf, from memory",
            "2 batches an epoch from 10 examples, 2 left out",
            "AUTOTUNE parallel calls",
            "['x']: int64[], narrowed to int32 and checked",
            "['y']: float32[]",
        ):
            assert words in text
        assert "the last batch has 2" in numbers().batch(4).explain()

    def test_functions_and_caches(self) -> None:
        pipe = numbers().map(lambda e: {"z": e["x"] + 1}).cache("memory").batch(5)
        assert "in one loop inside the batch: map(" in pipe.explain()
        assert "0 of 10 rows kept" in pipe.explain()
        values(pipe)
        assert "10 of 10 rows kept" in pipe.explain()
        assert "rows kept" not in pipe.options(caches=False).explain()
        assert "only choose leaves, so there is no loop" in numbers().select("x").batch(2).explain()

    def test_what_makes_a_stream(self) -> None:
        text = tfjax.from_tf(tf.data.Dataset.range(4).batch(2)).explain()
        assert text.startswith("streaming: from_tf(") and "replay" in text

    def test_python_and_host_leaves(self) -> None:
        def double(e: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return {"x": tf.ensure_shape(tf.numpy_function(lambda a: a * 2, [e["x"]], tf.int64), ())}

        text = numbers().map(double).keep_on_host("x").batch(2).explain()
        assert "Python in the graph: map(" in text and "double" in text
        assert "['x']: int64[], kept on the host" in text

    def test_options_are_shown(self) -> None:
        text = numbers().options(parallel_calls=3, prefetch_batches=4, ram_budget_bytes=2**20).batch(2).explain()
        assert "3 parallel calls, prefetch 4, ram budget 1.0 MiB" in text


class TestDeviceMap:
    """Jitted functions of a placed batch."""

    def test_the_order_of_functions(self) -> None:
        pipe = numbers().batch(5).device_map(lambda b: b["x"] + 1).device_map(lambda x: x * 2)
        assert pipe.peek().tolist() == [2, 4, 6, 8, 10]
        assert (pipe.spec.shape, pipe.spec.dtype) == ((5,), np.int32)

    def test_it_runs_where_the_batch_is(self) -> None:
        mesh = jax.make_mesh((2,), ("d",), devices=jax.devices()[:2])
        pipe = numbers().batch(2).place(mesh, "d").device_map(lambda b: {"z": b["x"] * 2})
        assert pipe.peek()["z"].sharding.is_equivalent_to(jax.NamedSharding(mesh, jax.P("d")), 1)
        early = numbers().batch(2).device_map(lambda b: {"z": b["x"] * 2}).place(mesh, "d")
        assert values(pipe) == values(early)

    def test_keys_on_the_host_pass_by(self) -> None:
        shown = []

        def fn(batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
            shown.append(sorted(batch))
            return {"z": batch["x"] + 1}

        rows = {"s": np.array(list("abcd")), "x": np.arange(4), "n": np.arange(4)}
        batch = tfjax.from_arrays(rows).keep_on_host("s", "n").batch(2).device_map(fn).peek()
        assert shown and all(keys == ["x"] for keys in shown)
        assert batch["s"].tolist() == [b"a", b"b"]
        assert isinstance(batch["n"], np.ndarray) and batch["n"].dtype == np.int64
        assert batch["z"].tolist() == [1, 2]

    def test_beside_host_keys_a_dict_is_returned(self) -> None:
        pipe = numbers().keep_on_host("x").batch(2).device_map(lambda b: b["y"])
        with pytest.raises(TypeError, match="keys kept on the host, return a dict"):
            pipe.peek()

    def test_the_mask_is_seen(self) -> None:
        pipe = numbers().batch(4, remainder="pad").device_map(lambda b: {"n": b["mask"].sum()})
        assert [b["n"] for b in values(pipe)] == [4, 4, 2]
        assert pipe.spec["n"].shape == ()

    def test_a_new_shape_compiles_again(self) -> None:
        assert values(numbers().batch(4).device_map(lambda b: b["x"].sum())) == [6, 22, 17]

    def test_what_is_no_function(self) -> None:
        with pytest.raises(TypeError, match="device_map takes a function"):
            numbers().batch(2).device_map("normalize")


class TestHost:
    """keep_on_host, and strings without it."""

    def test_types_and_dtypes(self) -> None:
        rows = {"s": np.array(["a", "bc"]), "n": np.array([1, 2**40]), "x": np.zeros((2, 3))}
        batch = tfjax.from_arrays(rows).keep_on_host("s", "n").batch(2).peek()
        assert batch["s"].tolist() == [b"a", b"bc"]
        assert batch["n"].tolist() == [1, 2**40], "not narrowed"
        assert isinstance(batch["x"], jax.Array)

    def test_nested_leaves_under_a_key(self) -> None:
        rows = {"meta": {"id": np.arange(2), "name": np.array(["a", "b"])}, "x": np.arange(2)}
        batch = tfjax.from_arrays(rows).keep_on_host("meta").batch(2).peek()
        assert all(isinstance(leaf, np.ndarray) for leaf in batch["meta"].values())

    def test_on_a_mesh(self) -> None:
        rows = {"s": np.array(list("abcdefgh")), "x": np.arange(8)}
        pipe = tfjax.from_arrays(rows).keep_on_host("s").batch(8).place(jax.make_mesh((8,), ("d",)), "d")
        assert isinstance(pipe.peek()["s"], np.ndarray) and len(pipe.peek()["x"].devices()) == 8

    @pytest.mark.parametrize(
        ("rows", "fix"),
        [
            ({"s": np.array(["a"])}, r"\['s'\] is a string.*drop\('s'\).*keep_on_host\('s'\)"),
            ((np.array(["a"]), np.arange(1)), r"\[0\] is a string.*encode it in map"),
        ],
    )
    def test_strings_are_refused_with_the_fix(self, rows: Any, fix: str) -> None:
        with pytest.raises(SpecError, match=fix):
            tfjax.from_arrays(rows).batch(1).iterate()

    def test_strings_inside_the_graph(self) -> None:
        pipe = tfjax.from_arrays({"s": np.array(["3", "4"])}).map(lambda e: {"n": tf.strings.to_number(e["s"])})
        assert pipe.batch(2).peek()["n"].tolist() == [3, 4]


class TestOptions:
    """How the graph is run never changes a batch."""

    @pytest.mark.parametrize(
        "given",
        [
            {"parallel_calls": 1},
            {"parallel_calls": 7},
            {"prefetch_batches": 1},
            {"ram_budget_bytes": 1 << 20},
            {"caches": False},
            {"caches": True},
            {},
        ],
        ids=str,
    )
    def test_batches_stay_the_same(self, given: dict[str, Any]) -> None:
        def noisy(e: dict[str, tf.Tensor], seed: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"x": e["x"], "r": tf.random.stateless_uniform((), seed)}

        pipe = numbers().map(lambda e: e).cache("memory").shuffle(3).random_map(noisy).batch(4, remainder="keep")
        assert values(pipe.options(**given), epochs=2) == values(pipe, epochs=2)

    def test_tf_options_are_taken(self) -> None:
        given = tf.data.Options()
        given.threading.private_threadpool_size = 1
        given.experimental_optimization.map_fusion = True
        pipe = numbers().shuffle(0).batch(4)
        assert values(pipe.options(tf_options=given)) == values(pipe)
        options = pipe.options(tf_options=given).to_tf().options()
        assert options.threading.private_threadpool_size == 1
        assert options.deterministic is True

    @pytest.mark.parametrize("name", ["deterministic", "experimental_deterministic"])
    def test_options_that_contradict_the_order(self, name: str) -> None:
        given = tf.data.Options()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            setattr(given, name, False)
        with pytest.raises(ValueError, match="deterministic=False contradicts the order"):
            numbers().options(tf_options=given)

    def test_slack_is_refused(self) -> None:
        given = tf.data.Options()
        given.experimental_slack = True
        with pytest.raises(ValueError, match="experimental_slack"):
            numbers().options(tf_options=given)

    @pytest.mark.parametrize(
        ("given", "kind", "words"),
        [
            ({"parallel_calls": 0}, ValueError, "parallel_calls.*1.*0"),
            ({"prefetch_batches": 1.5}, TypeError, r"prefetch_batches.*1\.5"),
            ({"tf_options": {}}, TypeError, "dict: pass a tf.data.Options"),
            ({"caches": "no"}, TypeError, "caches.*'no'"),
            ({"fetch": "mmap"}, TypeError, "fetch"),
            ({"verify_payload": True}, TypeError, "verify_payload"),
        ],
    )
    def test_wrong_values(self, given: dict[str, Any], kind: type[Exception], words: str) -> None:
        with pytest.raises(kind, match=words):
            numbers().options(**given)


class TestToTf:
    """The planned graph as a Dataset."""

    def test_it_holds_what_iterating_yields(self) -> None:
        pipe = numbers().shuffle(1).map(lambda e: {**e, "z": (e["x"], e["y"])}).batch(4, remainder="pad")
        as_lists = [jax.tree.map(lambda a: a.tolist(), e) for e in pipe.to_tf(epochs=2).as_numpy_iterator()]
        assert as_lists == values(pipe, epochs=2)
        assert int(pipe.to_tf(epochs=2).cardinality()) == 6

    def test_dtypes_are_the_users_own(self) -> None:
        assert numbers().batch(5).to_tf().element_spec["x"].dtype == tf.int64

    def test_strings_may_stay(self) -> None:
        rows = {"s": np.array(["a", "b"])}
        (batch,) = tfjax.from_arrays(rows).batch(2).to_tf().as_numpy_iterator()
        assert batch["s"].tolist() == [b"a", b"b"]

    def test_it_outlives_the_pipeline(self) -> None:
        pipe = numbers().map(lambda e: {"z": e["x"] + 1}).cache("memory").shuffle(0).batch(5)
        expected = values(pipe, epochs=2)
        dataset = pipe.to_tf(epochs=2)
        del pipe
        gc.collect()
        for _ in range(2):
            got = [{"z": e["z"].tolist()} for e in dataset.as_numpy_iterator()]
            assert got == expected

    def test_it_outlives_the_pipeline_under_further_stages(self) -> None:
        dataset = numbers().map(lambda e: {"z": e["x"] + 1}).cache("memory").batch(5).to_tf().map(lambda e: e["z"])
        gc.collect()
        assert [e.tolist() for e in dataset.as_numpy_iterator()] == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]

    def test_epochs_are_checked(self) -> None:
        with pytest.raises(ValueError, match=r"epochs.*0"):
            numbers().to_tf(epochs=0)


class TestIterating:
    """Arguments of `iterate`, and what a plain `iter` warns of."""

    def test_a_second_plain_iter_of_a_shuffled_pipeline_warns_once(self) -> None:
        pipe = numbers().shuffle(0).batch(5)
        first = [b["x"].tolist() for b in pipe]
        with pytest.warns(UserWarning, match=r"epoch 0 again.*iterate\(epochs=10\)"):
            assert [b["x"].tolist() for b in pipe] == first
        list(pipe)  # an error under the suite's settings if it warned again

    def test_what_does_not_warn(self) -> None:
        for pipe in (numbers().batch(5), numbers().shuffle(0).batch(5)):
            for _ in range(3):
                values(pipe)
        for _ in range(2):
            list(numbers().batch(5))
            list(numbers().shuffle(0).batch(5))

    @pytest.mark.parametrize(
        ("given", "kind", "words"),
        [
            ({"epochs": 0}, ValueError, "epochs.*0"),
            ({"epochs": 1.5}, TypeError, r"epochs.*1\.5"),
            ({"epochs": "1"}, TypeError, "epochs.*'1'"),
            ({"steps": -1}, ValueError, "steps.*-1"),
            ({"steps": True}, TypeError, "steps.*True"),
            ({"forever": 1}, TypeError, "forever.*1"),
            ({"epochs": 1, "steps": 2}, ValueError, "one of epochs, steps and forever"),
            ({"epochs": 1, "forever": True}, ValueError, "one of epochs, steps and forever"),
            ({"start_epoch": -1}, ValueError, "start_epoch.*-1"),
            ({"start_epoch": 0.5}, TypeError, r"start_epoch.*0\.5"),
            ({"values": {"magnitude": 7}}, ValueError, "'magnitude'.*leave values out"),
            ({"values": 3}, TypeError, "values"),
            ({"state": 3}, TypeError, "State"),
        ],
        ids=str,
    )
    def test_wrong_values(self, given: dict[str, Any], kind: type[Exception], words: str) -> None:
        with pytest.raises(kind, match=words):
            numbers().batch(2).iterate(**given)

    def test_nothing_to_iterate_over(self) -> None:
        for pipe in (numbers().skip(10).batch(2), numbers().filter(lambda e: e["x"] > 99), numbers().batch(2).skip(9)):
            with pytest.raises(ValueError, match="nothing to iterate over"):
                pipe.iterate()

    def test_a_source_without_rows(self) -> None:
        empty = tfjax.from_arrays({"x": np.zeros((0, 3))})
        assert len(empty.shuffle(0).batch(2)) == 0
        assert {k: len(v) for k, v in empty.split({"a": 0.5, "b": 0.5}, 0).items()} == {"a": 0, "b": 0}
        with pytest.raises(ValueError, match="nothing to iterate over"):
            empty.batch(2).iterate()

    def test_64_bits_where_jax_is_asked_for_them(self) -> None:
        with jax.enable_x64(True):
            pipe = tfjax.from_arrays({"x": np.array([2**40, 1])}).batch(2)
            assert pipe.spec["x"].dtype == np.int64
            for build in (pipe, pipe.place(jax.devices()[2]), pipe.device_map(lambda b: {"x": b["x"] + 0})):
                batch = next(iter(build))
                assert (batch["x"].dtype, batch["x"].tolist()) == (jnp.int64, [2**40, 1])


@pytest.mark.parametrize("placed", [False, True], ids=["default device", "placed"])
def test_batches_are_committed_to_a_device_only_where_one_was_named(placed: bool) -> None:
    pipe = tfjax.from_arrays({"x": np.ones((8, 4), np.float32)}).batch(4)
    pipe = pipe.place(jax.devices()[0]) if placed else pipe
    assert pipe.peek()["x"].committed is placed
    step = jax.jit(lambda total, batch: total + batch["x"].sum())
    total = jnp.zeros(())
    for batch in pipe.iterate(epochs=2):
        total = step(total, batch)
    assert step._cache_size() == (2 if placed else 1), "an uncommitted total becomes committed by its first step"
