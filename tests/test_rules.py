"""What the rules refuse, each with the class and the words that lead to the fix."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import tfjax
from tfjax._tensorflow import tf
from tfjax.errors import PlacementError, SpecError, StateMismatchError, TfjaxError


def numbers(n: int = 10) -> "tfjax.Pipeline":
    """Elements {"x": int32, "y": float32}."""
    return tfjax.from_arrays({"x": np.arange(n, dtype=np.int32), "y": np.zeros(n, np.float32)})


def same(example: Any, *_: object) -> Any:
    """A function that changes nothing, with or without a seed."""
    return example


def odd(example: dict[str, tf.Tensor]) -> tf.Tensor:
    """A predicate."""
    return example["x"] % 2 == 1


def mesh() -> Any:
    """All 8 devices on one axis."""
    import jax

    return jax.sharding.Mesh(np.array(jax.devices()), ("data",))


def first(pipe: "tfjax.Pipeline") -> object:
    """The first element of a run."""
    with pipe.iterate() as elements:
        return next(elements)


def shuffled() -> "tfjax.Pipeline":
    """A shuffled pipeline."""
    return numbers().shuffle(seed=0)


HALVES = {"a": 0.5, "b": 0.5}
ORDERS: dict[str, tuple[Callable[[], object], str]] = {
    "split after shuffle": (lambda: shuffled().split(HALVES, seed=0), "put split before shuffle"),
    "split after shuffle and take": (
        lambda: shuffled().take(3).split(HALVES, seed=0),
        "put split before shuffle",
    ),
    "two shuffles": (lambda: shuffled().map(same).shuffle(seed=1), "one shuffle .* remove one"),
    "shuffle after batch": (lambda: numbers().batch(2).shuffle(seed=0), "put shuffle before batch"),
    "split after batch": (lambda: numbers().batch(2).split(HALVES, seed=0), "put split before batch"),
    "map after batch": (lambda: numbers().batch(2).map(same), "put map before batch"),
    "random_map after batch": (lambda: numbers().batch(2).random_map(same), "put random_map before batch"),
    "filter after batch": (lambda: numbers().batch(2).filter(odd), "put filter before batch"),
    "cache after batch": (lambda: numbers().batch(2).cache("memory"), "put cache before batch"),
    "batch twice": (lambda: numbers().batch(2).batch(2), "batched once"),
    "filter after random_map": (
        lambda: numbers().random_map(same).filter(odd),
        "put filter before random_map",
    ),
    "cache after random_map": (
        lambda: numbers().random_map(same).cache("memory"),
        "put cache before random_map",
    ),
    "filter after take of a shuffle": (lambda: shuffled().take(5).filter(odd), "put filter before take"),
    "filter after skip of a shuffle": (
        lambda: shuffled().skip(5).map(same).filter(odd),
        "put filter before skip",
    ),
    "cache after take of a shuffle": (lambda: shuffled().take(5).cache("memory"), "put cache before take"),
    "place twice": (
        lambda: numbers(16).batch(8).place(mesh(), "data").place(mesh(), "data"),
        "place appears once",
    ),
    "place without batch": (lambda: numbers().place(mesh(), "data"), r"add batch\("),
    "device_map without batch": (lambda: numbers().device_map(same), r"add batch\("),
    "stack without batch": (lambda: numbers().stack(2), r"stack needs batched elements: add batch\("),
    "stack twice": (lambda: numbers().batch(2).stack(2).stack(2), "stacked once; give k the product"),
    "batch after stack": (lambda: numbers().batch(2).stack(2).batch(2), "batched once"),
    "map after stack": (lambda: numbers().batch(2).stack(2).map(same), "put map before batch"),
}


@pytest.mark.parametrize("name", ORDERS)
def test_order_of_stages(name: str) -> None:
    build, fix = ORDERS[name]
    with pytest.raises(ValueError, match=fix):
        build()


def test_orders_that_look_alike_are_allowed() -> None:
    numbers().take(5).filter(odd).cache("memory").split(HALVES, seed=0)["a"].shuffle(seed=0).batch(2)
    shuffled().filter(odd).cache("memory").random_map(same).take(2).batch(2).take(1)
    numbers().random_map(same).split(HALVES, seed=0)["a"].random_map(same).shuffle(seed=0).take(3).map(same)


VALUES: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "batch of 0": (lambda: numbers().batch(0), ValueError, "batch.*0"),
    "batch of -1": (lambda: numbers().batch(-1), ValueError, "batch.*-1"),
    "batch of 2.5": (lambda: numbers().batch(2.5), TypeError, r"2\.5"),
    "take of -1": (lambda: numbers().take(-1), ValueError, "take.*-1"),
    "skip of -1": (lambda: numbers().skip(-1), ValueError, "skip.*-1"),
    "unknown remainder": (
        lambda: numbers().batch(4, remainder="wrap"),
        ValueError,
        "(?s)(?=.*wrap)(?=.*drop)(?=.*pad)(?=.*keep)(?=.*error)",
    ),
    "stack of 0": (lambda: numbers().batch(2).stack(0), ValueError, "stack.*0"),
    "stack of 2.5": (lambda: numbers().batch(2).stack(2.5), TypeError, r"stack.*2\.5"),
    "padded stack": (
        lambda: numbers().batch(2).stack(2, remainder="pad"),
        ValueError,
        "(?s)(?=.*'pad')(?=.*keep)(?=.*drop)(?=.*error)",
    ),
    "cache elsewhere": (lambda: numbers().cache("gs://bucket/x"), ValueError, "bucket.*memory.*local disk"),
    "fractions over 1": (lambda: numbers().split({"a": 0.8, "b": 0.3}, seed=0), ValueError, r"1\.1"),
    "a negative fraction": (lambda: numbers().split({"a": 1.5, "b": -0.5}, seed=0), ValueError, r"-0\.5"),
    "select of an unknown key": (lambda: numbers().select("z"), KeyError, "(?s)z.*x.*y"),
    "drop of an unknown key": (lambda: numbers().drop("z"), KeyError, "(?s)z.*x.*y"),
    "keep_on_host of an unknown key": (lambda: numbers().keep_on_host("z"), KeyError, "(?s)z.*x.*y"),
    "select of a tuple": (lambda: tfjax.from_arrays((np.arange(3),)).select("x"), TypeError, "dict"),
    "an unshaped seed": (lambda: numbers().shuffle(seed="a"), TypeError, "seed"),
    "arrays of two lengths": (
        lambda: tfjax.from_arrays({"a": np.zeros(3), "b": np.zeros(4)}),
        ValueError,
        "(?s)a.*3.*b.*4",
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_wrong_values(name: str) -> None:
    build, kind, message = VALUES[name]
    with pytest.raises(kind, match=message):
        build()


def test_mask_that_exists_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="mask"):
        first(tfjax.from_arrays({"mask": np.arange(5)}).batch(2, remainder="pad"))


@pytest.mark.parametrize("elements", [(np.arange(5), np.arange(5)), np.arange(5)])
def test_pad_needs_dicts(elements: object) -> None:
    with pytest.raises((TypeError, ValueError), match=r"(?s)pad.*dict"):
        first(tfjax.from_arrays(elements).batch(2, remainder="pad"))


def test_a_remainder_is_an_error_where_asked() -> None:
    with pytest.raises(ValueError, match=r"(?s)(?=.*10)(?=.*4)(?=.*(drop|pad|keep))"):
        first(numbers(10).batch(4, remainder="error"))
    assert len(numbers(12).batch(4, remainder="error")) == 3


def test_a_batch_larger_than_the_dataset_with_drop() -> None:
    with pytest.raises(ValueError, match=r"(?s)(?=.*11)(?=.*10)(?=.*(keep|pad))"):
        first(numbers(10).batch(11, remainder="drop"))


def test_batches_of_two_sizes_make_no_stack() -> None:
    with pytest.raises(SpecError, match=r"(?s)stack\(k=2.*last batch.* 2 rows in place of 4.*'pad'.*'drop'"):
        len(numbers(10).batch(4).stack(2))
    with pytest.raises(SpecError, match="2 rows in place of 4"):
        numbers(10).batch(4).stack(2).place(mesh())
    assert len(numbers(10).batch(4).take(2).stack(2)) == 1


def test_a_stack_that_is_not_filled() -> None:
    with pytest.raises(ValueError, match=r"5 batches do not fill stacks of 2, 1 are left over.*'keep' or 'drop'"):
        first(numbers(10).batch(2).stack(2, remainder="error"))
    with pytest.raises(ValueError, match=r"stack of 6 is more than the 5 batches.*at most 5.*'keep'"):
        first(numbers(10).batch(2).stack(6, remainder="drop"))


def test_stacks_where_one_batch_is_taken() -> None:
    stacked = numbers(16).batch(8).stack(2)
    with pytest.raises(ValueError, match=r"to_keras.*stack\(k=2.*leave it out"):
        stacked.to_keras(x="x")
    for pipe in (lambda: stacked.place_per_device(), lambda: numbers(16).batch(8).place_per_device().stack(2)):
        with pytest.raises(ValueError, match=r"place_per_device cuts batches.*mesh"):
            pipe()


def nothing(example: dict[str, tf.Tensor]) -> tf.Tensor:
    """A predicate that keeps no row."""
    return example["x"] < 0


@pytest.mark.parametrize("how", [{"epochs": 2}, {"steps": 3}, {"forever": True}])
def test_an_empty_epoch_does_not_loop_for_ever(how: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"(?i)no (examples|rows|batch)|empty|keeps? none|0 (examples|rows)"):
        with numbers().filter(nothing).batch(2, remainder="keep").iterate(**how) as batches:
            next(batches)


def noisy(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Uses a generator that no resume can restore."""
    return example | {"y": example["y"] + tf.random.uniform([])}


def noisy_inside(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The same in the branch of a condition, in a function of its own."""
    return tf.cond(example["x"] > 3, tf.function(lambda: noisy(example)), lambda: example)


@pytest.mark.parametrize("fn", [noisy, noisy_inside])
def test_a_stateful_random_op_is_refused(fn: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match=r"(?s)(?=.*RandomUniform)(?=.*random_map)"):
        first(numbers().map(fn).batch(2))


def test_a_variable_write_is_refused_and_a_read_is_not() -> None:
    total = tf.Variable(3.0)

    def write(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        total.assign_add(1.0)
        return example

    def read(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return example | {"y": example["y"] + total}

    with pytest.raises(ValueError, match=r"(?s)AssignAddVariableOp.*variable"):
        first(numbers().map(write).batch(2))
    assert first(numbers().map(read).batch(2))["y"].tolist() == [3.0, 3.0]


def test_a_jax_function_in_map_points_to_device_map() -> None:
    with pytest.raises(TypeError, match="device_map"):
        first(numbers().map(lambda e: {"x": jnp.sin(e["y"])}).batch(2))


def test_a_predicate_gives_one_bool() -> None:
    with pytest.raises((TypeError, ValueError), match=r"(?s)filter.*bool"):
        first(numbers().filter(lambda e: e["y"]).batch(2))


def test_a_leaf_of_varying_shape_at_batch() -> None:
    with pytest.raises(SpecError, match=r"(?s)'t'.*\(None,\).*cut or pad it in map.*ensure_shape"):
        first(tfjax.from_examples([{"t": np.arange(n)} for n in range(4)]).batch(2))
    image = numbers().map(lambda e: {"image": tf.zeros([e["x"], e["x"], 3])})
    with pytest.raises(SpecError, match=r"(?s)'image'.*\(None, None, 3\).*add Resize or a crop.*ensure_shape"):
        first(image.batch(2))


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 2**40 + 5])
def test_an_int64_value_that_does_not_fit(value: int) -> None:
    pipe = tfjax.from_arrays({"id": np.array([1, 2, value, 4])}).batch(2)
    assert pipe.spec["id"].dtype == np.int32
    with pipe.iterate() as batches:
        next(batches)
        with pytest.raises(SpecError, match=r"(?s)'id'.*int32"):
            next(batches)
        assert batches.step == batches.state.step == 1


def test_a_uint64_value_that_does_not_fit() -> None:
    with pytest.raises(SpecError, match=r"(?s)'id'.*uint32"):
        first(tfjax.from_arrays({"id": np.array([1, 2**32], np.uint64)}).batch(2))


def test_text_is_refused_by_its_key_before_it_reaches_a_device() -> None:
    pipe = tfjax.from_arrays({"x": np.arange(2), "name": np.array([b"a", b"b"], object)}).batch(2)
    with pytest.raises((TypeError, ValueError), match=r"(?s)'name'.*keep_on_host"):
        first(pipe)


def test_batches_that_do_not_divide_over_the_devices() -> None:
    with pytest.raises(PlacementError, match=r"(?s)12.*8.*data.*8.*16"):
        first(numbers(48).batch(12).place(mesh(), "data"))
    with pytest.raises(PlacementError, match=r"(?s)(?=.*pad)(?=.*drop)"):
        first(numbers(20).batch(16, remainder="keep").place(mesh(), "data"))


def too_far(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Fails for x of 7 and more, and hands everything on."""
    tf.debugging.assert_less(example["x"], 7, "too far")
    return example


def too_far_computing(example: dict[str, tf.Tensor], *_: tf.Tensor) -> dict[str, tf.Tensor]:
    """The same, and computes with it."""
    return {"x": too_far(example)["x"] + 1}


@pytest.mark.parametrize("fn", [too_far, too_far_computing])
def test_a_failure_names_its_stage_and_example(fn: Callable[..., object]) -> None:
    named = rf"(?s)map\(.*{fn.__name__}\).*example [789].*too far"
    with pytest.raises(TfjaxError, match=named):
        list(shuffled().map(fn).map(same).batch(5))
    with pytest.raises(TfjaxError, match=named):
        list(shuffled().map(fn).cache("memory").batch(5))
    with pytest.raises(TfjaxError, match=named):
        list(numbers().map(fn).filter(odd).batch(2))


def test_a_failure_of_a_random_op_or_predicate_names_it_too() -> None:
    with pytest.raises(TfjaxError, match=r"(?s)random_map\(.*too_far_computing\).*example [789].*too far"):
        list(numbers().random_map(too_far_computing).batch(2))
    with pytest.raises(TfjaxError, match=r"(?s)filter\(.*example 7.*too far"):
        list(numbers().filter(lambda e: too_far(e)["x"] > 2).batch(2))


def state_of(pipe: "tfjax.Pipeline", **how: object) -> Any:
    """The state after one step."""
    with pipe.iterate(**how) as elements:
        next(elements)
        return elements.state


OTHERS: dict[str, tuple[Callable[[], "tfjax.Pipeline"], str]] = {
    "another batch size": (lambda: shuffled().map(same).batch(3), "(?s)batch.*3"),
    "another shuffle": (lambda: numbers().shuffle(seed=4).map(same).batch(2), "(?s)shuffle.*4"),
    "another seed": (lambda: shuffled().map(same).batch(2).seed(9), "(?s)seed.*9"),
    "another function": (lambda: shuffled().map(odd).batch(2), "(?s)odd"),
    "another size": (lambda: numbers(12).shuffle(seed=0).map(same).batch(2), "(?s)12"),
    "a stage more": (lambda: shuffled().map(same).take(5).batch(2), "(?s)take"),
    "a stage less": (lambda: shuffled().batch(2), "(?s)map"),
    "another version": (lambda: shuffled().map(same, version="2").batch(2), "(?s)2"),
    "another spec": (
        lambda: tfjax.from_arrays({"x": np.arange(10.0), "y": np.zeros(10)}).shuffle(seed=0).map(same).batch(2),
        "(?s)float",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_state_of_another_pipeline_names_what_differs(name: str) -> None:
    build, message = OTHERS[name]
    state = state_of(shuffled().map(same).batch(2))
    with pytest.raises(StateMismatchError, match=message):
        with build().iterate(state=state) as batches:
            next(batches)


def test_arguments_of_iterate_that_exclude_each_other() -> None:
    pipe = numbers().batch(2)
    state = state_of(pipe)
    with pytest.raises(ValueError, match="start_epoch"):
        pipe.iterate(state=state, start_epoch=1)
    for pair in ({"epochs": 1, "steps": 1}, {"epochs": 1, "forever": True}, {"steps": 1, "forever": True}):
        with pytest.raises(ValueError, match=r"(?s)" + ".*".join(pair)):
            pipe.iterate(**pair)


@pytest.mark.parametrize("how", [{"epochs": -1}, {"steps": -1}, {"start_epoch": -1}])
def test_negative_counts_of_iterate(how: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"(?s)" + next(iter(how)) + ".*-1"):
        numbers().batch(2).iterate(**how)


def test_a_state_at_or_beyond_the_end_of_the_run_leaves_nothing() -> None:
    pipe = numbers().batch(2)
    with pipe.iterate(epochs=3) as batches:
        list(batches)
        state = batches.state
    for how in ({"epochs": 3}, {"epochs": 1}, {"steps": 2}):
        with pipe.iterate(state=state, **how) as batches:
            assert list(batches) == []
