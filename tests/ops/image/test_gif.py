"""Where the frames of a GIF lie, against what TensorFlow's decoder makes of them."""

import io
import pathlib

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("PIL")

from PIL import Image

from tests.ops.image.encoded import encoded, gif_frame, header, noise, table, with_screen
from tfjax._tensorflow import tf
from tfjax.ops.image import gif

LAYOUT = tf.function(gif.gif_layout, input_signature=[tf.TensorSpec((), tf.string)])


def layout(contents):
    found = LAYOUT(contents)
    return found.size.numpy().tolist(), int(found.frames), int(found.first_end)


def size_of(contents):
    return layout(contents)[0]


def animation(frames, **options):
    first, *rest = map(Image.fromarray, frames)
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=rest, **options)
    return buffer.getvalue()


def first_of(contents):
    """The first frame, of the whole file and of what is left of it."""
    cut = gif.first_frame(tf.constant(contents), LAYOUT(contents))
    return [tf.io.decode_image(c, expand_animations=False).numpy() for c in (contents, cut)]


@pytest.mark.parametrize("colours", [2, 256])
@pytest.mark.parametrize("comment", [b"", b"short", b"long, with a , and a !" * 40])
def test_size_of_a_gif_is_that_of_its_first_frame_where_it_is_larger(colours, comment):
    whole = encoded(noise(20, 300, 1) // (256 // colours), "GIF", comment=comment, transparency=1)
    assert size_of(with_screen(whole, 1, 1)) == [20, 300]
    assert size_of(with_screen(whole, 7, 40)) == [40, 300]


def test_size_of_a_gif_whose_extension_has_no_end():
    assert size_of(header("gif", 5, 9)[:-1] + b"!\xfe\xff,") == [9, 5]


def test_every_hard_image_has_the_frames_that_are_decoded(shared_data):
    checked = 0
    for path in table(shared_data):
        contents = pathlib.Path(path).read_bytes()
        try:
            decoded = tf.io.decode_gif(contents) if contents[:4] == b"GIF8" else None
        except tf.errors.InvalidArgumentError:
            continue
        if decoded is not None:
            (height, width), frames, _ = layout(contents)
            assert frames == len(decoded) and height >= decoded.shape[1] and width >= decoded.shape[2]
            np.testing.assert_array_equal(*first_of(contents))
            checked += 1
    assert checked > 10


@pytest.mark.parametrize("disposal", [0, 1, 2])
@pytest.mark.parametrize("side", [5, 90])
def test_the_frames_of_an_animation(side, disposal):
    contents = animation(noise(side, 3 * side, 7).transpose(2, 0, 1), disposal=disposal, comment=b"a , and a !" * 40)
    size, frames, end = layout(contents)
    assert size == [side, 3 * side] and frames == len(tf.io.decode_gif(contents)) == 7
    assert 0 < end < len(contents) / 3
    np.testing.assert_array_equal(*first_of(contents))


def test_blocks_of_any_lengths():
    blocks = b"".join(bytes([n]) + b"," * n for n in [*range(1, 256), 3, 3, 255, 255, 255, 7]) + b"\0"
    contents = header("gif", 5, 9)[:-1] + gif_frame(70, 30, blocks) + gif_frame(1, 80) + b";"
    assert layout(contents)[:2] == ([80, 70], 2)


WHOLE, OFF, WIDER = gif_frame(2, 2), gif_frame(1, 1, left=1), gif_frame(3, 2)


@pytest.mark.parametrize(("frames", "is_alone"), [((WHOLE, OFF), True), ((OFF, WHOLE), False), ((WHOLE, WIDER), False)])
def test_a_first_frame_that_is_not_all_of_the_picture_stays_among_the_others(frames, is_alone):
    start = header("gif", 2, 2)[:-1]
    end = len(start + frames[0]) if is_alone else 0
    assert layout(start + b"".join(frames) + b";")[1:] == (2, end)


def test_a_cut_file_is_left_as_it_is():
    contents = animation(noise(20, 30, 2).transpose(2, 0, 1))
    end = layout(contents)[2]
    for size in [*range(0, len(contents), 41), end - 1, end]:
        assert layout(contents[:size])[2] in (0, end)
        assert size >= end or layout(contents[:size])[2] == 0


def test_what_hides_behind_an_extension_without_a_block():
    """As TensorFlow's decoder reads it, the block that follows still belongs to the extension."""
    hidden = b"!\xfe\0" + b"\x01;" + b"\0" + gif_frame(60_000, 50_000)
    assert layout(header("gif", 5, 9)[:-1] + hidden + b";")[:2] == ([50_000, 60_000], 1)
