"""Images as bytes for tests: real ones with their table, and headers that claim a size."""

import csv
import io
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image

SIDE = 30_000


def table(shared_data: pathlib.Path) -> dict[str, dict[str, str]]:
    """What TensorFlow 2.21 makes of each of the hard images, by the path of the file."""
    folder = shared_data / "hard_images"
    with (folder / "DECODE_TABLE.tsv").open(newline="") as file:
        return {str(folder / row["file"]): row for row in csv.DictReader(file, delimiter="\t")}


def noise(height=40, width=60, channels=3, *, dtype=np.uint8):
    """An image in which every pixel tells where it lies."""
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


def encoded(image, format, **options):
    """An array as a file of Pillow's."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, format, **options)
    return buffer.getvalue()


def _png(width, height):
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


def _jpeg(width, height):
    small = encoded(noise(8, 8), "JPEG")
    at = small.index(b"\xff\xc0") + 5
    return small[:at] + struct.pack(">HH", height, width) + small[at + 4 :]


def _gif(width, height):
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0;"


def gif_frame(width, height, blocks=b"\x02\x44\x01\0", *, left=0):
    """A frame of a GIF; its blocks hold one pixel, whatever size it states."""
    return b"," + struct.pack("<HHHHB", left, 0, width, height, 0) + b"\x02" + blocks


def with_screen(gif, width, height):
    """A GIF that states another screen for the same frames."""
    return gif[:6] + struct.pack("<HH", width, height) + gif[10:]


def _bmp(width, height):
    return b"BM" + struct.pack("<IIIIii", 0, 0, 54, 40, width, height) + struct.pack("<HHIIIIII", 1, 24, *[0] * 6)


def _riff(chunk, payload):
    body = b"WEBP" + chunk + struct.pack("<I", len(payload)) + payload
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_lossy(width, height):
    return _riff(b"VP8 ", b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height))


def _webp_lossless(width, height):
    return _riff(b"VP8L", b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14))


def _webp_extended(width, height):
    return _riff(b"VP8X", b"\0" * 4 + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3])


HEADERS = {
    "jpeg": _jpeg,
    "png": _png,
    "gif": _gif,
    "bmp": _bmp,
    "webp lossy": _webp_lossy,
    "webp lossless": _webp_lossless,
    "webp extended": _webp_extended,
}
# What is read of a header holds at most so many pixels a side.
LIMITS = {"webp lossy": 2**14 - 1, "webp lossless": 2**14}


def header(kind, width=SIDE, height=SIDE):
    """The first bytes of a file that states a size, and holds no pixels."""
    return HEADERS[kind](min(width, LIMITS.get(kind, width)), min(height, LIMITS.get(kind, height)))
