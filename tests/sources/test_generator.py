"""What a Python function yields: order, epochs, checks against the spec, errors, and that nothing is kept alive."""

import gc
import itertools
import threading
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf

import tfjax
from tests import python_process
from tfjax.errors import SpecError, TfjaxError

FLOAT = jax.ShapeDtypeStruct((), np.float32)
SPEC = {"x": FLOAT, "s": tf.TensorSpec((), tf.string)}


def count(epoch: int) -> Iterator[dict[str, Any]]:
    for i in range(5):
        yield {"x": np.float32(10 * epoch + i), "s": f"é{i}"}


def pipe_of(function: Any, spec: Any = SPEC, **how: Any) -> "tfjax.Pipeline":
    pipe = tfjax.from_generator(function, spec, **how)
    return pipe.keep_on_host("s") if spec is SPEC else pipe


def xs(batches: Any) -> list[Any]:
    return [b["x"].tolist() for b in batches]


def test_an_epoch_is_a_call_with_its_number() -> None:
    pipe = pipe_of(count).batch(2)
    expected = [[[10.0 * e, 10 * e + 1], [10 * e + 2, 10 * e + 3], [10 * e + 4]] for e in range(4)]
    assert xs(pipe.iterate(epochs=2)) == expected[0] + expected[1]
    assert xs(pipe.iterate(epochs=2, start_epoch=2)) == expected[2] + expected[3]
    assert next(iter(pipe_of(count).batch(2)))["s"].tolist() == ["é0".encode(), "é1".encode()]
    with pytest.raises(TypeError, match="how long an epoch"):
        len(pipe)


def test_a_function_without_arguments() -> None:
    assert xs(pipe_of(lambda: [{"x": 1.0, "s": "a"}]).iterate(epochs=2)) == [1.0, 1.0]
    assert xs(pipe_of(lambda n=2: [{"x": n, "s": "a"}])) == [2.0]


def test_replay_at_every_step() -> None:
    pipe = pipe_of(count).shuffle_window(3, seed=1).batch(2)
    whole = xs(pipe.iterate(epochs=2))
    with pipe.iterate(epochs=2) as batches:
        states = [batches.state]
        for _ in whole:
            next(batches)
            states.append(batches.state)
    assert [xs(pipe_of(count).shuffle_window(3, seed=1).batch(2).iterate(epochs=2, state=s)) for s in states] == [
        whole[n:] for n in range(len(whole) + 1)
    ]


class Pair(NamedTuple):
    a: Any
    b: Any


def test_structures_shapes_and_sources_of_arrays() -> None:
    spec = Pair(jax.ShapeDtypeStruct((2,), np.int32), {"c": tf.TensorSpec((None, 2), tf.bfloat16)})

    def elements() -> Iterator[Pair]:
        yield Pair(np.array([1, 2], np.int32), {"c": jnp.zeros((3, 2), jnp.bfloat16)})
        yield Pair([3, 4], {"c": tf.ones((1, 2), tf.bfloat16)})

    found = list(tfjax.from_generator(elements, spec))
    assert [type(x) for x in found] == [Pair, Pair]
    assert [x.a.tolist() for x in found] == [[1, 2], [3, 4]]
    assert [x.b["c"].shape for x in found] == [(3, 2), (1, 2)]


def test_batches() -> None:
    spec = {"x": tf.TensorSpec((None, 2), tf.float32)}
    pipe = tfjax.from_generator(lambda: [{"x": np.zeros((n, 2), np.float32)} for n in (3, 1)], spec, batched=True)
    assert [b["x"].shape for b in pipe] == [(3, 2), (1, 2)]
    assert pipe.spec["x"].shape == (None, 2)
    with pytest.raises(ValueError, match="single examples"):
        pipe.batch(2)


WRONG: dict[str, tuple[Any, str]] = {
    "a dtype": ({"x": np.float64(1), "s": "a"}, r"\['x'\] is float64\[\], and the spec says float32\[\]"),
    "a shape": ({"x": np.zeros(2, np.float32), "s": "a"}, r"\['x'\] is float32\[2\], and the spec says float32\[\]"),
    "a missing key": ({"x": 1.0}, r"structure is \{'x': \*\}, and the spec says \{'s': \*, 'x': \*\}"),
    "another key": ({"x": 1.0, "t": "a"}, "structure is"),
    "another type": ((1.0, "a"), "structure is"),
    "no text": ({"x": 1.0, "s": 3}, r"\['s'\] is int64\[\], and the spec says string\[\]"),
    "text": ({"x": "one", "s": "a"}, r"\['x'\] is \w+\[\], and the spec says float32\[\]"),
    "an object": ({"x": object(), "s": "a"}, r"\['x'\] is object"),
    "nothing": (None, "structure is"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_element_that_is_not_as_specified(name: str) -> None:
    wrong, words = WRONG[name]
    good = {"x": 1.0, "s": "a"}
    batches = pipe_of(lambda: [good, good, wrong]).iterate(start_epoch=3)
    assert xs(itertools.islice(batches, 2)) == [1.0, 1.0]
    with pytest.raises(SpecError, match=rf"from_generator\(.*\), element 2 of epoch 3: .*{words}"):
        next(batches)


@pytest.mark.parametrize(("value", "fits"), [(255, True), (256, False), (-1, False), (1.5, False), (True, True)])
def test_numbers_of_python_take_the_dtype_where_they_fit(value: Any, fits: bool) -> None:
    pipe = tfjax.from_generator(lambda: [value], jax.ShapeDtypeStruct((), np.uint8))
    if fits:
        assert [int(x) for x in pipe] == [int(value)]
    else:
        with pytest.raises(SpecError, match=f"the spec says uint8.*{value!r} does not fit"):
            list(pipe)


def one_float(value: Any) -> list[Any]:
    return list(tfjax.from_generator(lambda: [value], jax.ShapeDtypeStruct((), np.float32)))


def test_a_float_of_python_that_does_not_fit_is_no_infinity() -> None:
    with pytest.raises(SpecError, match=r"float32\[\], which 1e\+300 does not fit"):
        one_float(1e300)
    assert one_float(float("inf")) == [np.inf]
    assert np.isnan(one_float(float("nan"))[0])


def test_bytes_in_the_other_order_and_masks() -> None:
    assert one_float(np.array(1.5, ">f4")) == [1.5]
    with pytest.raises(SpecError, match="masked array, and its mask would be lost"):
        one_float(np.ma.masked_array(np.float32(1), True))


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_an_exit_inside_of_the_function_is_said_in_one_line(error: BaseException) -> None:
    def function() -> Iterator[float]:
        yield 1.0
        raise error

    with pytest.raises(TfjaxError, match=rf"raised {type(error).__name__}") as caught:
        list(tfjax.from_generator(function, jax.ShapeDtypeStruct((), np.float32)))
    assert "\n" not in str(caught.value)


def test_an_exception_keeps_its_text_and_is_the_cause() -> None:
    def bad() -> Iterator[dict[str, Any]]:
        yield {"x": 1.0, "s": "a"}
        raise KeyError("boom")

    for prefetch in (0, 2):
        batches = iter(pipe_of(bad).batch(1).place(jax.devices()[0], prefetch=prefetch))
        assert next(batches)["x"].tolist() == [1.0]
        with pytest.raises(TfjaxError, match=r"raised KeyError at element 1 of epoch 0: 'boom'") as caught:
            next(batches)
        assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("function", "error", "words"),
    [
        (lambda: 1 / 0, TfjaxError, "raised ZeroDivisionError when it was called for epoch 0"),
        (lambda: 3, TypeError, "returned a int: return an iterable"),
    ],
)
def test_a_function_that_returns_nothing_to_iterate_over(function: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        list(pipe_of(function))


def test_the_same_iterator_again_is_an_error_and_the_same_list_is_none() -> None:
    once = iter([{"x": 1.0, "s": "a"}])
    with pytest.raises(TfjaxError, match="iterator of an earlier epoch again"):
        list(pipe_of(lambda: once).iterate(epochs=2))


def test_epochs_that_yield_nothing() -> None:
    assert list(pipe_of(lambda: [])) == []
    with pytest.raises(ValueError, match="epoch 0 of this pipeline yields nothing"):
        next(pipe_of(lambda: []).iterate(forever=True))
    with pytest.raises(ValueError, match="epoch 1 of this pipeline yields nothing"):
        list(pipe_of(lambda e: count(e) if e == 0 else []).iterate(forever=True))


def test_going_round_calls_the_function_once_an_epoch() -> None:
    calls = []

    def counted(epoch: int) -> Iterator[dict[str, Any]]:
        calls.append(epoch)
        return count(epoch)

    options = tf.data.Options()
    options.autotune.enabled = False
    pipe = pipe_of(counted).batch(1).options(prefetch_batches=1, tf_options=options).place(jax.devices()[0], prefetch=0)
    with pipe.iterate(forever=True) as batches:
        assert xs(itertools.islice(batches, 7)) == [[0], [1], [2], [3], [4], [10], [11]]
    assert calls[:2] == [0, 1]
    assert len(calls) == len(set(calls)) <= 3


REFUSED: list[tuple[Any, type[Exception], str]] = [
    (lambda: tfjax.from_generator(3, FLOAT), TypeError, "takes a function, given 3"),
    (lambda: tfjax.from_generator(iter([1]), FLOAT), TypeError, "takes a function"),
    (lambda: tfjax.from_generator(divmod, FLOAT), TypeError, "requires 2 arguments.*functools.partial"),
    (lambda: tfjax.from_generator(count, {"x": 3}), TypeError, r"\['x'\]"),
    (lambda: tfjax.from_generator(count, {}), ValueError, "no leaf"),
    (lambda: tfjax.from_generator(count, SPEC, batched=None), TypeError, "batched is None"),
    (lambda: tfjax.from_generator(count, tf.TensorSpec(None, tf.int32)), SpecError, "rank"),
]


@pytest.mark.parametrize("at", range(len(REFUSED)))
def test_arguments_that_are_refused(at: int) -> None:
    make, error, words = REFUSED[at]
    with pytest.raises(error, match=words):
        make()


def test_two_iterators_do_not_disturb_each_other() -> None:
    pipe = pipe_of(count)
    with pipe.iterate() as one, pipe.iterate() as two:
        assert xs([next(one), next(one), next(two), next(one), next(two)]) == [0, 1, 0, 2, 1]
    dataset = pipe.to_tf()
    assert [x.numpy() for x in dataset.map(lambda e: e["x"])] == [0, 1, 2, 3, 4]
    assert len(list(dataset)) == 5


class Held:
    """Something that a generator closes over."""


def held(log: list[str], what: Held) -> Any:
    def forever(epoch: int) -> Iterator[dict[str, Any]]:
        try:
            for i in itertools.count():
                yield {"x": np.float32(i), "s": type(what).__name__}
        finally:
            log.append(f"closed {epoch}")

    return forever


def wait_for(found: Any) -> bool:
    for _ in range(100):
        gc.collect()
        if found():
            return True
        threading.Event().wait(0.05)
    return False


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("how", ["closed", "dropped"])
def test_an_abandoned_generator_is_closed(how: str, prefetch: int) -> None:
    log: list[str] = []
    pipe = pipe_of(held(log, Held())).batch(2).place(jax.devices()[0], prefetch=prefetch)
    batches = pipe.iterate(steps=100)
    next(batches)
    assert log == []
    if how == "closed":
        batches.close()
    del batches
    assert wait_for(lambda: log == ["closed 0"])


class Counted:
    """A generator function that counts how many of its generators are open."""

    def __init__(self) -> None:
        self.open, self.most = 0, 0
        self.closed: list[int] = []

    def __call__(self, epoch: int) -> Iterator[np.float32]:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            for i in itertools.count():
                yield np.float32(100 * epoch + i)
        finally:
            self.open -= 1
            self.closed.append(epoch)


TAKEN: dict[str, tuple[Any, dict[str, Any]]] = {
    "take": (lambda pipe: pipe.take(4).batch(2), {"epochs": 5}),
    "take of batches": (lambda pipe: pipe.batch(2).take(2), {"epochs": 5}),
    "a window": (lambda pipe: pipe.take(4).shuffle_window(3, seed=0).batch(4), {"epochs": 5}),
    "steps": (lambda pipe: pipe.take(4).batch(2), {"steps": 9}),
    "one epoch": (lambda pipe: pipe.take(4).batch(1), {}),
    "for ever": (lambda pipe: pipe.take(4).batch(2), {"forever": True}),
}


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("name", TAKEN)
def test_an_epoch_that_is_cut_short_is_closed_before_the_next_begins(name: str, prefetch: int) -> None:
    made, how = TAKEN[name]
    counted = Counted()
    pipe = made(tfjax.from_generator(counted, FLOAT)).place(jax.devices()[0], prefetch=prefetch)
    with pipe.iterate(**how) as batches:
        list(itertools.islice(batches, 12))
    assert wait_for(lambda: counted.open == 0)
    assert counted.most == 1
    assert counted.closed == list(range(len(counted.closed)))


def test_each_iterator_over_a_graph_closes_its_own() -> None:
    counted = Counted()
    dataset = tfjax.from_generator(counted, FLOAT).take(3).to_tf()
    expected = [(0.0, 0.0), (1.0, 1.0), (2.0, 2.0)]
    for _ in range(3):
        assert [(float(a), float(b)) for a, b in tf.data.Dataset.zip(dataset, dataset)] == expected
        assert wait_for(lambda: counted.open == 0)
    assert counted.closed == [0] * 6


def test_landmine_17_a_dropped_pipeline_frees_its_generator() -> None:
    freed = []
    for _ in range(3):
        what = Held()
        freed.append(weakref.ref(what))
        pipe = pipe_of(held([], what)).batch(2)
        with pipe.iterate(steps=3) as batches:
            assert len(list(batches)) == 3
        pipe.peek()
        del pipe, batches, what
    assert wait_for(lambda: all(ref() is None for ref in freed))


OPEN_AT_THE_END = """
    import itertools, jax, numpy as np, tfjax
    def count():
        try:
            yield from map(np.float32, itertools.count())
        finally:
            print("closed", flush=True)
    pipe = tfjax.from_generator(count, jax.ShapeDtypeStruct((), np.float32)).batch(2)
    batches = pipe.place(jax.devices()[0], prefetch=PREFETCH).iterate(forever=True)
    next(batches)
"""


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_generator_that_is_open_at_the_end_of_the_process_is_closed(prefetch: int) -> None:
    """TensorFlow waited for ever in one of two processes where the interpreter released what reads ahead."""
    for _ in range(3):
        done = python_process.run(OPEN_AT_THE_END.replace("PREFETCH", str(prefetch)))
        assert (done.returncode, done.stdout.split()) == (0, ["closed"])
        assert "Traceback" not in done.stderr


HANGS = """
    import threading, time, warnings, jax, numpy as np, tfjax
    warnings.simplefilter("ignore")
    def hang():
        yield np.float32(1)
        threading.Event().wait()
    batches = tfjax.from_generator(hang, jax.ShapeDtypeStruct((), np.float32)).iterate()
    print(float(next(batches)))
    began = time.monotonic()
    batches.close()
    print("closed" if time.monotonic() - began < 20 else "late")
"""


def test_a_generator_that_hangs_can_be_closed_and_the_process_ends() -> None:
    assert python_process.run(HANGS, timeout_s=60).stdout.split() == ["1.0", "closed"]
