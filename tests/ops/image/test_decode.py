"""`Decode`: every hard image is decoded as TensorFlow documents it, or refused with path and index."""

import io
import pathlib
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("PIL")

from PIL import Image

import tfjax
from tests.ops.image.encoded import HEADERS, LIMITS, SIDE, encoded, gif_frame, header, noise, table, with_screen
from tfjax import image
from tfjax._tensorflow import tf

ROOT = pathlib.Path(__file__).resolve().parents[3]
# TensorFlow takes its palette for grey values, and its red for blue.
DECODED_OTHERWISE = {"bmp__g__pal8.bmp"}
REFUSED = {"bmp__q__rgba32.bmp"}
# GIFs whose frames Pillow lays on a larger canvas; 16-bit grey, which Pillow clips and TensorFlow halves.
PILLOW_DIFFERS = {
    "gif__anim__border_touching_layers.gif",
    "gif__anim__mixed-disposal.gif",
    "gif__anim__oob.gif",
    "png__16bpc__basi0g16.png",
    "i_trns.png",
}
OPTIONS = [
    {"channels": c, "frames": f, "dtype": d} for c in (1, 3, 4) for f in ("first", "all") for d in ("uint8", "uint16")
]


def name_of(path):
    return pathlib.PurePath(path).name


def decoder(**options):
    """`Decode` as a graph over bytes."""
    op = image.Decode(**options)
    return tf.function(op.decode, input_signature=[tf.TensorSpec((), tf.string)])


def decoded(contents, **options):
    return image.Decode(**options).decode(tf.constant(contents)).numpy()


def stated(row):
    """What the table says TensorFlow decodes a file to: (frames, height, width, channels), or None."""
    found = re.fullmatch(r"uint8\((.*)\)", row["tf_2.21_decode_image(default)"])
    return found and [int(n) for n in found[1].split(",")]


def animation(format, frames):
    """Arrays as frames."""
    first, *rest = map(Image.fromarray, frames)
    buffer = io.BytesIO()
    options = {"lossless": True, "method": 0} if format == "WEBP" else {}
    first.save(buffer, format, save_all=True, append_images=rest, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def hard(shared_data):
    return table(shared_data)


@pytest.fixture(scope="module")
def readable(hard):
    """Those that are decoded."""
    return {path: stated(row) for path, row in hard.items() if stated(row) and name_of(path) not in REFUSED}


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_shapes_are_those_of_the_table(readable, options):
    decode = decoder(**options)
    wrong = {}
    for path, shape in readable.items():
        frames, (height, width) = shape[0] if len(shape) == 4 else 1, shape[-3:-1]
        expected = [frames] * (options["frames"] == "all") + [height, width, options["channels"]]
        found = decode(pathlib.Path(path).read_bytes())
        if found.shape.as_list() != expected or found.dtype.name != options["dtype"]:
            wrong[name_of(path)] = found.shape, expected
    assert not wrong


def test_pixels_are_those_of_decode_image(readable):
    first, every = decoder(), decoder(frames="all")
    wrong = []
    for path, shape in readable.items():
        contents, name = pathlib.Path(path).read_bytes(), name_of(path)
        if name in DECODED_OTHERWISE:
            continue
        if contents.startswith(b"\xff\xd8"):
            expected = tf.io.decode_jpeg(contents, channels=3, fancy_upscaling=False).numpy()
        else:
            expected = np.broadcast_to(tf.io.decode_image(contents)[..., :3], [*shape[:-1], 3])
        frames = expected if expected.ndim == 4 else expected[np.newaxis]
        if not (np.array_equal(first(contents), frames[0]) and np.array_equal(every(contents), frames)):
            wrong.append(name)
    assert not wrong


def test_pixels_are_those_of_pillow(readable):
    decode = decoder()
    wrong = {}
    for path in readable:
        contents = pathlib.Path(path).read_bytes()
        if contents.startswith(b"\xff\xd8") or name_of(path) in PILLOW_DIFFERS:
            continue  # JPEG decoders round in several ways
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as opened:
                expected = np.asarray(opened.convert("RGB"))
        if not np.array_equal(decode(contents), expected):
            wrong[name_of(path)] = expected.shape
    assert not wrong


def test_jpeg_pixels_are_near_those_of_pillow(readable):
    for path in readable:
        if path.endswith(".jpg"):
            with Image.open(path) as opened:
                expected = np.asarray(opened.convert("RGB")).astype(int)
            difference = np.abs(decoded(pathlib.Path(path).read_bytes(), fancy_upscaling=True) - expected)
            assert difference.mean() < 3, path


@pytest.mark.slow
def test_all_others_are_refused_with_path_and_index(hard, readable):
    """Each of them, in one pipeline, with good ones around."""
    paths = list(hard)
    pipe = tfjax.from_files(paths).apply(image.Decode())
    bad = [i for i, path in enumerate(paths) if path not in readable]
    assert len(bad) == 12
    for i in bad:
        with pytest.raises(tfjax.CorruptDataError) as raised:
            pipe[i]
        assert re.match(rf"Decode\(\) failed on example {i} \(.*{re.escape(name_of(paths[i]))}", str(raised.value))
        assert "tfjax:" not in str(raised.value)
        assert "\n" not in str(raised.value)
    with pytest.raises(tfjax.CorruptDataError, match=rf"failed on example {bad[0]} .*{name_of(paths[bad[0]])}"):
        list(pipe)


def test_batches_name_the_bad_file_of_several(shared_data, tmp_path):
    good = shared_data / "hard_images/pillow/hopper.png"
    (tmp_path / "notes.jpg").write_text("no photo, whatever its name")
    pipe = tfjax.from_files([good, good, tmp_path / "notes.jpg", good]).apply(image.Decode(), image.CenterCrop(64))
    with pytest.raises(tfjax.CorruptDataError, match=r"example 2 .*notes\.jpg.*27 bytes begin as no JPEG, PNG, WebP"):
        list(pipe.batch(2))


def test_what_is_no_image_says_so():
    texts = [b"", b"a", b"\xff\xd8", b"hello, I am text", b"Beta", b"Rows", b"RIFF\0\0\0\0WAVEfmt ", b"\0" * 99]
    pipe = tfjax.from_examples([{"image": contents} for contents in texts]).apply(image.Decode())
    for row, contents in enumerate(texts):
        said = rf"failed on example {row}: its {len(contents)} bytes begin as no JPEG, PNG, WebP, GIF or BMP does$"
        with pytest.raises(tfjax.CorruptDataError, match=said):
            pipe[row]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_cut_files_are_refused_or_decoded_whole(format):
    """Cut anywhere, a file never crashes, and never comes out in another shape."""
    whole = encoded(noise(20, 30), format)
    decode = decoder()
    cuts = [*range(70), *range(70, len(whole), max(1, len(whole) // 60))]
    for cut in cuts:
        try:
            assert decode(whole[:cut]).shape == (20, 30, 3)
        except tf.errors.InvalidArgumentError:
            pass
    assert decode(whole).shape == (20, 30, 3)


class TestMaxPixels:
    def test_bombs_are_refused_with_their_size_and_the_fix(self):
        """A header of 30,000 pixels a side, or of the most that the format can state."""
        pipe = tfjax.from_examples([{"image": header(kind)} for kind in HEADERS]).apply(image.Decode())
        for row, kind in enumerate(HEADERS):
            side = min(SIDE, LIMITS.get(kind, SIDE))
            said = (
                rf"^Decode\(\) failed on example {row}: the header states {side} x {side} pixels, over "
                r"max_pixels=100000000: raise it in Decode\(max_pixels=\) if that is meant$"
            )
            with pytest.raises(tfjax.CorruptDataError, match=said):
                pipe[row]

    def test_a_raised_limit_lets_them_through_to_the_decoder(self):
        least, enough = decoder(max_pixels=1_999_999), decoder(max_pixels=2_000_000)
        for kind in HEADERS:
            contents = header(kind, 2000, 1000)
            with pytest.raises(
                tf.errors.InvalidArgumentError, match="states 1000 x 2000 pixels, over max_pixels=1999999"
            ):
                least(contents)
            try:
                assert enough(contents).shape == (1000, 2000, 3)  # the JPEG has pixels, if not enough
            except tf.errors.InvalidArgumentError as error:
                assert "over max_pixels" not in error.message

    def test_a_raised_limit_decodes_what_is_large(self):
        large = encoded(np.zeros((11_000, 10_000, 1), np.uint8), "PNG")
        with pytest.raises(tf.errors.InvalidArgumentError, match="11000 x 10000 pixels, over max_pixels=100000000"):
            decoded(large, channels=1)
        assert decoded(large, channels=1, max_pixels=2 * 10**8).shape == (11_000, 10_000, 1)

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
    def test_the_limit_itself_is_allowed(self, format):
        contents = encoded(noise(20, 30), format)
        assert decoded(contents, max_pixels=600).shape == (20, 30, 3)
        with pytest.raises(tf.errors.InvalidArgumentError, match="20 x 30 pixels, over max_pixels=599"):
            decoded(contents, max_pixels=599)

    def test_a_frame_larger_than_the_screen_is_refused(self):
        """TensorFlow allocates by the frame."""
        bomb = with_screen(encoded(noise(20, 30), "GIF"), 1, 1)
        assert decoded(bomb).shape == (20, 30, 3)
        with pytest.raises(tf.errors.InvalidArgumentError, match="20 x 30 pixels, over max_pixels=599"):
            decoded(bomb, max_pixels=599)

    @pytest.mark.parametrize("format", ["GIF", "WEBP"])
    def test_all_frames_of_an_animation_count_where_all_are_decoded(self, format):
        contents = animation(format, [noise(20, 30) ^ (50 * i) for i in range(5)])
        assert decoded(contents, frames="all", max_pixels=3000).shape == (5, 20, 30, 3)
        said = "header states 5 frames of 20 x 30 pixels, over max_pixels=2999: raise it"
        with pytest.raises(tf.errors.InvalidArgumentError, match=said):
            decoded(contents, frames="all", max_pixels=2999)
        first = decoded(contents, max_pixels=600)
        np.testing.assert_array_equal(first, decoded(contents, frames="all")[0])
        with pytest.raises(tf.errors.InvalidArgumentError, match="states 20 x 30 pixels, over max_pixels=599"):
            decoded(contents, max_pixels=599)

    def test_animations_that_are_bombs_are_refused_with_path_and_index(self, tmp_path):
        """Two of some KB, and one whose first frame is smaller than those that follow."""
        frames = [np.full((1500, 2000, 3), 50 * i, np.uint8) for i in range(4)]
        head = header("gif", 5, 9)[:-1]
        bombs = {format: animation(format, frames) for format in ("GIF", "WEBP")}
        bombs["later"] = head + gif_frame(2, 2) + gif_frame(2000, 1500) * 2 + b";"
        for name, contents in bombs.items():
            (tmp_path / name).write_bytes(contents)
        pipe = tfjax.from_files([str(tmp_path / name) for name in bombs])
        every = pipe.apply(image.Decode(frames="all", max_pixels=8 * 10**6))
        for row, (name, count) in enumerate({"GIF": 4, "WEBP": 4, "later": 3}.items()):
            said = rf"failed on example {row} .*/{name}.*states {count} frames of 1500 x 2000 pixels, over max_pixels"
            with pytest.raises(tfjax.CorruptDataError, match=said):
                every[row]
        first = pipe.apply(image.Decode(max_pixels=8 * 10**6))
        with pytest.raises(tfjax.CorruptDataError, match=r"example 2 .*/later.*3 frames of 1500 x 2000 pixels"):
            first[2]
        assert first[0]["image"].shape == first[1]["image"].shape == (1500, 2000, 3)

    def test_sides_whose_product_overflows_are_refused(self):
        for kind in ("png", "bmp"):
            with pytest.raises(tf.errors.InvalidArgumentError, match="over max_pixels"):
                decoded(header(kind, 2**31 - 1, 2**31 - 1))


class TestChannels:
    def test_grey_to_colour_and_back(self):
        grey = noise(channels=1)
        contents = encoded(grey, "PNG")
        np.testing.assert_array_equal(decoded(contents, channels=1), grey)
        np.testing.assert_array_equal(decoded(contents), np.repeat(grey, 3, -1))
        np.testing.assert_array_equal(decoded(contents, channels=4)[..., :3], np.repeat(grey, 3, -1))
        assert (decoded(contents, channels=4)[..., 3] == 255).all()

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
    def test_colour_to_grey_is_that_of_the_colours(self, format):
        contents = encoded(noise(), format)
        expected = np.asarray(Image.fromarray(decoded(contents)).convert("L")).astype(int)
        assert np.abs(decoded(contents, channels=1)[..., 0] - expected).max() <= 1

    def test_cmyk_to_grey(self, shared_data):
        contents = (shared_data / "hard_images/pillow/pil_sample_cmyk.jpg").read_bytes()
        expected = np.asarray(Image.fromarray(decoded(contents)).convert("L")).astype(int)
        assert np.abs(decoded(contents, channels=1)[..., 0] - expected).max() <= 1

    @pytest.mark.parametrize(("format", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True})])
    def test_a_transparency_is_kept_or_dropped(self, format, options):
        image = noise(channels=4)
        contents = encoded(image, format, **options)
        np.testing.assert_array_equal(decoded(contents, channels=4), image)
        np.testing.assert_array_equal(decoded(contents), image[..., :3])

    @pytest.mark.parametrize("format", ["JPEG", "WEBP", "GIF", "BMP"])
    def test_what_has_no_transparency_is_opaque(self, format):
        contents = encoded(noise(), format)
        rgba = decoded(contents, channels=4)
        np.testing.assert_array_equal(rgba[..., :3], decoded(contents))
        assert (rgba[..., 3] == 255).all()

    @pytest.mark.parametrize("colours", [2, 5, 256])
    def test_a_bmp_with_a_palette_has_its_colours(self, colours):
        palettes = Image.fromarray(noise()).quantize(colours)
        buffer = io.BytesIO()
        palettes.save(buffer, "BMP")
        np.testing.assert_array_equal(decoded(buffer.getvalue()), np.asarray(palettes.convert("RGB")))

    def test_a_bmp_whose_palette_is_not_there_is_refused(self):
        contents = bytearray(encoded(noise(channels=1), "BMP"))
        contents[14:18] = b"\xff\xff\0\0"  # where it begins, less 14
        with pytest.raises(tfjax.CorruptDataError, match="failed on example 0"):
            tfjax.from_examples([{"image": bytes(contents)}]).apply(image.Decode()).peek()

    def test_a_bmp_in_another_order_is_refused(self, shared_data):
        path = shared_data / "hard_images/pillow/bmp__q__rgba32.bmp"
        with pytest.raises(tfjax.CorruptDataError, match=r"bmp__q__rgba32.bmp.*order BGR, is not decoded: convert it"):
            tfjax.from_files([path]).apply(image.Decode()).peek()


class TestDtype:
    @pytest.mark.parametrize("stored", [1, 3, 4])
    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_16_bits_of_a_png(self, stored, channels):
        pixels = noise(channels=stored, dtype=np.uint16)
        contents = tf.io.encode_png(pixels).numpy()
        fine, coarse = (decoded(contents, channels=channels, dtype=d) for d in ("uint16", "uint8"))
        assert (fine.dtype, coarse.dtype) == (np.uint16, np.uint8)
        if channels == 1 and stored > 1:
            grey = pixels[..., :3] @ np.array([0.299, 0.587, 0.114])
            assert np.abs(fine[..., 0] - grey).max() < 20
            assert np.abs(coarse[..., 0] - grey / 256).max() < 3
        else:
            expected = np.broadcast_to(pixels[..., :3], fine[..., :3].shape)
            np.testing.assert_array_equal(fine[..., :3], expected)
            np.testing.assert_array_equal(coarse[..., :3], expected >> 8)
        if channels == 4:
            opaque = np.full(fine.shape[:2], 65535)
            np.testing.assert_array_equal(fine[..., 3], pixels[..., 3] if stored == 4 else opaque)

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_8_bits_are_scaled_to_16(self, format, channels):
        contents = encoded(noise(), format)
        coarse = decoded(contents, channels=channels)
        fine = decoded(contents, channels=channels, dtype="uint16")
        if format == "PNG" and channels == 1:
            assert np.abs(fine / 257 - coarse).max() <= 1  # libpng weighs colours before or after
        else:
            np.testing.assert_array_equal(fine, coarse.astype(np.uint16) * 257)


class TestFrames:
    @pytest.mark.slow
    def test_an_animation_that_is_declared_opaque_does_not_end_the_process(self):
        """TensorFlow writes 4 channels a frame of it into the memory of 3."""
        code = """
import io, sys
import numpy as np
from PIL import Image
from tfjax import image
from tfjax._tensorflow import tf

rng = np.random.default_rng(0)
decode = tf.function(image.Decode(frames="all").decode, input_signature=[tf.TensorSpec((), tf.string)])
for size in (8, 64, 300):
    frames = [rng.integers(0, 256, (size, size, 3), np.uint8) for _ in range(3)]
    buffer = io.BytesIO()
    first, *others = map(Image.fromarray, frames)
    first.save(buffer, "WEBP", save_all=True, append_images=others, lossless=True, duration=9)
    if not all(np.array_equal(decode(buffer.getvalue()), frames) for _ in range(10)):
        sys.exit(f"{size}: other pixels")
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 0, done.stderr[-2000:]

    @pytest.mark.parametrize(("format", "options"), [("GIF", {}), ("WEBP", {"lossless": True})])
    def test_all_or_the_first(self, format, options):
        frames = [np.full((8, 12, 3), value, np.uint8) for value in (0, 100, 200)]
        buffer = io.BytesIO()
        first, *others = map(Image.fromarray, frames)
        first.save(buffer, format, save_all=True, append_images=others, duration=40, **options)
        np.testing.assert_array_equal(decoded(buffer.getvalue(), frames="all"), frames)
        np.testing.assert_array_equal(decoded(buffer.getvalue()), frames[0])

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "GIF", "WEBP"])
    def test_a_still_image_is_one_frame(self, format):
        contents = encoded(noise(), format)
        np.testing.assert_array_equal(decoded(contents, frames="all"), decoded(contents)[np.newaxis])

    def test_the_spec_has_the_frames(self):
        pipe = tfjax.from_examples([{"image": encoded(noise(), "PNG")}])
        assert pipe.apply(image.Decode(channels=4, frames="all")).spec["image"].shape == (None, None, None, 4)
        assert pipe.apply(image.Decode(channels=1)).spec["image"].shape == (None, None, 1)


class TestMinShortSide:
    @pytest.mark.parametrize(("height", "width"), [(640, 480), (481, 641), (1000, 300), (63, 63)])
    @pytest.mark.parametrize("least", [1, 32, 64, 100, 129, 256, 480, 4000])
    def test_the_short_side_is_at_least_that(self, height, width, least):
        contents = encoded(noise(height, width), "JPEG")
        small = decoded(contents, min_short_side=least)
        short = min(height, width)
        assert min(small.shape[:2]) >= min(least, short)
        assert min(small.shape[:2]) < 2 * least or short / min(small.shape[:2]) > 7.5
        ratio = round(short / min(small.shape[:2]))
        assert ratio in (1, 2, 4, 8)
        assert small.shape[:2] == (-(-height // ratio), -(-width // ratio))

    def test_what_is_no_jpeg_is_decoded_as_ever(self):
        contents = encoded(noise(400, 400), "PNG")
        np.testing.assert_array_equal(decoded(contents, min_short_side=50), decoded(contents))

    def test_it_is_the_same_image(self, shared_data):
        contents = next((shared_data / "flowers/roses").glob("*.jpg")).read_bytes()
        whole = decoded(contents)
        small = decoded(contents, min_short_side=32)
        assert min(small.shape[:2]) < min(whole.shape[:2]) / 2
        resized = tf.image.resize(whole, small.shape[:2], antialias=True).numpy()
        assert np.corrcoef(resized.ravel(), small.ravel())[0, 1] > 0.97


def test_fancy_upscaling_is_that_of_tensorflow(shared_data):
    contents = (shared_data / "hard_images/pillow/hopper.jpg").read_bytes()
    np.testing.assert_array_equal(decoded(contents, fancy_upscaling=True), tf.io.decode_jpeg(contents, channels=3))
    assert not np.array_equal(decoded(contents), decoded(contents, fancy_upscaling=True))


@pytest.mark.parametrize(
    ("leaf", "said"),
    [
        (np.zeros((2, 4, 4, 3), np.uint8), r"'image' is uint8 of shape \(4, 4, 3\), which is no encoded image: leave"),
        (np.zeros(2, np.int32), r"'image' is int32 of shape \(\)"),
        (np.array([["a", "b"], ["c", "d"]]), r"'image' is string of shape \(2,\)"),
    ],
)
def test_what_is_not_encoded_is_a_type_error(leaf, said):
    with pytest.raises(TypeError, match=said):
        tfjax.from_arrays({"image": leaf}).apply(image.Decode())


def test_a_second_decode_is_a_type_error():
    pipe = tfjax.from_examples([{"image": encoded(noise(), "PNG")}]).apply(image.Decode())
    with pytest.raises(TypeError, match="leave Decode out where it is decoded already"):
        pipe.apply(image.Decode())


def test_other_keys():
    contents = encoded(noise(), "PNG")
    pipe = tfjax.from_examples([{"views": {"left": contents}, "image": b"not read"}])
    left = pipe.apply(image.Decode(key="views/left")).drop("image")
    np.testing.assert_array_equal(left[0]["views"]["left"], noise())
    with pytest.raises(KeyError, match="right"):
        pipe.apply(image.Decode(key="views/right"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"channels": 2}, r"channels=2: choose 1 \(grey\), 3 \(RGB\) or 4 \(RGBA\)"),
        ({"frames": "last"}, r"frames='last': choose 'first' or 'all'"),
        ({"dtype": "float32"}, r"dtype='float32': choose 'uint8' or 'uint16'"),
        ({"max_pixels": 0}, r"Decode: max_pixels takes an int from 1 to 2\*\*62, given 0"),
        ({"min_short_side": 0}, r"Decode: min_short_side takes an int from 1 to 2\*\*62, given 0"),
        ({"min_short_side": -1}, r"Decode: min_short_side takes an int from 1"),
    ],
)
def test_arguments(options, said):
    with pytest.raises(ValueError, match=said):
        image.Decode(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"channels": True}, "Decode: channels takes an int, given True"),
        ({"channels": 3.0}, "Decode: channels takes an int, given 3.0"),
        ({"min_short_side": 2.5}, "Decode: min_short_side takes an int, given 2.5"),
        ({"max_pixels": "x"}, "Decode: max_pixels takes an int, given 'x'"),
        ({"max_pixels": None}, "Decode: max_pixels takes an int, given None"),
        ({"orient": "yes"}, "Decode: orient takes True or False, given 'yes'"),
        ({"fancy_upscaling": 1}, "Decode: fancy_upscaling takes True or False, given 1"),
    ],
)
def test_kinds_of_arguments(options, said):
    with pytest.raises(TypeError, match=said):
        image.Decode(**options)


def test_numbers_of_numpy_are_held_as_ints():
    assert repr(image.Decode(np.int64(1), min_short_side=np.uint8(9))) == "Decode(1, min_short_side=9)"
