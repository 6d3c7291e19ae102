"""What fails in the graph says why, in the words that it was given and no others."""

import pytest

pytest.importorskip("tensorflow")

import numpy as np

import tfjax
from tfjax._tensorflow import tf
from tfjax.graph.rows import fact
from tfjax.ops.failing import after, zero_unless


def failed(fn, *arguments):
    """The error that a function raises when it is called."""
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        fn(*arguments)
    return raised.value


@pytest.mark.parametrize("in_graph", [False, True])
def test_a_failure_shows_what_follows_its_mark(in_graph):
    def checked(x):
        return x + zero_unless(x > 2, tf.strings.join([tf.strings.as_string(x), " is too much: raise the limit"]))

    fn = tf.function(checked) if in_graph else checked
    assert int(fn(tf.constant(2))) == 2
    assert fact(failed(fn, tf.constant(3))) == "3 is too much: raise the limit"


@pytest.mark.parametrize("in_graph", [False, True])
def test_contents_pass_unless_they_are_refused(in_graph):
    def checked(contents):
        return after(zero_unless(tf.strings.length(contents) > 2, tf.constant("over 2 bytes")), contents)

    fn = tf.function(checked) if in_graph else checked
    assert fn(tf.constant("ab")) == b"ab"
    assert fact(failed(fn, tf.constant("abc"))) == "over 2 bytes"


def test_what_nobody_reads_does_not_fail():
    @tf.function
    def unread(x):
        zero_unless(x > 0, tf.constant("never"))
        return x

    assert int(unread(tf.constant(1))) == 1


def test_a_pipeline_names_stage_example_and_reason():
    def checked(example):
        return {"x": example["x"] + tf.cast(zero_unless(example["x"] > 2, tf.constant("over 2")), tf.int64)}

    pipe = tfjax.from_arrays({"x": np.arange(5)}).map(checked)
    with pytest.raises(tfjax.TfjaxError, match=r"^map\(.*checked\) failed on example 3: over 2$"):
        list(pipe.batch(2))


def test_other_failures_keep_their_own_words():
    assert fact(failed(tf.strings.to_number, tf.constant("tfjax"))).endswith("convert string: tfjax")
    assert fact(ValueError("tfjax: a message of the user's")) == "tfjax: a message of the user's"
