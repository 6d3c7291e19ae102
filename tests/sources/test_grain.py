"""A Grain MapDataset as an indexed source: example i is its element i; what has no index or no one spec is refused."""

import gc
import sys
import weakref

import jax
import numpy as np
import pytest

import tfjax
from tests import python_process
from tfjax.errors import SpecError, StateMismatchError, TfjaxError

grain = pytest.importorskip("grain")
Map = grain.MapDataset


def examples(n):
    return [
        {"x": np.full((3, 2), i, np.float32), "n": i, "s": "a" * (i % 4), "deep": (i % 2 == 0, [b"b", i / 2])}
        for i in range(n)
    ]


def elements(pipe):
    with pipe.iterate() as run:
        return [jax.tree.map(lambda a: np.asarray(a).tolist(), e) for e in run]


def on_host(pipe):
    return pipe.keep_on_host("s", "deep")


def test_example_i_is_element_i():
    rows = examples(11)
    got = elements(on_host(tfjax.from_grain(Map.source(rows))))
    assert len(got) == 11
    for e, row in zip(got, rows, strict=True):
        assert (e["x"], e["n"], e["s"]) == (row["x"].tolist(), row["n"], row["s"].encode())
        assert e["deep"] == row["deep"]


def test_specs_are_those_of_element_0():
    spec = tfjax.from_grain(Map.source(examples(3))).drop("s", "deep").spec
    assert spec["x"] == jax.ShapeDtypeStruct((3, 2), np.float32)
    assert spec["n"].dtype == np.int32, "narrowed from int64 as any other source's"


def test_what_grain_does_by_index_is_as_it_was():
    dataset = (
        Map.range(40)
        .seed(3)
        .shuffle()
        .map(lambda i: {"x": np.full(2, i)})
        .random_map(lambda e, rng: {"x": e["x"], "r": rng.random()})
    )
    dataset = dataset.batch(4).repeat(2)
    pipe = tfjax.from_grain(dataset)
    assert len(pipe) == len(dataset) == 20
    for i, e in enumerate(pipe.iterate()):
        np.testing.assert_array_equal(e["x"], dataset[i]["x"])
        np.testing.assert_allclose(e["r"], dataset[i]["r"], rtol=1e-6)


def test_elements_of_other_libraries():
    torch = pytest.importorskip("torch")
    rows = [{"t": torch.full((2,), i), "j": jax.numpy.full((2,), i), "n": np.int16(i)} for i in range(4)]
    batch = tfjax.from_grain(Map.source(rows)).batch(4).peek()
    assert batch["t"].tolist() == batch["j"].tolist() == [[i, i] for i in range(4)]
    assert batch["n"].dtype == np.int16


def test_the_dataset_is_freed_with_its_pipeline():
    dataset = Map.source(examples(8)).map(lambda e: {"n": e["n"]})
    ref = weakref.ref(dataset)
    pipe = tfjax.from_grain(dataset).shuffle(seed=0).batch(2)
    pipe.peek()
    del dataset
    gc.collect()
    assert ref() is not None
    del pipe
    gc.collect()
    assert ref() is None


def test_the_identity_names_the_transformations():
    def identity(dataset):
        return tfjax.from_grain(dataset)._parts["source"]

    one = Map.range(8).map(lambda i: {"x": i})
    assert identity(one) == identity(Map.range(8).map(lambda i: {"x": i}))
    digest = identity(one)["elements"]
    assert identity(one) == {"grain": ["MapMapDataset", "RangeMapDataset"], "elements": digest, "examples": 8}
    assert identity(one) != identity(one.shuffle(seed=1)) and identity(one) != identity(
        Map.range(9).map(lambda i: {"x": i})
    )


def doubled(e):
    return {"x": e["x"] * 2}


def shuffled(seed):
    return Map.range(40).map(lambda i: {"x": i}).seed(seed).shuffle()


ANOTHER = {
    "seed": (lambda: shuffled(0), lambda: shuffled(1)),
    "arguments": (lambda: shuffled(0)[:20], lambda: shuffled(0)[20:]),
    "data": (lambda: Map.source([0, 1, 2, 3]), lambda: Map.source([0, 9, 9, 9])),
    "last element": (lambda: Map.source([0] * 50), lambda: Map.source([0] * 49 + [1])),
    "text": (lambda: Map.source(["a", "b"]), lambda: Map.source(["a", "c"])),
    "dtype": (lambda: Map.source([np.int32(0)] * 3), lambda: Map.source([np.uint32(0)] * 3)),
    "a function": (lambda: shuffled(0), lambda: shuffled(0).map(doubled).map(lambda e: e)),
}


@pytest.mark.parametrize("name", ANOTHER)
def test_a_state_of_another_dataset_is_refused(name):
    def pipe(make):
        return on_host_if_text(tfjax.from_grain(make())).batch(2)

    one, two = ANOTHER[name]
    with pipe(one).iterate() as run:
        next(run)
        state = run.state
    assert pipe(one).iterate(state=state).step == 1
    with pytest.raises(StateMismatchError, match="source"):
        pipe(two).iterate(state=state)


def on_host_if_text(pipe):
    return pipe.map(lambda e: {"s": e}).keep_on_host("s") if pipe._element.specs[0].dtype.name == "string" else pipe


def test_few_elements_are_read_when_it_is_opened():
    read = []
    tfjax.from_grain(Map.range(1000).map(lambda i: {"x": read.append(int(i)) or i}))
    assert sorted(set(read)) == [0, 142, 285, 428, 570, 713, 856, 999]


IDENTITY = """
    import grain, tfjax
    dataset = grain.MapDataset.range(40).seed(3).shuffle().map(lambda i: {"x": i / 4, "s": [f"é{i}", b"b"]})
    print(tfjax.from_grain(dataset)._parts["source"]["elements"])
"""


def test_the_identity_is_that_of_another_process():
    dataset = Map.range(40).seed(3).shuffle().map(lambda i: {"x": i / 4, "s": [f"é{i}", b"b"]})
    mine = tfjax.from_grain(dataset)._parts["source"]["elements"]
    assert python_process.run(IDENTITY).stdout.split() == [mine]


def test_an_element_of_another_shape_is_named_with_both():
    rows = [{"x": np.zeros(3 if i < 7 else 4, np.float32)} for i in range(10)]
    pipe = tfjax.from_grain(Map.source(rows)).batch(4)
    assert pipe.peek()["x"].shape == (4, 3)
    words = (
        r"failed on example 7: from_grain: \['x'\] is float32\[4\] in element 7, float32\[3\] in element 0: crop or pad"
    )
    with pytest.raises(SpecError, match=words):
        list(pipe)


OTHERS = {
    "dtype": ({"x": 1.5}, r"\['x'\] is float64\[\] in element 2, int64\[\] in element 0"),
    "text": ({"x": "a"}, r"\['x'\] is string\[\] in element 2, int64\[\] in element 0"),
    "a key too many": ({"x": 1, "y": 2}, r"element 2 has the leaves \['x'\], \['y'\], element 0 has \['x'\]"),
    "another container": ([1], r"element 2 has the leaves \[0\], element 0 has \['x'\]"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_an_element_of_another_kind_is_named(name):
    other, words = OTHERS[name]
    pipe = tfjax.from_grain(Map.source([{"x": 0}, {"x": 1}, other, {"x": 3}]))
    with pytest.raises(SpecError, match=f"reading failed on example 2: from_grain: {words}"):
        list(pipe.batch(2))


def test_an_element_that_fails_is_named():
    pipe = tfjax.from_grain(Map.range(8).map(lambda i: {"x": 6 // (5 - i)}))
    with pytest.raises(TfjaxError, match=r"reading failed on example 5: .*raised ZeroDivisionError"):
        list(pipe.batch(4))


def test_a_sparse_dataset_is_refused_with_the_fix():
    dataset = Map.range(8).map(lambda i: {"x": i})
    with pytest.raises(
        ValueError, match=r"filter yields None in its place: filter with tfjax's \.filter\(\.\.\.\) after"
    ):
        tfjax.from_grain(dataset.filter(lambda e: e["x"] > 3).map(lambda e: e))
    with pytest.raises(ValueError, match=r"element 0 is None: .*filter"):
        tfjax.from_grain(Map.range(8).map(lambda _i: None))
    holes = tfjax.from_grain(Map.range(8).map(lambda i: None if i == 3 else {"x": i}))
    with pytest.raises(TfjaxError, match=r"example 3: .*element 3 is None"):
        list(holes.batch(4))
    assert len(tfjax.from_grain(dataset).filter(lambda e: e["x"] > 3)) == 4


def test_a_dataset_without_end_is_refused_with_the_fix():
    with pytest.raises(ValueError, match=r"repeats for ever: leave .repeat\(\) out, and use iterate\(epochs=...\)"):
        tfjax.from_grain(Map.range(8).repeat())


REFUSED = {
    "an iterator": (lambda: iter(Map.range(8).to_iter_dataset()), "Iterator: use the dataset that it iterates over"),
    "a list": (lambda: [1, 2], r"takes a MapDataset, an IterDataset or a DataLoader, given list: use from_examples"),
    "None": (lambda: None, "given NoneType"),
    "objects": (lambda: Map.range(8).map(lambda _i: {"x": object()}), r"\['x'\] of element 0 is a object"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    make, words = REFUSED[name]
    with pytest.raises(TypeError, match=words):
        tfjax.from_grain(make())


def test_elements_without_a_leaf():
    with pytest.raises(SpecError, match=r"element 0 is \{\}, which has no leaf"):
        tfjax.from_grain(Map.range(8).map(lambda _i: {}))
    with pytest.raises(ValueError, match="empty"):
        tfjax.from_grain(Map.range(0))


# What streams.


def loader():
    return grain.DataLoader(
        data_source=[{"x": np.full(2, i, np.float32), "n": i} for i in range(10)],
        sampler=grain.samplers.IndexSampler(10, shuffle=True, seed=1, num_epochs=1),
        operations=[grain.transforms.Batch(4)],
        worker_count=0,
    )


STREAMS = {
    "elements": (lambda: Map.range(10).map(lambda i: {"n": i}).to_iter_dataset(), False, 10),
    "a filter": (
        lambda: Map.range(20).map(lambda i: {"n": i}).filter(lambda e: e["n"] > 9).to_iter_dataset(),
        False,
        10,
    ),
    "batches": (lambda: Map.range(10).map(lambda i: {"n": i}).to_iter_dataset().batch(4), True, 3),
    "a loader": (loader, True, 3),
}


@pytest.mark.parametrize("name", STREAMS)
def test_streams_yield_what_grain_yields(name):
    make, batched, count = STREAMS[name]
    pipe, wanted = tfjax.from_grain(make()), [jax.tree.map(lambda a: np.asarray(a).tolist(), e) for e in make()]
    assert elements(pipe) == wanted and len(wanted) == count
    assert pipe._plan.is_batched is batched and "streaming" in pipe.explain()
    with pipe.iterate(epochs=2) as run:
        for _ in range(count + 1):
            next(run)
        state = run.state
    rest = [jax.tree.map(lambda a: np.asarray(a).tolist(), e) for e in pipe.iterate(epochs=2, state=state)]
    assert rest == wanted[1:]


def test_elements_of_a_stream_are_batched_here():
    pipe = tfjax.from_grain(STREAMS["elements"][0]()).batch(4)
    assert [b["n"].tolist() for b in pipe] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_whether_a_stream_yields_batches():
    square = Map.range(4).map(lambda _i: {"x": np.zeros((3, 3))}).to_iter_dataset()
    with pytest.raises(ValueError, match=r"cannot tell .*\['x'\]: \(3, 3\)\): say batched=True or batched=False"):
        tfjax.from_grain(square)
    for batched in (True, False):
        assert tfjax.from_grain(square, batched=batched)._plan.is_batched is batched
    with pytest.raises(SpecError, match=r"\['n'\] is a scalar, which has no batch dimension"):
        tfjax.from_grain(STREAMS["elements"][0](), batched=True)
    with pytest.raises(ValueError, match="elements of a MapDataset are examples, so leave batched out"):
        tfjax.from_grain(Map.range(4), batched=False)


def test_an_element_of_a_stream_of_another_kind_is_named():
    for other, words in (({"x": np.zeros(4)}, r"\['x'\] is float64\[4\]"), ({"y": 1}, r"has the leaves \['y'\]")):
        rows = [{"x": np.zeros(3)}, {"x": np.zeros(3)}, other]
        with pytest.raises(SpecError, match=rf"from_grain\(.*\), element 2 of epoch 0: .*{words}"):
            list(tfjax.from_grain(Map.source(rows).to_iter_dataset(), batched=False))


def test_an_empty_stream():
    with pytest.raises(ValueError, match="IterDataset is empty"):
        tfjax.from_grain(Map.range(4).filter(lambda i: i > 9).to_iter_dataset())


def test_missing_grain_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ImportError, match=r"from_grain needs Grain.*pip install 'tfjax\[grain\]'"):
        tfjax.from_grain(None)
