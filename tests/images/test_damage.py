"""The reasons why bytes are not an image, and what becomes of damaged images."""

from __future__ import annotations

import zlib

import pytest
from PIL import Image

from mnv1cli.errors import ImageError
from mnv1cli.types import PixelSpec
from tests.support import images
from tests.support.images import SAMPLES, chunk, colours, depths, encode, noise, png, png16
from tests.support.pixels import load_pixels

SPEC = PixelSpec(64)


def corrupt(data: bytes, start: int) -> bytes:
    return data[:start] + bytes(byte ^ 0xFF for byte in data[start:])


RGB_ROWS = [row.tobytes() for row in colours()]

NO_IMAGE = {
    "text": (b"<html>404 Not Found</html>\n" * 9, "text"),
    "text in UTF-8": ("Grüße\n".encode() * 99, "text"),
    "zeros": (bytes(5000), "zeros"),
    "noise": (noise(30, 30, 5).tobytes(), "not an image"),
    "one byte": (b"\xff", "not an image"),
    "another format": (encode(Image.fromarray(colours()), "PPM"), "not an image"),
    "PNG with pixels that do not unpack": (
        png(images.WIDTH, images.HEIGHT, 8, 2, b"these are not pixels"),
        "damaged PNG",
    ),
    "PNG with pixels that unpack in part": (
        png(images.WIDTH, images.HEIGHT, 8, 2, corrupt(zlib.compress(b"".join(RGB_ROWS)), 80)),
        "damaged PNG",
    ),
    "PNG with an unknown filter": (
        png(images.WIDTH, images.HEIGHT, 8, 2, zlib.compress(b"\x09" + b"\x09".join(RGB_ROWS))),
        "damaged PNG",
    ),
    "PNG without pixels": (png(0, 5, 8, 2, zlib.compress(bytes(5))), "not an image"),
    "PNG that claims too much": (png(60000, 60000, 8, 2, b""), "too large"),
    "corrupt WebP": (corrupt(SAMPLES["RGB WebP"].data, 40), "damaged"),
    "TIFF without image": (b"II*\0\x08\0\0\0" + bytes(10), "not an image|damaged"),
    "TIFF whose directory is beyond its end": (b"II*\0\xff\xff\0\0", "not an image|damaged"),
    "RGB PNG of 16 bits with a transparent colour": (
        png16(depths(3), chunk(b"tRNS", bytes(6))),
        "transparent colour of 16 bits",
    ),
    "TIFF of floats": (encode(Image.new("F", (9, 9)), "TIFF"), "32 bits a sample"),
    "TIFF of 32-bit integers": (encode(Image.new("I", (9, 9)), "TIFF"), "32 bits a sample"),
}


@pytest.mark.parametrize("kind", NO_IMAGE)
def test_reason_why_bytes_are_no_image(kind: str) -> None:
    data, reason = NO_IMAGE[kind]
    with pytest.raises(ImageError, match=reason) as caught:
        load_pixels(data, SPEC)
    assert str(caught.value).isprintable()
