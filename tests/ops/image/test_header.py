"""The size and the format that the first bytes state."""

import pathlib
import re

import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("PIL")

from tests.ops.image.encoded import HEADERS, encoded, header, noise, table
from tfjax._tensorflow import tf
from tfjax.ops.image import header as of
from tfjax.ops.image.gif import gif_layout
from tfjax.ops.image.header import BMP, GIF, JPEG, PNG, UNKNOWN, WEBP, image_format

FORMATS = {"JPEG": JPEG, "PNG": PNG, "WEBP": WEBP, "GIF": GIF, "BMP": BMP}
SIZES = {JPEG: of.jpeg_size, PNG: of.png_size, WEBP: of.webp_size, GIF: lambda c: gif_layout(c).size, BMP: of.bmp_size}
# Pillow adds where all frames of a GIF lie to what its header states, and has the other one's height from its rows.
PILLOW_LOOKS_FURTHER = {"gif__anim__oob.gif", "decompression_bomb.gif"}


def size_of(contents):
    contents = tf.constant(contents)
    return SIZES[int(image_format(contents))](contents).numpy().tolist()


@pytest.mark.parametrize(("name", "kind"), FORMATS.items())
@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 300), (300, 7)])
def test_format_and_size_of_what_pillow_writes(name, kind, height, width):
    contents = encoded(noise(height, width), name)
    assert int(image_format(tf.constant(contents))) == kind
    assert size_of(contents) == [height, width]


def test_size_of_lossless_and_transparent_webp():
    assert size_of(encoded(noise(7, 300), "WEBP", lossless=True)) == [7, 300]
    assert size_of(encoded(noise(300, 7, 4), "WEBP")) == [300, 7]


def test_size_of_every_hard_image(shared_data):
    wrong = {}
    for path, row in table(shared_data).items():
        found = re.search(r"\((\d+), (\d+)\)", row["Pillow_header"])
        name = pathlib.PurePath(path).name
        if found and "AVIF" not in row["Pillow_header"] and name not in PILLOW_LOOKS_FURTHER:
            size = size_of(pathlib.Path(path).read_bytes())
            if size != [int(found[2]), int(found[1])]:
                wrong[name] = size, found[0]
    assert not wrong


def test_a_bmp_from_the_top_has_a_negative_height():
    assert size_of(HEADERS["bmp"](5, -9)) == [9, 5]


@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_alone_is_enough(kind):
    height, width = size_of(header(kind, width=2000, height=9000))
    assert (height, width) == (9000, 2000)


@pytest.mark.parametrize(
    "contents", [b"", b"\xff", b"\xff\xd8", b"hello, I am text", b"RIFF\0\0\0\0WAVEfmt ", b"\0" * 40]
)
def test_anything_else_is_unknown(contents):
    assert int(image_format(tf.constant(contents))) == UNKNOWN


@pytest.mark.parametrize("kind", HEADERS)
def test_a_cut_header_is_no_crash(kind):
    whole = header(kind)
    for end in range(len(whole)):
        kind = int(image_format(tf.constant(whole[:end])))
        if kind not in (JPEG, UNKNOWN):
            assert len(size_of(whole[:end])) == 2
