"""Where the frames of a GIF lie and how large they are: TensorFlow's decoder takes memory for all of them.

A GIF is a header, and then parts: extensions and frames, each followed by blocks of a length and as many bytes, of
which the last has a length of 0.
"""

from __future__ import annotations

from typing import NamedTuple

from tfjax._tensorflow import tf

_HEADER_BYTES = 13
_FRAME_BYTES = 10
_RUN = 2**12  # blocks that are looked at together
_EXTENSION, _FRAME = ord("!"), ord(",")


class GifLayout(NamedTuple):
    """What a GIF states.

    Attributes:
        size: int32 (2,), height and width, the largest of its screen and of all frames.
        frames: int32 scalar, how many there are, at least 1.
        first_end: int32 scalar, the byte after the first frame, where that frame alone is decoded to the same pixels as
            among the others: it begins at the corner, none is larger, and it is whole. Else 0.
    """

    size: tf.Tensor
    frames: tf.Tensor
    first_end: tf.Tensor


def gif_layout(contents: tf.Tensor) -> GifLayout:
    """Walk over the parts of a GIF, a scalar string; what is cut off reads as zeros.

    Blocks of the same length, as encoders write them, are passed over at once: 5 steps of 40 us a frame.
    """
    data = tf.io.decode_raw(contents, tf.uint8)
    end = tf.size(data)
    data = tf.pad(data, [[0, _HEADER_BYTES]])

    def number(at: tf.Tensor | int) -> tf.Tensor:
        return tf.cast(data[tf.minimum(at, end)], tf.int32)

    def sides(at: tf.Tensor | int) -> tf.Tensor:
        # Width and height, two bytes each.
        pair = tf.bitcast(tf.reshape(data[tf.minimum(at, end) :][:4], (2, 2)), tf.uint16)
        return tf.cast(pair, tf.int32)[::-1]

    def colours(flags: tf.Tensor) -> tf.Tensor:
        return tf.where(flags >= 128, 3 * 2 ** (flags % 8 + 1), 0)

    def blocks(walk: _Walk) -> _Walk:
        length = number(walk.at)
        step = length + 1
        same = data[walk.at : tf.minimum(end, walk.at + step * _RUN) : step] == tf.cast(length, tf.uint8)
        run = tf.where(length > 0, tf.reduce_sum(tf.math.cumprod(tf.cast(same, tf.int32))), 0)
        at = walk.at + step * run
        ends = number(at) == 0
        at += tf.cast(ends, tf.int32)
        is_first = ends & walk.in_frame & (walk.frames == 1)
        return walk._replace(at=at, inside=~ends, first_end=tf.where(is_first, at, walk.first_end))

    def part(walk: _Walk) -> _Walk:
        kind, at = number(walk.at), walk.at
        is_frame = kind == _FRAME
        size = tf.where(is_frame, sides(at + 5), 0)
        at_corner = tf.reduce_all(sides(at + 1) == 0)
        # TensorFlow's decoder goes on after an extension whose first block has a length of 0.
        extension = 2 + tf.cast(number(at + 2) == 0, tf.int32)
        return _Walk(
            at=at + tf.where(is_frame, _FRAME_BYTES + colours(number(at + 9)) + 1, extension),
            inside=is_frame | (kind == _EXTENSION),
            in_frame=is_frame,
            frames=walk.frames + tf.cast(is_frame, tf.int32),
            largest=tf.maximum(walk.largest, size),
            first=tf.where(is_frame & (walk.frames == 0) & at_corner, size, walk.first),
            first_end=walk.first_end,
        )

    def more(walk: _Walk) -> tf.Tensor:
        kind = number(walk.at)
        return walk.inside | (kind == _FRAME) | (kind == _EXTENSION)

    def further(*given: tf.Tensor) -> _Walk:
        # Both are worked out: a `tf.cond` would be two more functions for TensorFlow to optimise.
        walk = _Walk(*given)
        return _Walk(*(tf.where(walk.inside, *pair) for pair in zip(blocks(walk), part(walk), strict=True)))

    nothing, zero, no = tf.zeros((2,), tf.int32), tf.constant(0), tf.constant(False)
    start = _Walk(_HEADER_BYTES + colours(number(10)), no, no, zero, nothing, nothing, zero)
    walk = _Walk(*tf.while_loop(lambda *walk: more(_Walk(*walk)), further, start))
    alone = tf.reduce_all(walk.first == walk.largest) & (walk.first_end <= end)
    return GifLayout(tf.maximum(sides(6), walk.largest), tf.maximum(walk.frames, 1), tf.where(alone, walk.first_end, 0))


class _Walk(NamedTuple):
    at: tf.Tensor
    inside: tf.Tensor  # whether among blocks
    in_frame: tf.Tensor  # whether those are of a frame
    frames: tf.Tensor
    largest: tf.Tensor
    first: tf.Tensor  # the size of the first frame where it begins at the corner
    first_end: tf.Tensor


def first_frame(contents: tf.Tensor, layout: GifLayout) -> tf.Tensor:
    """A GIF, a scalar string, of the first frame alone where that has the same pixels; else as it is."""
    alone = tf.strings.join([tf.strings.substr(contents, 0, layout.first_end), ";"])
    return tf.where(layout.first_end > 0, alone, contents)
