"""What holds of every op of tfjax.image, wherever it is called; `image_op_cases.py` has the ops."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tfjax
from tests import oracle
from tests.contract.image_op_cases import CASES, Case, N, Rows, rows
from tfjax import image as ops
from tfjax._tensorflow import tf
from tfjax.errors import SpecError
from tfjax.ops.base import Op
from tfjax.testing import assert_resumes_anywhere

BATCH = 4
STEPS = 3
RANDOM = {name: case for name, case in CASES.items() if case.op.random}
STRONG = [(name, field) for name, case in CASES.items() for field in case.strong()]
WITH_IMAGE = {name: case for name, case in CASES.items() if case.key == "image" and case.dtypes != ("png",)}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(params=RANDOM)
def random_case(request: pytest.FixtureRequest) -> Case:
    return RANDOM[request.param]


def pipe_of(case: Case, op: Op | None = None, dtype: str | None = None) -> "tfjax.Pipeline":
    """Examples with the op applied; all of one size, where it gives several."""
    pipe = tfjax.from_arrays(case.rows(dtype)).apply(op or case.op)
    return pipe.apply(ops.CenterCrop(10)) if None in case.shape else pipe


def batches(pipe: "tfjax.Pipeline", **how: Any) -> list[dict[str, Any]]:
    """What a run delivers."""
    with pipe.batch(BATCH, remainder="keep").iterate(**how) as run:
        return list(run)


def at_once(pipe: "tfjax.Pipeline", key: str, epoch: int = 0) -> np.ndarray:
    """A leaf of all examples of an epoch."""
    with pipe.batch(N).iterate(start_epoch=epoch) as run:
        return np.asarray(next(run)[key])


def eagerly(op: Op, given: Rows, i: int) -> dict[str, Any]:
    """An example with the op applied, outside of a pipeline, with the seed that it has there."""
    example: dict[str, Any] = op(example_of(given, i), seed_of(op, i))
    return example


def example_of(given: Rows, i: int) -> dict[str, Any]:
    example: dict[str, Any] = tf.nest.map_structure(lambda leaf: tf.constant(leaf[i]), given)
    return example


def seed_of(op: Op, i: int) -> tf.Tensor | None:
    return tf.constant(oracle.example_seed(0, 0, 0, i), tf.int64) if op.random else None


def same_bits(given: Any, wanted: Any) -> bool:
    given, wanted = np.asarray(given), np.asarray(wanted)
    return (given.dtype, given.shape, given.tobytes()) == (wanted.dtype, wanted.shape, wanted.tobytes())


def test_every_op_has_a_case() -> None:
    classes = {name for name in ops.__all__ if name != "Value"}
    assert {type(case.op).__name__ for case in CASES.values()} == classes


# The same bits, wherever it is called.


def test_eagerly_in_a_function_before_batch_and_batched(case: Case) -> None:
    for dtype in case.dtypes:
        given = case.rows(dtype)
        before = tfjax.from_arrays(given).apply(case.op)[2][case.key]
        assert same_bits(eagerly(case.op, given, 2)[case.key], before), "eagerly"
        function = tf.function(case.op, autograph=False)
        assert same_bits(function(example_of(given, 2), seed_of(case.op, 2))[case.key], before), "in a function"
        sized = pipe_of(case, dtype=dtype)
        wanted = sized[2][case.key] if None in case.shape else before
        assert same_bits(sized.batch(3).peek()[case.key][2], wanted), "batched"


def test_neither_parallelism_nor_order_changes_an_example(case: Case) -> None:
    pipe = pipe_of(case)
    shuffled = pipe.shuffle(seed=1)
    one = batches(shuffled.options(parallel_calls=1, prefetch_batches=1), epochs=2)
    several = batches(shuffled.options(parallel_calls=8, prefetch_batches=3), epochs=2)
    in_order = batches(pipe, start_epoch=1)
    assert len(one) == len(several) == 2 * STEPS
    for a, b in zip(one, several, strict=True):
        assert same_bits(a["id"], b["id"]) and same_bits(a[case.key], b[case.key])
    assert by_id(one[STEPS:], case.key) == by_id(in_order, case.key)


def by_id(delivered: list[dict[str, Any]], key: str) -> dict[int, bytes]:
    """The bits of a leaf of each example, by its identity."""
    pairs = [zip(np.asarray(b["id"]), np.asarray(b[key]), strict=True) for b in delivered]
    found = {int(i): leaf.tobytes() for batch in pairs for i, leaf in batch}
    assert len(found) == N
    return found


def test_a_run_is_resumed_in_the_middle_of_an_epoch(case: Case) -> None:
    pipe = pipe_of(case).shuffle(seed=2).batch(BATCH, remainder="keep")
    assert_resumes_anywhere(pipe, epochs=2, at=[1, 4])


def test_another_epoch_has_other_numbers(random_case: Case) -> None:
    pipe = pipe_of(random_case)
    first, second, again = (at_once(pipe, random_case.key, epoch) for epoch in (0, 1, 0))
    assert same_bits(first, again)
    assert not same_bits(first, second)


# Where it may stand.


def test_what_is_deterministic_may_be_cached_and_what_is_random_not(case: Case) -> None:
    pipe, name = pipe_of(case), type(case.op).__name__
    if case.op.random:
        with pytest.raises(ValueError, match=f"{name}.*put cache before {name}"):
            pipe.cache("memory")
        return
    for given, wanted in zip(batches(pipe.cache("memory"), epochs=2), batches(pipe) * 2, strict=True):
        assert same_bits(given[case.key], wanted[case.key])


# What goes in and comes out.


def test_dtype_and_shape(case: Case) -> None:
    for dtype in case.dtypes:
        spec = tfjax.from_arrays(case.rows(dtype)).apply(case.op).spec[case.key]
        assert spec.dtype == np.dtype(case.gives or dtype)
        assert spec.shape == case.shape
        leaf = eagerly(case.op, case.rows(dtype), 1)[case.key]
        assert leaf.dtype == spec.dtype and leaf.shape.is_compatible_with(spec.shape)


def test_what_varies_in_shape_is_told_before_batch(case: Case) -> None:
    if None in case.shape:
        with pytest.raises(SpecError, match=rf"'{case.key}'.* is \(None, None, 3\)"):
            tfjax.from_arrays(case.rows()).apply(case.op).batch(2).peek()


def test_the_example_is_left_as_it_is(case: Case) -> None:
    example = example_of(case.rows(), 0)
    held = dict(example)
    out = case.op(example, seed_of(case.op, 0))
    assert all(example[key] is leaf for key, leaf in held.items()) and example.keys() == held.keys()
    assert all(out[key] is leaf for key, leaf in held.items() if key != case.key)
    assert out.keys() == held.keys()


def test_another_key(case: Case) -> None:
    given, op = case.rows(), dataclasses.replace(case.op, key="other/photo")
    wanted = eagerly(case.op, given, 1)[case.key]
    image = given.pop(case.key)
    out = eagerly(op, {**given, "other": {"photo": image, "x": given["id"]}}, 1)
    assert op.keys[0] == "other/photo"
    assert same_bits(out["other"]["photo"], wanted)
    assert int(out["other"]["x"]) == 1 and case.key not in out


def test_a_wrong_key(case: Case) -> None:
    op = dataclasses.replace(case.op, key="imgae")
    with pytest.raises(KeyError, match="no key 'imgae'; the keys are 'id', 'image', 'label', 'other'"):
        tfjax.from_arrays(dict(sorted(case.rows().items()))).apply(op)
    for wrong in ("", 3, None):
        with pytest.raises(TypeError, match=r"key is .*pass the name of a key, such as '\w+'"):
            dataclasses.replace(case.op, key=wrong)


@pytest.mark.parametrize("name", WITH_IMAGE)
def test_what_is_no_image(name: str) -> None:
    op = CASES[name].op
    with pytest.raises(TypeError, match=rf"{type(op).__name__}.*encoded bytes: put tfjax.image.Decode\(\) before it"):
        tfjax.from_arrays(rows("png")).apply(op)
    with pytest.raises(TypeError, match=r"'image' is uint8 of shape \(12, 17\)"):
        tfjax.from_arrays({"image": rows("uint8")["image"][..., 0]}).apply(op)


# A value.


def test_it_is_a_value(case: Case) -> None:
    again = eval(repr(case.op), vars(ops))
    assert again is not case.op
    assert again == case.op and hash(again) == hash(case.op) and repr(again) == repr(case.op)
    assert dataclasses.replace(case.op, key="photo") != case.op
    with pytest.raises(dataclasses.FrozenInstanceError):
        case.op.key = "photo"  # type: ignore[attr-defined]


def test_repr_leaves_defaults_out(case: Case) -> None:
    shown = repr(case.op)
    assert "key=" not in shown and "None" not in shown
    assert "key='photo'" in repr(dataclasses.replace(case.op, key="photo"))


# Strengths.


def varied(name: str, field: str, value: Any) -> "tfjax.Pipeline":
    """The pipeline of a case with another value of one field."""
    case = CASES[name]
    return pipe_of(case, dataclasses.replace(case.op, **{field: value}))


@pytest.mark.parametrize(("name", "field"), STRONG)
def test_a_value_is_a_number_of_the_run(name: str, field: str) -> None:
    key, strong = CASES[name].key, CASES[name].strong()[field]
    weak = strong / 4
    plain = {number: at_once(varied(name, field, number), key) for number in (weak, strong)}
    pipe = varied(name, field, ops.Value("how much", weak)).batch(N)
    with pipe.iterate(epochs=2, values={"how much": strong}) as run:
        assert same_bits(next(run)[key], plain[strong])
        state, rest = run.state, next(run)[key]
    assert state.values == {"how much": strong}
    assert same_bits(pipe.peek()[key], plain[weak])
    assert not same_bits(plain[weak], plain[strong])
    with pipe.iterate(epochs=2, state=state.to_json()) as run:
        assert same_bits(next(run)[key], rest), "a state holds it"
    with pytest.raises(ValueError, match="no op of this pipeline uses 'how mush': those used are 'how much'"):
        pipe.iterate(values={"how mush": strong})


@pytest.mark.parametrize(("name", "field"), STRONG)
def test_a_schedule_follows_the_global_step(name: str, field: str) -> None:
    key, most = CASES[name].key, CASES[name].strong()[field]

    def schedule(step: tf.Tensor) -> tf.Tensor:
        return most * tf.cast(step, tf.float32) / 8

    pipe = varied(name, field, schedule)
    second, alone = batches(pipe, epochs=2)[STEPS:], batches(pipe, start_epoch=1)
    assert all(same_bits(a[key], b[key]) for a, b in zip(second, alone, strict=True))
    half = batches(varied(name, field, most / 2), start_epoch=1)
    assert same_bits(half[1][key], second[1][key]), "it is half at step 4"
    with pytest.raises(ValueError, match=r"put cache before"):
        pipe.cache("memory")


@pytest.mark.parametrize(("name", "field"), STRONG)
def test_a_number_that_is_none(name: str, field: str) -> None:
    words = f"{type(CASES[name].op).__name__}: {field} is"
    for wrong in (-1, float("nan"), float("inf"), "much", True):
        with pytest.raises(ValueError, match=rf"{words} {wrong!r}: pass a number"):
            varied(name, field, wrong)
    for number in (-1.0, float("nan")):
        pipe = varied(name, field, always(number)).batch(2)
        with pytest.raises(tfjax.TfjaxError, match=rf"{words} (-1|nan): pass a number"):
            pipe.peek()


def always(number: float) -> Callable[[tf.Tensor], tf.Tensor]:
    return lambda step: number + 0 * tf.cast(step, tf.float32)


def test_other_fields_do_not_vary(case: Case) -> None:
    fields = [f.name for f in dataclasses.fields(case.op) if f.name not in case.op.strengths]
    for field in fields:
        for varying in (ops.Value("v", 1), lambda step: step):
            with pytest.raises(TypeError, match=rf"{type(case.op).__name__}: {field} is .*may not vary"):
                dataclasses.replace(case.op, **{field: varying})
