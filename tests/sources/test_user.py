"""A user's own source: what its four members may be, what is refused, and that it is freed with its pipeline."""

import ast
import gc
import inspect
import threading
import weakref
from typing import ClassVar

import jax
import ml_dtypes
import numpy as np
import pytest

import tfjax
from tfjax._tensorflow import tf
from tfjax.errors import SpecError, TfjaxError
from tfjax.sources.base import Raw, Source
from tfjax.sources.user import UserSource

N = 23


class Both:
    """A source whose members a test replaces one by one."""

    spec: ClassVar = {"x": tf.TensorSpec((), tf.int64), "y": jax.ShapeDtypeStruct((2,), np.float32)}
    identity: ClassVar = {"name": "both"}

    def __len__(self):
        return N


class InNumpy(Both):
    def read(self, indices):
        return {"x": indices * 3, "y": np.stack([indices, -indices], 1).astype(np.float32)}


class InGraph(Both):
    def __init__(self):
        self.table = tf.range(N, dtype=tf.int64) * 3

    def fetch(self, indices):
        halves = tf.cast(tf.stack([indices, -indices], 1), tf.float32)
        return {"x": tf.gather(self.table, indices), "y": halves}


def with_members(base=InNumpy, **members):
    return type("Mine", (base,), members)()


def opened(**members):
    return tfjax.from_source(with_members(**members))


def batches(pipe, **how):
    with pipe.iterate(**how) as run:
        return [jax.tree.map(np.asarray, b) for b in run]


@pytest.mark.parametrize("kind", [InNumpy, InGraph])
def test_rows_come_by_index(kind):
    source = kind()
    pipe = tfjax.from_source(source)
    assert len(pipe) == N
    assert pipe.spec == {"x": jax.ShapeDtypeStruct((), np.int32), "y": jax.ShapeDtypeStruct((2,), np.float32)}
    for batch in batches(pipe.shuffle(seed=1).batch(4), epochs=2):
        np.testing.assert_array_equal(batch["y"][:, 0] * 3, batch["x"])
    seen = np.concatenate([b["x"] for b in batches(pipe.shuffle(seed=1).batch(4, remainder="keep"))])
    assert sorted(seen.tolist()) == [3 * i for i in range(N)]
    assert int(pipe[7]["x"]) == 21


def test_the_example_of_the_docstring_takes_under_25_lines():
    doc = inspect.getdoc(tfjax.from_source)
    shown = [line.strip() for line in doc[doc.index(">>> class") :].splitlines()]
    lines = [line[4:] for line in shown if line.startswith((">>> ", "..."))]
    lines = lines[: next(i for i, line in enumerate(lines) if line.startswith("pipe"))]
    (made,) = ast.parse("\n".join(lines)).body
    members = {getattr(x, "name", None) or x.targets[0].id for x in made.body}
    assert members == {"__len__", "spec", "identity", "read"}
    assert len(lines) < 25


def test_what_the_graph_asks_of_a_source_is_there():
    made = tfjax.from_source(InGraph())._chain[0].source
    members = [name for name, x in vars(Source).items() if not name.startswith("_") or name == "__len__"]
    assert isinstance(made, UserSource) and len(members) == 8
    assert all(hasattr(made, name) for name in members)
    assert (made.locate(3), made.stamp(), made.check()) == ("", None, None)
    assert "fetch in the graph" in made.describe()


def test_optional_members_are_asked_where_they_are_there():
    calls = []
    made = opened(
        describe=lambda _self: "from a satellite",
        locate=lambda _self, index: f"tile {index}",
        stamp=lambda _self: "v1",
        check=lambda _self: calls.append(1),
    )
    source = made._chain[0].source
    assert (source.locate(4), source.stamp()) == ("tile 4", "v1")
    assert "source: from a satellite" in made.batch(2).explain()
    made.batch(2).peek()
    assert calls


SPECS = {
    "a bare leaf": (tf.TensorSpec((), tf.int64), lambda i: i),
    "a tuple": ((tf.TensorSpec((), tf.int64),) * 2, lambda i: (i, i)),
    "a list for a tuple": ((tf.TensorSpec((), tf.int64),) * 2, lambda i: [i, i]),
    "nested": ({"a": {"b": (tf.TensorSpec((), tf.int64),)}}, lambda i: {"a": {"b": (i,)}}),
    "bool": (jax.ShapeDtypeStruct((), np.bool_), lambda i: i % 2 == 0),
    "bfloat16": (jax.ShapeDtypeStruct((2,), ml_dtypes.bfloat16), lambda i: np.ones((len(i), 2), ml_dtypes.bfloat16)),
    "complex": (jax.ShapeDtypeStruct((), np.complex64), lambda i: (i * 1j).astype(np.complex64)),
    "a Python list": (tf.TensorSpec((), tf.int64), lambda i: i.tolist()),
    "a jax.Array": (jax.ShapeDtypeStruct((), np.float32), lambda i: jax.numpy.asarray(i, np.float32)),
    "an empty dimension": (tf.TensorSpec((0, 3), tf.float32), lambda i: np.zeros((len(i), 0, 3), np.float32)),
}


@pytest.mark.parametrize("name", SPECS)
def test_structures_and_dtypes(name):
    spec, read = SPECS[name]
    pipe = opened(spec=spec, read=lambda _self, indices: read(indices))
    (batch,) = batches(pipe.batch(N))
    wanted = jax.tree.leaves(read(np.arange(N)), is_leaf=lambda _x: name == "a Python list")
    for got, want in zip(jax.tree.leaves(batch), wanted, strict=True):
        np.testing.assert_array_equal(got, np.asarray(want))
    assert jax.tree.structure(batch) == jax.tree.structure(spec)


@pytest.mark.parametrize("spec", [tf.TensorSpec((), tf.string), jax.ShapeDtypeStruct((), str)], ids=["tf", "jax"])
def test_strings(spec):
    texts = ["grün", "", "a"] * 10
    for read in (
        lambda i: np.array(texts)[i],
        lambda i: [texts[k].encode() for k in i],
        lambda i: [texts[k] for k in i],
    ):
        pipe = opened(spec={"s": spec}, read=lambda _self, i, read=read: {"s": read(i)}).keep_on_host("s")
        assert pipe.batch(3).peek()["s"].tolist() == ["grün".encode(), b"", b"a"]


def test_fetch_may_hold_python_control_flow():
    def fetch(_self, indices):
        if tf.size(indices) > 3:
            return {"x": indices, "y": tf.zeros((tf.size(indices), 2))}
        return {"x": -indices, "y": tf.ones((tf.size(indices), 2))}

    pipe = tfjax.from_source(with_members(Both, fetch=fetch))
    assert [b["y"][0, 0] for b in batches(pipe.batch(20))] == [0, 1]


@pytest.mark.parametrize("method", ["fetch", "read"])
def test_bad_rows_are_told_apart(method):
    def rows(_self, indices):
        return Raw({"x": indices}, indices != 5)

    pipe = tfjax.from_source(with_members(Both, spec={"x": tf.TensorSpec((), tf.int64)}, **{method: rows}))
    assert pipe.take(5).batch(5).peek()["x"].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(tfjax.CorruptDataError, match="reading failed on example 5: the stored record is damaged"):
        batches(pipe.batch(4))


def test_read_is_called_from_several_threads_with_several_rows():
    calls = []

    def read(_self, indices):
        calls.append((threading.get_ident(), len(indices), indices.dtype))
        return {"x": indices, "y": np.zeros((len(indices), 2), np.float32)}

    batches(opened(read=read).batch(6, remainder="keep").options(parallel_calls=4))
    assert sorted(count for _, count, _ in calls) == [5, 6, 6, 6]
    assert {dtype for *_, dtype in calls} == {np.dtype(np.int64)}


@pytest.mark.parametrize("kind", [InNumpy, InGraph])
def test_landmine_17_a_dropped_source_is_freed(kind):
    refs = []
    for _ in range(3):
        source = kind()
        refs.append(weakref.ref(source))
        pipe = tfjax.from_source(source).map(lambda e: {"z": e["x"] + 1}).cache("memory").shuffle(seed=0).batch(4)
        with pipe.iterate(forever=True) as run:
            next(run)
        del source, pipe, run
    gc.collect()
    assert [ref() for ref in refs] == [None] * 3


def test_the_pipeline_keeps_the_source():
    pipe = tfjax.from_source(InNumpy()).batch(4)
    gc.collect()
    assert pipe.peek()["x"].tolist() == [0, 3, 6, 9]
    dataset = tfjax.from_source(InNumpy()).batch(4).to_tf()
    gc.collect()
    assert next(iter(dataset))["x"].numpy().tolist() == [0, 3, 6, 9]


# What is refused.

MEMBERS = {
    "no length": (lambda: type("Mine", (), {"spec": 1, "identity": {}, "read": print})(), "Mine has no `__len__`"),
    "no spec": (lambda: type("Mine", (), {"__len__": lambda _s: 1, "identity": {}, "read": print})(), "no `spec`"),
    "no identity": (lambda: type("Mine", (), {"__len__": lambda _s: 1, "spec": 1, "read": print})(), "no `identity`"),
    "no fetch": (lambda: with_members(Both), "Both|Mine has no method `fetch` .*none named `read`"),
    "a fetch that is no method": (lambda: with_members(Both, fetch=3), "has no method `fetch`"),
    "a class": (lambda: InNumpy, r"given the class InNumpy: pass InNumpy\(...\)"),
    "a list": (lambda: [1, 2], "list has no `spec`"),
    "a spec that is a method": (lambda: with_members(spec=lambda _self: 1), "Mine.spec is a method: make it"),
    "an identity that is a method": (lambda: with_members(identity=lambda _self: 1), "identity is a method: make it"),
    "a spec of arrays": (lambda: with_members(spec={"x": np.zeros(2)}), r"\['x'\] is a ndarray: give a tf.TensorSpec"),
    "a spec of a list": (
        lambda: with_members(spec=[tf.TensorSpec((), tf.int64)]),
        "a list is one leaf, so use a tuple",
    ),
    "a key array": (
        lambda: with_members(spec=jax.ShapeDtypeStruct((), jax.random.key(0).dtype)),
        r"the element has dtype key<fry>, which TensorFlow does not have",
    ),
    "an empty identity": (lambda: with_members(identity={}), r"identity is \{\}: give a dict of names"),
    "an identity that is text": (lambda: with_members(identity="mine"), "identity is 'mine': give a dict"),
    "an identity of arrays": (lambda: with_members(identity={"a": np.arange(2)}), "not of JSON types.*ndarray"),
    "an identity of nan": (lambda: with_members(identity={"a": float("nan")}), "not of JSON types"),
    "an identity of tuples": (
        lambda: with_members(identity={"a": (1, 2)}),
        r"reads back as \{'a': \[1, 2\]\}: use lists",
    ),
    "an identity of number keys": (lambda: with_members(identity={"a": {1: 2}}), "use lists and text keys"),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_members_that_are_refused(name):
    make, words = MEMBERS[name]
    with pytest.raises(TypeError, match=words):
        tfjax.from_source(make())


@pytest.mark.parametrize(
    "identity", [{"a": "/data/x"}, {"a": [{"b": "C:\\data\\x"}]}, {"a": "file:///x"}, {"/data": 1}], ids=str
)
def test_an_identity_holds_no_absolute_path(identity):
    with pytest.raises(ValueError, match=r"identity holds the absolute path .*name the file without its folder"):
        opened(identity=identity)
    opened(identity={"name": "train/x-00000", "url": "not/a/root", "n": [1, 2.5, None, True]})


def test_a_source_of_nothing():
    with pytest.raises(ValueError, match="Mine has a length of 0"):
        opened(__len__=lambda _self: 0)
    with pytest.raises(ValueError, match="which has no leaf"):
        opened(spec={})


def test_a_dimension_that_is_not_known():
    with pytest.raises(SpecError, match=r"\['x'\] is int64\[None\].*pad them, or encode them as strings"):
        opened(spec={"x": tf.TensorSpec((None,), tf.int64)})


FETCHED = {
    "another dtype": (lambda i: {"x": tf.cast(i, tf.int32)}, r"\['x'\] is int32\[None\] for n .* spec int64\[n\]"),
    "another shape": (lambda i: {"x": tf.stack([i, i], 1)}, r"\['x'\] is int64\[None,2\] for n indices"),
    "a scalar": (lambda _i: {"x": tf.constant(3, tf.int64)}, r"\['x'\] is int64\[\] for n indices"),
    "always three rows": (lambda _i: {"x": tf.zeros(3, tf.int64)}, r"\['x'\] is int64\[3\] for n indices"),
    "a ragged tensor": (lambda i: {"x": tf.RaggedTensor.from_row_lengths(i, i)}, r"\['x'\] is RaggedTensor"),
    "a key too many": (
        lambda i: {"x": i, "z": i},
        r"returns the leaves \['x'\], \['z'\], its spec has \['x'\]: return",
    ),
    "no leaf": (lambda _i: None, r"returns the leaves none"),
    "another structure": (lambda i: (i,), r"returns the leaves \[0\], its spec has \['x'\]"),
}


@pytest.mark.parametrize("name", FETCHED)
def test_a_fetch_that_differs_from_its_spec_is_refused_at_once(name):
    fetch, words = FETCHED[name]
    source = with_members(Both, spec={"x": tf.TensorSpec((), tf.int64)}, fetch=lambda _self, i: fetch(i))
    with pytest.raises(SpecError, match=rf"from_source: Mine\.fetch.*{words}"):
        tfjax.from_source(source)


def test_a_fetch_that_cannot_be_repeated_is_refused():
    def fetch(_self, indices):
        return {"x": indices, "y": tf.random.uniform((tf.size(indices), 2))}

    with pytest.raises(ValueError, match=r"from_source: Mine\.fetch holds the stateful random op RandomUniform"):
        tfjax.from_source(with_members(Both, fetch=fetch))


def test_a_fetch_in_numpy_names_read():
    for fetch in (lambda _self, i: i.numpy(), lambda _self, _i: 1 / 0):
        with pytest.raises(
            TfjaxError, match=r"Mine.fetch raised (Attribute|ZeroDivision)Error.*define read\(indices\)"
        ):
            tfjax.from_source(with_members(Both, fetch=fetch))


def test_a_fetch_that_fails_in_the_graph_names_the_example():
    def fetch(_self, indices):
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(indices < 9), ["no such row"])]):
            return {"x": tf.identity(indices)}

    pipe = tfjax.from_source(with_members(Both, spec={"x": tf.TensorSpec((), tf.int64)}, fetch=fetch))
    with pytest.raises(TfjaxError, match=r"reading failed on example 9: .*Mine raised.*no such row"):
        batches(pipe.batch(4))


def test_a_fetch_of_too_few_rows_is_seen():
    source = with_members(Both, spec={"x": tf.TensorSpec((), tf.int64)}, fetch=lambda _self, i: {"x": i[:3]})
    with pytest.raises(TfjaxError, match="another number of rows than there are indices"):
        batches(tfjax.from_source(source).batch(4))


def test_a_fetch_whose_rows_are_too_few_as_it_is_traced():
    source = with_members(Both, spec={"x": tf.TensorSpec((), tf.int64)}, fetch=lambda _self, i: {"x": i[1:]})
    with pytest.raises(SpecError, match=r"fetch: \['x'\] has another number of rows than .*3 for 4: return one row"):
        batches(tfjax.from_source(source).take(8).batch(4))


def test_a_read_in_the_other_byte_order_is_converted():
    pipe = opened(spec={"x": tf.TensorSpec((), tf.int64)}, read=lambda _self, i: {"x": i.astype(">i8")})
    assert [b["x"].tolist() for b in pipe.take(8).batch(4)] == [[0, 1, 2, 3], [4, 5, 6, 7]]


READ = {
    "a mask": (lambda i: {"x": np.ma.masked_array(i, i == 6)}, r"\['x'\] is a masked array"),
    "another dtype": (lambda i: {"x": i.astype(np.int32)}, r"\['x'\] is int32\[1\] for 1 indices, .*spec int64\[1\]"),
    "text": (lambda i: {"x": ["a" for _ in i]}, r"\['x'\] is string\[1\] for 1 indices"),
    "another shape": (lambda i: {"x": i[:, None]}, r"\['x'\] is int64\[1,1\] for 1 indices"),
    "no row": (lambda i: {"x": i[:0]}, r"\['x'\] is int64\[0\] for 1 indices"),
    "a key too few": (lambda _i: {}, r"returns the leaves none, its spec has \['x'\]"),
    "None": (lambda _i: None, "returns the leaves none"),
}


@pytest.mark.parametrize("name", READ)
def test_a_read_that_differs_from_its_spec_is_named(name):
    read, words = READ[name]
    pipe = opened(spec={"x": tf.TensorSpec((), tf.int64)}, read=lambda _self, i: read(i) if 6 in i else {"x": i})
    with pytest.raises(SpecError, match=rf"reading failed on example 6: from_source: Mine\.read.*{words}"):
        batches(pipe.batch(4))


@pytest.mark.parametrize(
    "error", [KeyError("tile"), OSError("no disk"), StopIteration(), RuntimeError("a"), ValueError("b")]
)
def test_a_read_that_raises_names_the_example(error):
    def read(_self, indices):
        if 6 in indices:
            raise error
        return {"x": indices, "y": np.zeros((len(indices), 2), np.float32)}

    words = rf"reading failed on example 6: from_source: Mine raised {type(error).__name__}"
    with pytest.raises(TfjaxError, match=words):
        batches(opened(read=read).batch(4))


def test_another_length_or_identity_is_another_source():
    state = opened().batch(4).iterate().state
    for other in (opened(identity={"name": "c"}), opened(__len__=lambda _self: N + 1)):
        with pytest.raises(tfjax.StateMismatchError, match="differ in source"):
            other.batch(4).iterate(state=state)
    opened().batch(4).iterate(state=state).close()
