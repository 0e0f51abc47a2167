"""The reasons why bytes are not an image, and what becomes of damaged images."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from PIL import Image

from mnv1cli.errors import ImageError
from mnv1cli.types import PixelSpec
from tests.support import images
from tests.support.images import SAMPLES, chunk, colours, depths, encode, jpeg, noise, png, png16
from tests.support.pixels import load_pixels

SPEC = PixelSpec(64)
UNTURNED = PixelSpec(64, exif=False)


def corrupt(data: bytes, start: int) -> bytes:
    return data[:start] + bytes(byte ^ 0xFF for byte in data[start:])


def cut_half(name: str) -> bytes:
    data = SAMPLES[name].data
    return data[: len(data) // 2]


RGB_ROWS = [row.tobytes() for row in colours()]

NO_IMAGE = {
    "text": (b"<html>404 Not Found</html>\n" * 9, "text"),
    "text in UTF-8": ("Grüße\n".encode() * 99, "text"),
    "zeros": (bytes(5000), "zeros"),
    "noise": (noise(30, 30, 5).tobytes(), "not an image"),
    "one byte": (b"\xff", "not an image"),
    "another format": (encode(Image.fromarray(colours()), "PPM"), "not an image"),
    "truncated JPEG": (cut_half("JPEG"), "damaged|not an image"),
    "JPEG without pixels": (jpeg(40, 56).partition(b"\xff\xda")[0], "damaged"),
    "JPEG cut in its pixels": (jpeg(200, 300)[:-2000], "damaged JPEG.*truncated"),
    "truncated PNG": (cut_half("RGB PNG"), "damaged PNG"),
    "PNG with a wrong checksum": (
        SAMPLES["RGB PNG"].data[:-14] + b"xx" + chunk(b"IEND", b""),
        "damaged PNG",
    ),
    "PNG with pixels that do not unpack": (
        png(images.WIDTH, images.HEIGHT, 8, 2, b"these are not pixels"),
        "damaged PNG",
    ),
    "PNG with pixels that unpack in part": (
        png(images.WIDTH, images.HEIGHT, 8, 2, corrupt(zlib.compress(b"".join(RGB_ROWS)), 80)),
        "damaged PNG",
    ),
    "PNG with an unknown filter": (
        png(
            images.WIDTH,
            images.HEIGHT,
            8,
            2,
            zlib.compress(b"".join(b"\x09" + r for r in RGB_ROWS)),
        ),
        "damaged PNG",
    ),
    "PNG without pixels": (png(0, 5, 8, 2, zlib.compress(bytes(5))), "not an image"),
    "PNG that claims too much": (png(60000, 60000, 8, 2, b""), "too large"),
    "truncated GIF": (cut_half("palette GIF"), "damaged|not an image"),
    "truncated BMP": (cut_half("RGB BMP"), "damaged BMP"),
    "corrupt WebP": (corrupt(SAMPLES["RGB WebP"].data, 40), "damaged"),
    "truncated WebP": (cut_half("RGB WebP"), "damaged"),
    "truncated TIFF": (cut_half("RGB TIFF"), "damaged"),
    "TIFF without image": (b"II*\0\x08\0\0\0" + bytes(10), "not an image|damaged"),
    "TIFF whose directory is beyond its end": (b"II*\0\xff\xff\0\0", "not an image|damaged"),
    "RGB PNG of 16 bits with a transparent colour": (
        png16(depths(3), chunk(b"tRNS", bytes(6))),
        "transparent colour of 16 bits",
    ),
    "TIFF of floats": (encode(Image.new("F", (9, 9)), "TIFF"), "32 bits a sample"),
    "TIFF of 32-bit integers": (encode(Image.new("I", (9, 9)), "TIFF"), "32 bits a sample"),
}


# Of a TIFF that is cut short Pillow warns before it refuses.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("exif", [True, False])
@pytest.mark.parametrize("kind", NO_IMAGE)
def test_reason_why_bytes_are_no_image(kind: str, exif: bool) -> None:
    data, reason = NO_IMAGE[kind]
    with pytest.raises(ImageError, match=reason) as caught:
        load_pixels(data, PixelSpec(64, exif=exif))
    assert str(caught.value).isprintable()


def load_or_explain(data: bytes, spec: PixelSpec) -> str | bytes:
    """Return the reason, or the pixels."""
    try:
        return load_pixels(data, spec).tobytes()
    except ImageError as error:
        return str(error)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize(
    "name",
    [
        "RGB PNG",
        "palette PNG, tRNS",
        "RGB PNG, 16 bits",
        "RGB PNG, animated",
        "RGB BMP",
        "palette GIF, animated",
        "RGB TIFF, LZW",
        "grey TIFF, 16 bits",
        "RGBA WebP",
        "JPEG",
        "CMYK JPEG",
        "MPO",
    ],
)
def test_damage_anywhere_is_a_reason_or_a_picture(name: str) -> None:
    # A size that damage made up must not cost the memory.
    spec = PixelSpec(64, max_pixels=100_000)
    random = np.random.default_rng(7)
    for _ in range(150):
        data = bytearray(SAMPLES[name].data)
        # Headers are few bytes, and decide the most.
        end = min(len(data), int(random.choice([60, len(data)])))
        data[random.integers(end)] = random.integers(256)
        load_or_explain(bytes(data), spec)
        load_or_explain(bytes(data[: random.integers(1, len(data))]), spec)


def test_acceptance_of_a_damaged_png_does_not_depend_on_exif() -> None:
    rows = b"".join(b"\0" + row for row in RGB_ROWS)
    random = np.random.default_rng(7)
    for _ in range(200):
        packed = bytearray(zlib.compress(rows))
        packed[random.integers(len(packed))] = random.integers(256)
        data = png(images.WIDTH, images.HEIGHT, 8, 2, bytes(packed))
        assert load_or_explain(data, SPEC) == load_or_explain(data, UNTURNED)
