"""A failure that says why, from ops without effects: what nobody reads can still be pruned, which an Assert cannot.

>>> import tensorflow as tf
>>> int(zero_unless(tf.constant(False), tf.constant("too large")))
0
"""

from __future__ import annotations

from tfjax._tensorflow import tf


def zero_unless(bad: tf.Tensor, why: tf.Tensor) -> tf.Tensor:
    """An int32 zero to be used in what follows; where `bad`, the graph fails with a message that holds `why`."""
    return tf.strings.to_number(tf.where(bad, tf.strings.join(["tfjax: ", why]), "0"), tf.int32)


def after(zero: tf.Tensor, contents: tf.Tensor) -> tf.Tensor:
    """The contents of a scalar string, unless what gives the zero fails."""
    return tf.cond(tf.equal(zero, 0), lambda: contents, lambda: tf.constant(b""))
