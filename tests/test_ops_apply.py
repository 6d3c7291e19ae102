"""`Pipeline.apply`: what becomes of ops, what is none, and strengths that vary."""

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("tensorflow")

import tfjax
from tfjax import image
from tfjax._tensorflow import tf
from tfjax.testing import exact

ROWS = {"image": np.full((12, 4, 4, 3), 100, np.uint8), "label": np.arange(12)}


def same_runs(one, other):
    """Two pipelines yield the same bits over two epochs."""
    exact(list(one.iterate(epochs=2)), list(other.iterate(epochs=2)))


# What apply takes.


@pytest.fixture
def grey():
    return tfjax.from_arrays(ROWS)


def halved(example):
    return example


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (image.RandomFlip, r"given <class .*RandomFlip'>: call it, as in RandomFlip\(\)$"),
        (image.Decode, r"given <class .*Decode'>: call it, as in Decode\(\)$"),
        (halved, r"given <function halved at .*>; map takes functions$"),
        ([image.RandomFlip()], r"given \[RandomFlip\(\)\]: pass them one by one, as in apply\(\*ops\)$"),
        (None, "given None$"),
        ("RandomFlip", "given 'RandomFlip'$"),
    ],
)
def test_what_is_no_op_is_refused_with_what_was_meant(grey, given, said):
    with pytest.raises(TypeError, match=r"^apply takes ops such as tfjax.image.RandomFlip\(\), " + said):
        grey.apply(image.RandomFlip(), given)


def test_no_op_changes_nothing(grey):
    same_runs(grey.apply(), grey)
    assert grey.apply().explain() == grey.explain()


def test_several_ops_are_one_after_the_other(grey):
    ops = (image.RandomBrightness(30), image.RandomCrop(3), image.RandomFlip())
    one_by_one = grey
    for op in ops:
        one_by_one = one_by_one.apply(op)
    same_runs(grey.apply(*ops), one_by_one)


# Strengths that vary.


def rising(step):
    return tf.cast(step, tf.float32)


@pytest.fixture
def lit(grey):
    """Batches whose light and noise are named."""
    return grey.apply(
        image.RandomBrightness(image.Value("light", default=0)), image.GaussianNoise(image.Value("noise", default=0))
    ).batch(4)


def spread(batch):
    return int(np.ptp(np.asarray(batch["image"])))


def test_a_name_that_no_op_uses_is_refused_with_those_used(lit, grey):
    with pytest.raises(ValueError, match="no op of this pipeline uses 'ligth': those used are 'light', 'noise'"):
        lit.iterate(values={"ligth": 3})
    with pytest.raises(ValueError, match="uses 'light': leave values out"):
        grey.apply(image.RandomBrightness(rising)).batch(4).iterate(values={"light": 3})


def test_a_value_that_is_not_given_has_its_default(lit):
    assert all(spread(batch) == 0 for batch in lit)
    assert spread(next(lit.iterate(values={"light": 50}))) > 0


def test_a_state_remembers_values_and_a_resumed_run_keeps_them(lit):
    with lit.iterate(epochs=2, values={"light": 50}) as run:
        next(run)
        text = run.state.to_json()
        rest = list(run)
    assert tfjax.State.from_json(text).values == {"light": 50}
    with lit.iterate(epochs=2, state=text) as run:
        exact(rest, list(run))
    with lit.iterate(epochs=2, state=text, values={"light": 0, "noise": 0}) as run:
        assert spread(next(run)) == 0 and run.state.values == {"light": 0, "noise": 0}


def test_to_tf_takes_values_as_iterate_does(lit):
    expected = list(lit.iterate(epochs=2, values={"light": 50}))
    for batch, other in zip(lit.to_tf(epochs=2, values={"light": 50}), expected, strict=True):
        assert np.array_equal(batch["image"], other["image"])
    assert all(np.ptp(batch["image"].numpy()) == 0 for batch in lit.to_tf())
    with pytest.raises(ValueError, match="no op of this pipeline uses 'ligth'"):
        lit.to_tf(values={"ligth": 3})


def test_a_schedule_on_a_stream_is_refused_and_a_value_is_not():
    stream = tfjax.from_tf(tf.data.Dataset.from_tensor_slices(ROWS))
    said = r"RandomBrightness\(.*rising\), whose strength follows the global step, needs rows.*: use a Value"
    with pytest.raises(ValueError, match=said):
        stream.apply(image.RandomBrightness(rising))
    pipe = stream.apply(image.RandomBrightness(image.Value("light", default=0))).batch(4)
    assert spread(pipe.peek()) == 0 and spread(next(pipe.iterate(values={"light": 50}))) > 0


def with_numpy(step):
    return np.minimum(step, 3)


def with_jax(step):
    return jnp.minimum(step, 3)


def with_if(step):
    return 1.0 if step < 3 else 2.0


@pytest.mark.parametrize("schedule", [with_numpy, with_jax, with_if, lambda: 1, lambda _: None, lambda _: "much"])
def test_a_schedule_that_does_not_run_in_the_graph_is_refused_by_apply(grey, schedule):
    said = (
        rf"^RandomBrightness: delta: the schedule .*{schedule.__name__} is called with an int64 tf\.Tensor inside the "
        r"graph and raised \w+: .*: use TensorFlow ops .*Value$"
    )
    with pytest.raises(TypeError, match=said):
        grey.apply(image.RandomBrightness(schedule))


def test_a_name_has_one_default(grey):
    once = grey.apply(image.RandomBrightness(image.Value("v", default=1)), image.GaussianNoise(image.Value("v", 1)))
    with pytest.raises(ValueError, match=r"GaussianBlur.*sigma is Value\('v', default=2\).*the default 1 elsewhere"):
        once.apply(image.GaussianBlur(image.Value("v", default=2)))


@pytest.mark.parametrize("method", ["map", "random_map", "filter"])
@pytest.mark.parametrize("op", [image.RandomFlip(), image.RandomFlip])
def test_an_op_is_no_function(grey, method, op):
    with pytest.raises(TypeError, match=rf"^{method} takes a function, given .*RandomFlip.*: use apply\(\.\.\.\)"):
        getattr(grey, method)(op)
