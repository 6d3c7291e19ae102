"""The frames of a WebP, and a guard against TensorFlow's decoder, which writes 4 channels a frame into the memory of 3.

That is so where an animation is declared opaque; the process then ends, or goes on with what is left of its memory.
"""

from __future__ import annotations

from tfjax._tensorflow import tf

_FRAME = b"ANMF"
_FLAGS_AT = 20
_ANIMATED = 0x02
_ANIMATED_WITH_ALPHA = b"\x12"  # the other flags announce metadata, which are then passed over


def webp_frames(contents: tf.Tensor) -> tf.Tensor:
    """How many frames a WebP, a scalar string, has at most, int32 scalar: each begins with a mark."""
    marks = tf.size(tf.strings.split(contents, sep=_FRAME)) - 1
    return tf.where(_is_animated(contents), tf.maximum(marks, 1), 1)


def with_room_for_frames(contents: tf.Tensor) -> tf.Tensor:
    """A WebP, a scalar string, that declares a transparency where it is an animation; its pixels stay the same."""

    def declared() -> tf.Tensor:
        rest = tf.strings.substr(contents, _FLAGS_AT + 1, tf.strings.length(contents))
        return tf.strings.join([tf.strings.substr(contents, 0, _FLAGS_AT), _ANIMATED_WITH_ALPHA, rest])

    return tf.cond(_is_animated(contents), declared, lambda: contents)


def _is_animated(contents: tf.Tensor) -> tf.Tensor:
    head = tf.io.decode_raw(contents, tf.uint8, fixed_length=_FLAGS_AT + 1)
    extended = tf.reduce_all(head[12:16] == list(b"VP8X"))
    return extended & (tf.bitwise.bitwise_and(head[_FLAGS_AT], _ANIMATED) != 0)
