"""A guard against TensorFlow's WebP decoder, which writes 4 channels a frame into the memory of 3.

That is so where an animation is declared opaque; the process then ends, or goes on with what is left of its memory.
"""

from __future__ import annotations

from tfjax._tensorflow import tf

_FLAGS_AT = 20
_ANIMATED = 0x02
_ANIMATED_WITH_ALPHA = b"\x12"  # the other flags announce metadata, which are then passed over


def with_room_for_frames(contents: tf.Tensor) -> tf.Tensor:
    """A WebP, a scalar string, that declares a transparency where it is an animation; its pixels stay the same."""
    head = tf.io.decode_raw(contents, tf.uint8, fixed_length=_FLAGS_AT + 1)
    extended = tf.reduce_all(head[12:16] == list(b"VP8X"))
    animated = extended & (tf.bitwise.bitwise_and(head[_FLAGS_AT], _ANIMATED) != 0)

    def declared() -> tf.Tensor:
        rest = tf.strings.substr(contents, _FLAGS_AT + 1, tf.strings.length(contents))
        return tf.strings.join([tf.strings.substr(contents, 0, _FLAGS_AT), _ANIMATED_WITH_ALPHA, rest])

    return tf.cond(animated, declared, lambda: contents)
