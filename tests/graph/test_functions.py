"""A user's function inside the graph: what it may do, what is refused with the fix, and whom an error names."""

import functools
import re
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf

import tfjax
from tests import python_process
from tfjax.errors import SpecError, TfjaxError

Example = dict[str, tf.Tensor]


def numbers(n: int = 10) -> "tfjax.Pipeline":
    return tfjax.from_arrays({"x": np.arange(n), "y": np.arange(n, dtype=np.float32)})


def column(pipe: "tfjax.Pipeline", key: str = "x") -> list[Any]:
    return np.asarray(pipe.batch(len(pipe)).peek()[key]).tolist()


def collatz(e: Example) -> Example:
    n, steps = e["x"], tf.constant(0)
    while n > 1:
        if n % 2 == 0:
            n = n // 2
        else:
            n = 3 * n + 1
        steps += 1
    return {"x": steps}


def triangle(e: Example) -> Example:
    total = tf.constant(0, tf.int64)
    for i in tf.range(e["x"] + 1):
        if i == 7:
            continue
        total += i
    return {"x": total}


def rename(e: Example) -> Example:
    e["z"] = e.pop("x") + 1
    e["y"] *= 2
    return e


class Doubler:
    """A callable object with a method."""

    def __call__(self, e: Example) -> Example:
        return self.double(e)

    def double(self, e: Example) -> Example:
        if e["x"] > 3:
            return {"x": e["x"] * 2}
        return {"x": e["x"]}


class TestWhatWorks:
    """Anything that Dataset.map takes."""

    def test_control_flow(self) -> None:
        assert column(numbers().map(collatz)) == [0, 0, 1, 7, 2, 5, 8, 16, 3, 19]
        assert column(numbers().map(triangle)) == [0, 1, 3, 6, 10, 15, 21, 21, 29, 38]

    def test_callables_of_every_kind(self) -> None:
        expected = [0, 1, 2, 3, 8, 10, 12, 14, 16, 18]
        assert column(numbers().map(Doubler())) == expected
        assert column(numbers().map(Doubler().double)) == expected
        assert column(numbers().map(tf.function(Doubler().double))) == expected
        add = functools.partial(lambda e, by: {"x": e["x"] + by}, by=5)
        assert column(numbers(3).map(add)) == [5, 6, 7]

    def test_a_function_may_change_its_dict(self) -> None:
        pipe = numbers(4).map(rename)
        assert (column(pipe, "z"), column(pipe, "y")) == ([1, 2, 3, 4], [0, 2, 4, 6])
        assert set(pipe.spec) == {"y", "z"}

    @pytest.mark.parametrize(
        "fn",
        [
            lambda e: {"l": [e["x"], e["x"] + 1]},
            lambda e: {"l": [[e["x"], e["x"]], [1, 2]]},
            lambda e: {"l": (e["x"], [e["x"]])},
            lambda e: [e["x"], e["x"]],
            lambda e: (e["x"], 1, 2.5, "s"),
            lambda _: {"l": np.ones((2, 3))},
            lambda e: e["y"],
            lambda e: {"a": {"b": (e["x"],)}},
        ],
        ids=["list", "nested list", "list in a tuple", "bare list", "numbers", "numpy", "bare", "nested"],
    )
    def test_the_elements_are_those_of_dataset_map(self, fn: Any) -> None:
        pipe = numbers(4).map(fn).batch(2)
        rows = tf.data.Dataset.from_tensor_slices({"x": np.arange(4), "y": np.arange(4, dtype=np.float32)})
        theirs = rows.map(fn).batch(2, drop_remainder=True)
        if "string" in str(theirs.element_spec):
            pipe, theirs = numbers(4).map(lambda e: fn(e)[:3]).batch(2), theirs.map(lambda *e: e[:3])
        assert pipe.to_tf().element_spec == theirs.element_spec
        for ours, wanted in zip(pipe.to_tf().as_numpy_iterator(), theirs.as_numpy_iterator(), strict=True):
            jax.tree.map(np.testing.assert_array_equal, ours, wanted)

    def test_ragged_between_functions(self) -> None:
        pipe = numbers(4).map(lambda e: {"r": tf.ragged.range([e["x"], 2])})
        dense = pipe.map(lambda e: {"x": e["r"].to_tensor(shape=[2, 3])})
        assert column(dense)[3] == [[0, 1, 2], [0, 1, 0]]

    def test_sparse_between_functions(self) -> None:
        pipe = tfjax.from_arrays(np.eye(3)).map(tf.sparse.from_dense)
        dense = pipe.map(lambda s: {"x": tf.ensure_shape(tf.sparse.to_dense(s), (3,))})
        assert column(dense) == np.eye(3).tolist()

    def test_tables_and_variables_that_are_read(self) -> None:
        keys = tf.lookup.KeyValueTensorInitializer(tf.constant([0, 1], tf.int64), tf.constant([10, 20], tf.int64))
        table, bias = tf.lookup.StaticHashTable(keys, -1), tf.Variable(5, dtype=tf.int64)
        pipe = numbers(3).map(lambda e: {"x": table.lookup(e["x"]) + bias})
        assert column(pipe) == [15, 25, 4]

    @pytest.mark.parametrize("hands_on", [True, False], ids=["hands on", "computes"])
    def test_assert_and_print_do_what_they_say(self, hands_on: bool, capfd: pytest.CaptureFixture[str]) -> None:
        def checked(e: Example) -> Example:
            tf.debugging.assert_less(e["x"], tf.constant(5, tf.int64))
            tf.print("seen", e["x"])
            return e if hands_on else {"x": e["x"] * 1}

        assert column(numbers(2).map(checked)) == [0, 1]
        assert "seen 1" in capfd.readouterr().err
        with pytest.raises(TfjaxError, match=r"checked\) failed on example 5"):
            column(numbers(6).map(checked))
        with pytest.raises(TfjaxError, match=r"checked\) failed on example 5"):
            column(numbers(6).map(checked).select("x"))

    def test_python_in_the_graph(self) -> None:
        def double(e: Example) -> Example:
            return {"x": tf.ensure_shape(tf.py_function(lambda a: a * 2, [e["x"]], tf.int64), ())}

        pipe = numbers(3).map(double)
        assert column(pipe) == [0, 2, 4]
        assert "Python in the graph: map(" in pipe.explain()
        assert "Python in the graph" not in numbers().map(collatz).explain()

    def test_stateless_random_ops_in_map(self) -> None:
        pipe = numbers(3).map(lambda _: {"x": tf.random.stateless_uniform((), [1, 2])})
        assert len(set(column(pipe))) == 1

    def test_a_function_is_traced_once(self) -> None:
        traces = []

        def fn(e: Example) -> Example:
            traces.append(1)
            return {"x": e["x"] + 1}

        pipe = numbers().map(fn).batch(2)
        for build in (pipe, pipe.take(2), pipe.place(jax.devices()[1])):
            with build.iterate(epochs=2) as batches:
                list(batches)
        assert len(traces) == 1


def drawn(e: Example) -> Example:
    return {"x": e["x"] + tf.random.uniform((), 0, 3, tf.int64)}


def drawn_in_a_branch(e: Example) -> Example:
    if e["x"] > 3:
        return {"x": tf.cast(tf.random.normal(()), tf.int64)}
    return {"x": e["x"]}


def drawn_in_a_loop(_: Example) -> Example:
    total = tf.constant(0.0)
    for _ in tf.range(3):
        total += tf.random.uniform(())
    return {"x": total}


@tf.function
def drawn_inside(e: Example) -> Example:
    return drawn(e)


STATEFUL = {
    "uniform": drawn,
    "in a branch": drawn_in_a_branch,
    "in a loop": drawn_in_a_loop,
    "in a tf.function": drawn_inside,
    "shuffle": lambda e: {"x": tf.random.shuffle(tf.range(e["x"]))},
    "gamma": lambda _: {"x": tf.random.gamma((), 1.0)},
    "categorical": lambda _: {"x": tf.random.categorical([[0.5, 0.5]], 1)},
    "image": lambda _: {"x": tf.image.random_brightness(tf.zeros((2, 2, 3)), 0.5)},
    "seeded": lambda _: {"x": tf.random.uniform((), seed=3)},
}


class TestWhatIsRefused:
    """Each with its name and the fix."""

    @pytest.mark.parametrize("name", STATEFUL)
    @pytest.mark.parametrize("method", ["map", "random_map", "filter"])
    def test_stateful_random_ops(self, name: str, method: str) -> None:
        fn = STATEFUL[name]
        given = {"map": fn, "random_map": lambda e, _: fn(e), "filter": lambda e: fn(e)["x"] is not None}[method]
        with pytest.raises(ValueError, match=rf"^{method}\(.*stateful random op \w+.*random_map\(fn\).*stateless"):
            getattr(numbers(), method)(given)

    def test_a_generator_of_random_numbers(self) -> None:
        generator = tf.random.Generator.from_seed(1)
        with pytest.raises(ValueError, match=r"stateful random op|writes a variable"):
            numbers().map(lambda _: {"x": generator.uniform(())})

    def test_keras_random_layers(self) -> None:
        pytest.importorskip("keras")
        done = python_process.run("""
            import os
            os.environ["KERAS_BACKEND"] = "tensorflow"  # whose layers hold their seed in a variable
            import keras, numpy as np, tensorflow as tf, tfjax
            layer = keras.layers.RandomFlip()
            pipe = tfjax.from_arrays({"x": np.zeros((2, 4, 4, 3), np.float32)})
            pipe.map(lambda e: {"x": layer(e["x"], training=True)})
        """)
        assert done.returncode == 1
        assert "which writes a variable or table" in done.stderr or "stateful random op" in done.stderr, done.stderr

    def test_writes_to_variables_and_tables(self) -> None:
        counter, table = tf.Variable(0), tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, -1)
        sink = tf.Variable(tf.zeros(3))

        def count(e: Example) -> Example:
            counter.assign_add(1)
            return e

        def insert(e: Example) -> Example:
            table.insert(e["x"], e["x"])
            return e

        def scatter(e: Example) -> Example:
            sink.scatter_nd_update([[0]], [1.0])
            return e

        for fn in (count, insert, scatter):
            with pytest.raises(ValueError, match=rf"map\(.*{fn.__name__}\) holds \w+.*writes a variable or table"):
                numbers().map(fn)

    @pytest.mark.parametrize(
        "fn",
        [
            lambda e: {"x": jnp.sin(e["y"])},
            lambda e: {"x": jax.nn.relu(e["y"])},
            lambda e: {"x": jax.image.resize(e["y"], (2,), "linear")},
            jax.jit(lambda e: e),
            lambda e: {"x": jax.random.uniform(jax.random.key(e["x"]))},
        ],
        ids=["jnp", "nn", "image", "jit", "random"],
    )
    def test_jax_is_pointed_to_device_map(self, fn: Any) -> None:
        with pytest.raises(TypeError, match=r"map\(.*\) calls JAX on a symbolic tensor.*device_map"):
            numbers().map(fn)

    def test_a_key_that_is_not_there(self) -> None:
        with pytest.raises(KeyError) as caught:
            numbers().map(lambda e: e["z"])
        assert re.search(r"map\(.*\): no key 'z'; the keys are 'x', 'y'", caught.value.args[0])

    @pytest.mark.parametrize("leaf", [object(), {1, 2}, lambda: 1, b"a" == 1 or ...], ids=lambda v: type(v).__name__)
    def test_what_is_no_tensor(self, leaf: object) -> None:
        with pytest.raises(TypeError, match=rf"map\(.*\) returns {type(leaf).__name__} at \['k'\]"):
            numbers().map(lambda _: {"k": leaf})

    @pytest.mark.parametrize("fn", [lambda _: None, lambda _: {}, lambda _: ()], ids=["None", "dict", "tuple"])
    def test_elements_without_a_leaf(self, fn: Any) -> None:
        with pytest.raises((TypeError, ValueError), match=r"map\(.*no (leaf|tensor)"):
            numbers().map(fn).batch(2).iterate()

    @pytest.mark.parametrize(
        "fn",
        [
            lambda e: e["x"],
            lambda e: tf.stack([e["y"] > 0] * 2),
            lambda _: (True, False),
            lambda _: {"k": "yes"},
        ],
        ids=["number", "vector", "two", "string"],
    )
    def test_a_predicate_that_is_no_boolean_scalar(self, fn: Any) -> None:
        with pytest.raises(TypeError, match=r"filter\(.*a predicate returns one boolean scalar"):
            numbers().filter(fn)

    @pytest.mark.parametrize("given", [None, 3, "fn", [len]], ids=repr)
    def test_what_is_no_function(self, given: object) -> None:
        for method in ("map", "random_map", "filter", "device_map"):
            with pytest.raises(TypeError, match=f"{method} takes a function"):
                getattr(numbers(), method)(given)

    def test_an_error_of_the_function_is_its_own(self) -> None:
        class Mine(Exception):
            pass

        def fails(_: Example) -> Example:
            raise Mine("while tracing")

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(Exception, match="while tracing"):
                numbers().map(fails)

    @pytest.mark.parametrize(
        ("make", "kind"),
        [
            (lambda e: {"r": tf.ragged.range([e["x"], 2])}, r"[Rr]agged.*\.to_tensor\("),
            (lambda _: {"r": tf.sparse.eye(3)}, r"[Ss]parse.*to_dense"),
            (lambda e: {"r": tf.range(e["x"])}, r"\(None,\).*static shape"),
            (lambda _: {"r": tf.py_function(lambda: 1, [], tf.int64)}, "unknown rank|rank is not known"),
        ],
        ids=["ragged", "sparse", "varying", "unknown"],
    )
    def test_what_cannot_be_batched(self, make: Any, kind: str) -> None:
        with pytest.raises(SpecError, match=rf"\['r'\].*{kind}"):
            numbers().map(make).batch(2)

    @pytest.mark.parametrize(
        ("make", "kind"),
        [
            (lambda e: {"r": tf.ragged.range([e["x"], 2])}, r"[Rr]agged.*\.to_tensor\("),
            (lambda _: {"r": tf.sparse.eye(3)}, r"[Ss]parse.*to_dense"),
        ],
        ids=["ragged", "sparse"],
    )
    def test_what_cannot_be_delivered_without_a_batch(self, make: Any, kind: str) -> None:
        with pytest.raises(SpecError, match=rf"\['r'\].*{kind}"):
            numbers().map(make).iterate()

    @pytest.mark.parametrize("dtype", ["qint8", "float8_e4m3fn", "int4"])
    def test_dtypes_that_do_not_reach_jax(self, dtype: str) -> None:
        names = {"float8_e4m3fn": tf.dtypes.experimental.float8_e4m3fn, "int4": tf.dtypes.experimental.int4}
        pipe = numbers().map(lambda e: {"q": tf.cast(e["y"], names.get(dtype, dtype))})
        with pytest.raises(SpecError, match=rf"\['q'\].*{dtype}"):
            pipe.iterate()


def checked_to(limit: int) -> Any:
    def check(e: Example) -> Example:
        with tf.control_dependencies([tf.debugging.assert_less(e["x"], tf.constant(limit, tf.int64), "too large")]):
            return {"x": e["x"] * 1}

    return check


class TestErrorsAtRunTime:
    """The failing batch is computed again, one example and one stage at a time."""

    def test_stage_and_example_are_named(self) -> None:
        pipe = numbers().map(lambda e: {"x": e["x"] + 0}).map(checked_to(6)).map(lambda e: {"x": e["x"] + 1}).batch(4)
        with pipe.iterate() as batches:
            assert next(batches)["x"].tolist() == [1, 2, 3, 4]
            with pytest.raises(TfjaxError, match=r"map\(.*check\) failed on example 6: (?s:.*)too large"):
                next(batches)

    def test_the_index_is_that_of_the_source(self) -> None:
        pipe = numbers().skip(2).shuffle(0).map(checked_to(9)).batch(4)
        with pytest.raises(TfjaxError, match="example 9"), pipe.iterate(epochs=1) as batches:
            list(batches)

    def test_in_the_second_epoch(self) -> None:
        def unlucky(e: Example, seed: tf.Tensor) -> Example:
            with tf.control_dependencies([tf.debugging.assert_equal(seed[1], e["x"])]):
                r = tf.random.stateless_uniform((), seed)
            with tf.control_dependencies([tf.debugging.assert_less(r, 0.97)]):
                return {"x": e["x"] + 0}

        with pytest.raises(TfjaxError, match=r"random_map\(.*unlucky\) failed on example \d+"):
            with numbers(50).shuffle(1).random_map(unlucky).batch(5).iterate(epochs=20) as batches:
                list(batches)

    def test_in_a_cached_prefix(self) -> None:
        pipe = numbers().map(checked_to(6)).cache("memory").batch(4)
        for _ in range(2):
            with pipe.iterate() as batches:
                next(batches)
                with pytest.raises(TfjaxError, match=r"check\) failed on example 6"):
                    next(batches)

    def test_in_a_predicate(self) -> None:
        def odd(e: Example) -> tf.Tensor:
            return checked_to(6)(e)["x"] % 2 == 1

        with pytest.raises(TfjaxError, match=r"filter\(.*odd\) failed on example 6"):
            len(numbers().filter(odd))

    def test_by_peek_and_index(self) -> None:
        pipe = numbers().map(checked_to(0))
        for ask in (pipe.peek, lambda: pipe[3]):
            with pytest.raises(TfjaxError, match=r"check\) failed on example [03]"):
                ask()

    def test_in_python(self) -> None:
        def fails(a: np.ndarray) -> np.ndarray:
            if a == 5:
                raise RuntimeError("no such word")
            return a

        def fn(e: Example) -> Example:
            return {"x": tf.ensure_shape(tf.numpy_function(fails, [e["x"]], tf.int64), ())}

        with pytest.raises(TfjaxError, match=r"fn\) failed on example 5: (?s:.*)no such word"):
            with numbers().map(fn).batch(4).iterate() as batches:
                list(batches)

    def test_training_resumes_after_the_batch_that_failed(self) -> None:
        pipe = numbers().map(checked_to(6)).batch(2)
        with pipe.iterate() as batches:
            with pytest.raises(TfjaxError):
                list(batches)
            assert batches.step == 3
            state = batches.state
        fixed = numbers().map(checked_to(100)).batch(2)
        with fixed.iterate(state=state.to_json()) as batches:
            assert [b["x"].tolist() for b in batches] == [[6, 7], [8, 9]]

    def test_a_shape_that_was_promised(self) -> None:
        pipe = numbers().map(lambda e: {"x": tf.ensure_shape(tf.range(e["x"]), (3,))}).batch(2)
        with pytest.raises(TfjaxError, match="failed on example 0"):
            pipe.peek()


def test_a_function_of_a_wrong_number_of_arguments_is_named() -> None:
    pairs = tfjax.from_arrays((np.arange(3), np.arange(3)))
    with pytest.raises(TypeError, match=r"map\(.*one example"):
        pairs.map(lambda a, b: a + b)
    with pytest.raises(TypeError, match=r"random_map\(.*seed"):
        numbers().random_map(lambda e: e)
