"""The orientation in an image's EXIF or XMP; on whole ones the same that Pillow reads."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mnv1cli.images import exif
from mnv1cli.types import PixelSpec
from tests.support import images
from tests.support.images import chunk, colours, encode, jpeg
from tests.support.oriented import ORIENTED
from tests.support.pixels import read_rgb

if TYPE_CHECKING:
    from collections.abc import Callable

SHORT = 3
SPEC = PixelSpec(64)


def make_block(
    order: str, tag: int, kind: int, count: int, value: bytes, head: bytes = b""
) -> bytes:
    """Make an EXIF block of one entry; `order` is "<" or ">"."""
    head = head or {"<": b"II*\0", ">": b"MM\0*"}[order]
    entry = struct.pack(f"{order}HHI", tag, kind, count) + value.ljust(4, b"\0")
    return head + struct.pack(f"{order}IH", 8, 1) + entry + bytes(4)


def read_with_pillow(data: bytes) -> int:
    found = Image.Exif()
    found.load(data)
    value = found.get(images.ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


@pytest.mark.parametrize("orientation", range(12))
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("kind", "form"), [(3, "H"), (4, "I"), (6, "b"), (8, "h"), (9, "i")])
def test_orientation_is_that_of_pillow(kind: int, form: str, order: str, orientation: int) -> None:
    data = make_block(order, 0x112, kind, 1, struct.pack(f"{order}{form}", orientation))
    expected = orientation if 1 <= orientation <= 8 else 1
    assert exif.read_orientation(data) == read_with_pillow(data) == expected
    assert exif.read_orientation(b"Exif\0\0Exif\0\0" + data) == expected


DAMAGED = {
    "nothing": b"",
    "prefix alone": b"Exif\0\0",
    "no TIFF": b"garbage, and more garbage",
    "another tag": make_block("<", 0x111, SHORT, 1, b"\6\0"),
    "two values": make_block("<", 0x112, SHORT, 2, b"\6\0"),
    "a byte": make_block("<", 0x112, 1, 1, b"\6"),
    "text": make_block("<", 0x112, 2, 2, b"6\0"),
    "text beyond the end": make_block("<", 0x112, 2, 999, b"\xe7\3\0\0"),
    "a fraction": make_block("<", 0x112, 5, 1, b"\6\0"),
    "negative": make_block("<", 0x112, 8, 1, b"\xff\xff"),
    "beyond the end": b"MM\0*\xff\xff\xff\xff",
    "cut short": make_block("<", 0x112, SHORT, 1, b"\6\0")[:-8],
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_no_orientation(name: str) -> None:
    assert exif.read_orientation(DAMAGED[name]) == 1


# Pillow warns of it; whether that is an error is up to the program.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP"])
def test_damaged_exif_leaves_the_image_readable(kind: str, name: str) -> None:
    data = ORIENTED[kind](exif=b"Exif\0\0" + DAMAGED[name])
    np.testing.assert_array_equal(read_rgb(data, SPEC), read_rgb(ORIENTED[kind](), SPEC))


@pytest.mark.parametrize("name", ["nothing", "no TIFF", "another tag", "beyond the end"])
def test_orientation_in_xmp_counts_where_exif_has_none(name: str) -> None:
    for xmp in (b'<rdf tiff:Orientation="8"/>', b"<tiff:Orientation>8</tiff:Orientation>"):
        assert exif.read_orientation(DAMAGED[name], xmp) == 8
        assert exif.read_orientation(make_block("<", 0x112, SHORT, 1, b"\3\0"), xmp) == 3
    assert exif.read_orientation(b"", b'tiff:Orientation="9"') == 1


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.binary(max_size=60), st.binary(max_size=30))
def test_any_bytes_have_one_of_eight(data: bytes, xmp: bytes) -> None:
    for start in (b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"):
        assert 1 <= exif.read_orientation(start + data, xmp) <= 8


def insert_chunk(more: bytes) -> bytes:
    data = encode(Image.fromarray(colours()), "PNG")
    return data[:33] + more + data[33:]


def split_exif() -> bytes:
    data, told = jpeg(40, 56), images.orientation_exif(6).tobytes().removeprefix(b"Exif\0\0")
    parts = [b"Exif\0\0" + told[:12], b"Exif\0\0" + told[12:]]
    segments = [b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts]
    return data[:2] + b"".join(segments) + data[2:]


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
RAW = images.orientation_exif(6).tobytes().hex()
TURNED: dict[str, Callable[[], bytes]] = {
    "JPEG, XMP": lambda: encode(Image.fromarray(colours()), "JPEG", xmp=XMP),
    "WebP, XMP": lambda: encode(Image.fromarray(colours()), "WEBP", xmp=XMP),
    "PNG, XMP": lambda: insert_chunk(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
    "PNG, raw profile": lambda: insert_chunk(
        chunk(b"tEXt", f"Raw profile type exif\0\nexif\n{len(RAW) // 2}\n{RAW}\n".encode())
    ),
    "PNG, eXIf": lambda: insert_chunk(
        chunk(b"eXIf", images.orientation_exif(6).tobytes().removeprefix(b"Exif\0\0"))
    ),
    "JPEG, in two parts": split_exif,
}


@pytest.mark.parametrize("kind", TURNED)
def test_wherever_a_file_keeps_its_orientation_it_is_found(kind: str) -> None:
    data = TURNED[kind]()
    turned, upright = (read_rgb(data, PixelSpec(64, exif=exif)) for exif in (True, False))
    assert turned.shape[:2] == upright.shape[1::-1]
