"""Images that end early: where Pillow leaves the rest black, they are refused."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, features

from mnv1cli.errors import ImageError
from mnv1cli.images import decode
from mnv1cli.types import PixelSpec
from tests.support import images
from tests.support.bombs import LONG, tiff
from tests.support.images import chunk, colours, encode
from tests.support.pixels import load_pixels

SPEC = PixelSpec(64)
KINDS = {
    "grey, 1 bit": (1, 0), "grey, 2 bits": (2, 0), "grey": (8, 0), "grey, 16 bits": (16, 0),
    "RGB": (8, 2), "RGB, 16 bits": (16, 2), "palette, 4 bits": (4, 3), "palette": (8, 3),
    "LA": (8, 4), "RGBA": (8, 6), "RGBA, 16 bits": (16, 6),
}  # fmt: skip
WIDTH, HEIGHT = 11, 9
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# The first column and row of each pass of Adam7, and the steps to the next ones.
PASSES = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)
)  # fmt: skip


def count_interlaced_bytes(bits: int) -> int:
    """Count the bytes of the rows of all passes, at so many bits per pixel."""
    sizes = [(len(range(x, WIDTH, dx)), len(range(y, HEIGHT, dy))) for x, y, dx, dy in PASSES]
    return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns)


def make_png(kind: str, lost: int, interlaced: bool, filling: int = 0x55) -> bytes:
    """Make a PNG that is correct, except that its packed pixels lack some bytes."""
    depth, colour_type = KINDS[kind]
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour_type, 0, 0, interlaced)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    bits = depth * CHANNELS[colour_type]
    stride = 1 + (WIDTH * bits + 7) // 8
    rows = bytearray(count_interlaced_bytes(bits) if interlaced else HEIGHT * stride)
    if not interlaced:
        for i in range(len(rows)):
            rows[i] = filling if i % stride else 0
    packed = chunk(b"IDAT", zlib.compress(bytes(rows[: len(rows) - lost])))
    palette = chunk(b"PLTE", bytes(range(256)) * 3) if colour_type == 3 else b""
    return start + palette + packed + chunk(b"IEND", b"")


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("filling", [0x55, 0])
@pytest.mark.parametrize("kind", KINDS)
def test_png_whose_pixels_end_early_is_refused(kind: str, filling: int, interlaced: bool) -> None:
    load_pixels(make_png(kind, 0, interlaced, filling), SPEC)
    whole = make_png(kind, 0, interlaced, filling)
    for lost in (1, 2, 13, 40):
        with pytest.raises(ImageError, match="damaged PNG"):
            load_pixels(make_png(kind, lost, interlaced, filling), SPEC)
    np.testing.assert_array_equal(load_pixels(whole, SPEC), load_pixels(whole + b"x", SPEC))


def test_png_in_many_chunks_whose_last_row_is_black_is_whole() -> None:
    rows = colours().copy()
    rows[-1] = 0
    data = encode(Image.fromarray(rows), "PNG")
    at = data.index(b"IDAT") - 4
    length = int.from_bytes(data[at : at + 4], "big")
    packed = data[at + 8 : at + 8 + length]
    split = b"".join(chunk(b"IDAT", packed[i : i + 7]) for i in range(0, length, 7))
    found = decode.decode(data[:at] + split + chunk(b"IEND", b""), SPEC).rgbx
    np.testing.assert_array_equal(found[:, :, :3], rows)


@pytest.mark.parametrize("kind", [b"tRNT", b"gAMA", b"tEXt"])
def test_png_with_a_wrong_checksum_anywhere_is_refused(kind: bytes) -> None:
    data = encode(Image.fromarray(colours()), "PNG")
    wrong = chunk(kind, b"abc")[:-1] + b"?"
    with pytest.raises(ImageError, match="a checksum does not fit"):
        load_pixels(data[:33] + wrong + data[33:], SPEC)


def test_png_with_an_unknown_critical_chunk_is_refused() -> None:
    data = encode(Image.fromarray(colours()), "PNG")
    with pytest.raises(ImageError, match="a chunk of an unknown kind"):
        load_pixels(data[:33] + chunk(b"IDAU", b"abc") + data[33:], SPEC)


# GIF: what ends its pixels is a code among them.


def make_gif(image: Image.Image, rows: int, **options: Any) -> bytes:
    """Make a GIF with a header for the whole image, but the pixels of only some rows."""
    whole = encode(image, "GIF", **options)
    part = encode(image.crop((0, 0, image.width, rows)), "GIF", **options)
    assert whole.index(b",\0\0\0\0") == part.index(b",\0\0\0\0")
    at = whole.index(b",\0\0\0\0") + 10
    return whole[:at] + part[at:]


def make_picture(filling: int) -> Image.Image:
    image = Image.fromarray(np.full((12, 10), filling, np.uint8))
    image.putpalette([value for i in range(256) for value in (i, 255 - i, i // 2)])
    image.putpixel((0, 0), 9)
    image.putpixel((1, 0), 0)
    return image


@pytest.mark.parametrize("forgiving", [False, True])
@pytest.mark.parametrize("interlace", [0, 1])
@pytest.mark.parametrize("options", [{}, {"transparency": 0}, {"transparency": 7}])
@pytest.mark.parametrize("filling", [0, 7, 255])
def test_gif_whose_pixels_end_early_is_refused(
    filling: int,
    options: dict[str, int],
    interlace: int,
    forgiving: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", forgiving)
    image = make_picture(filling)
    load_pixels(make_gif(image, 12, interlace=interlace, optimize=False, **options), SPEC)
    for rows in (1, 6, 11):
        data = make_gif(image, rows, interlace=interlace, optimize=False, **options)
        # What comes next may be more frames, or anything.
        for after in (b"", bytes(3000), b"\x55" * 3000, data * 20):
            with pytest.raises(ImageError, match="damaged GIF"):
                load_pixels(data + after, SPEC)


@pytest.mark.parametrize(
    "data", [b"GIF89a", b"GIF89a\5\0\5\0\0\0\0;", b"GIF89a\5\0\5\0\0\0\0!\xf9"]
)
def test_gif_without_a_picture_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match="damaged GIF: it has no picture"):
        load_pixels(data, SPEC)


# TIFF


@pytest.mark.parametrize("rows", [10, 39, 40])
def test_tiff_with_too_few_strips_is_refused(rows: int) -> None:
    data = tiff(40, 40, (273, LONG, 1, 8), (278, LONG, 1, rows), (279, LONG, 1, 40 * rows))
    if rows == 40:
        load_pixels(data, SPEC)
    else:
        with pytest.raises(ImageError, match="damaged TIFF: a part of its pixels is missing"):
            load_pixels(data, SPEC)


@pytest.mark.skipif(not features.check("libtiff"), reason="this Pillow has no libtiff")
@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_packed_tiff_whose_strip_ends_early_is_refused(compression: str) -> None:
    data = encode(Image.fromarray(images.noise(64, 64, 3)), "TIFF", compression=compression)
    with pytest.raises(ImageError):
        load_pixels(data[: len(data) - 600], SPEC)
