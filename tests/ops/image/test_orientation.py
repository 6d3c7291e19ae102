"""`Decode(orient=True)` turns a JPEG as `PIL.ImageOps.exif_transpose` does, pixel for pixel."""

import io
import struct

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("PIL")

from PIL import Image, ImageOps

from tests.ops.image.encoded import encoded, noise
from tfjax import image
from tfjax._tensorflow import tf
from tfjax.ops.image.orientation import exif_orientation, upright

TAG, SHORT = 0x0112, 3
TWO_WAYS = pytest.mark.parametrize("order", ["<", ">"], ids=["little endian", "big endian"])


def tiff(order, orientation, *, before=0, count=None):
    """A TIFF directory with `before` entries before that of the orientation."""
    others = [struct.pack(f"{order}HHII", 0x0100 + k, 4, 1, 7) for k in range(before)]
    entry = struct.pack(f"{order}HHIHH", TAG, SHORT, 1, orientation, 0)
    start = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8)
    return (
        start + struct.pack(f"{order}H", before + 1 if count is None else count) + b"".join([*others, entry]) + bytes(4)
    )


def segment(marker, payload):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(payload) + 2) + payload


def photo(*segments):
    """A JPEG with segments right after its beginning."""
    plain = encoded(noise(24, 40), "JPEG", quality=95, subsampling=0)
    return plain[:2] + b"".join(segments) + plain[2:]


def exif(*arguments, **options):
    return segment(0xE1, b"Exif\0\0" + tiff(*arguments, **options))


def read(contents):
    return int(exif_orientation(tf.constant(contents)))


def transposed(pixels, orientation):
    """The same turn by Pillow."""
    tags = Image.Exif()
    tags[TAG] = orientation
    with Image.open(io.BytesIO(encoded(pixels, "PNG", exif=tags))) as opened:
        return np.asarray(ImageOps.exif_transpose(opened))


def decoded(contents, **options):
    return image.Decode(**options).decode(tf.constant(contents)).numpy()


@TWO_WAYS
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_as_pillow_has_them(order, orientation):
    contents = photo(exif(order, orientation))
    assert read(contents) == orientation
    turned = decoded(contents, orient=True)
    assert turned.shape[:2] == ((40, 24) if orientation >= 5 else (24, 40))
    np.testing.assert_array_equal(turned, transposed(decoded(contents), orientation))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_pillow_writes_is_read(orientation):
    tags = Image.Exif()
    tags[TAG] = orientation
    assert read(encoded(noise(8, 8), "JPEG", exif=tags)) == orientation


def test_upright_in_a_graph_keeps_what_is_known_of_the_shape():
    turn = tf.function(upright, input_signature=[tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((), tf.int32)])
    assert turn.get_concrete_function().output_shapes.as_list() == [None, None, 3]


@TWO_WAYS
def test_it_is_found_among_other_entries_and_behind_other_segments(order):
    xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"x" * 500)
    profile = segment(0xE2, b"ICC_PROFILE\0" + bytes(3000))
    assert read(photo(segment(0xE0, b"JFIF\0" + bytes(9)), xmp, profile, exif(order, 6, before=11))) == 6


@TWO_WAYS
@pytest.mark.parametrize("orientation", [0, 9, 77, 65535])
def test_a_value_that_does_not_exist_is_upright(order, orientation):
    assert read(photo(exif(order, orientation))) == 1


@TWO_WAYS
def test_a_directory_that_claims_too_much_or_nothing(order):
    assert read(photo(exif(order, 6, count=0))) == 1
    assert read(photo(exif(order, 6, count=65535))) == 6
    beyond = b"Exif\0\0" + struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 2**31 - 1)
    assert read(photo(segment(0xE1, beyond))) == 1


@TWO_WAYS
def test_exif_that_is_cut_anywhere_is_no_crash(order):
    whole = photo(exif(order, 6, before=2))
    end = whole.index(b"Exif\0\0") + 6 + len(tiff(order, 6, before=2))
    read_graph = tf.function(exif_orientation, input_signature=[tf.TensorSpec((), tf.string)])
    found = [int(read_graph(whole[:cut])) for cut in range(end + 1)]
    assert set(found) == {1, 6}
    assert found[-1] == 6


def test_exif_at_the_end_of_what_is_read_is_no_crash():
    contents = photo(segment(0xE2, bytes(65533)), segment(0xE2, bytes(4090)), exif("<", 6))
    for shift in range(-40, 40):
        filled = photo(segment(0xE2, bytes(65533)), segment(0xE2, bytes(4050 + shift)), exif("<", 6))
        assert read(filled) in (1, 6)
    assert read(contents) in (1, 6)


@pytest.mark.parametrize("contents", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe1", b"\xff\xd8" + b"\xff\xe0\0\0" * 100])
def test_no_jpeg_at_all_is_upright(contents):
    assert read(contents) == 1


def test_real_files(shared_data):
    folder = shared_data / "hard_images"
    for name in ("pillow/hopper_orientation_6.jpg", "image_rs/jpg__portrait_2.jpg", "pillow/empty_gps_ifd.jpg"):
        contents = (folder / name).read_bytes()
        with Image.open(folder / name) as opened:
            assert read(contents) == opened.getexif()[TAG] > 1
            shape = ImageOps.exif_transpose(opened).size[::-1]
        turned = decoded(contents, orient=True)
        assert turned.shape[:2] == shape
        np.testing.assert_array_equal(turned, transposed(decoded(contents), read(contents)))


def test_a_truncated_or_missing_note_leaves_the_image_as_it_is(shared_data):
    for name in ("truncated_exif_dpi.jpg", "invalid-exif-without-x-resolution.jpg", "exif_gps.jpg", "hopper.jpg"):
        contents = (shared_data / "hard_images/pillow" / name).read_bytes()
        np.testing.assert_array_equal(decoded(contents, orient=True), decoded(contents))
