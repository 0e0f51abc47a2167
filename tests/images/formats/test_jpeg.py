"""The markers of a JPEG: whether it is complete, and the part that decoders are given."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnv1cli.errors import ImageError
from mnv1cli.images import decode
from mnv1cli.images.formats import jpeg
from mnv1cli.types import PixelSpec
from tests.support import images
from tests.support.images import colours, encode
from tests.support.pixels import load_pixels

SPEC = PixelSpec(64)
END = b"\xff\xd9"


def make_jpeg(**options: Any) -> bytes:
    return images.jpeg(61, 83, **options)


BASELINE, PROGRESSIVE = make_jpeg(), make_jpeg(progressive=True)
RESTARTS = make_jpeg(restart_marker_rows=1, subsampling="4:2:0")
GREY = images.grey_jpeg(61, 83, restart_marker_blocks=3)


def make_segment(kind: int, content: bytes) -> bytes:
    return bytes([0xFF, kind]) + struct.pack(">H", len(content) + 2) + content


def find_pixels(data: bytes) -> int:
    at = data.index(b"\xff\xda")
    return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def find_scans(data: bytes) -> list[int]:
    """Find where the scans begin, and the end of the last one."""
    starts = [i for i in range(len(data)) if data[i : i + 2] == b"\xff\xda"]
    return [*starts, data.rindex(END)]


@pytest.mark.parametrize("data", [BASELINE, PROGRESSIVE, RESTARTS, GREY])
def test_whole_jpeg_is_given_as_it_is(data: bytes) -> None:
    found = jpeg.read(data)
    assert found.data == data
    assert (found.height, found.width) == (61, 83)


OPTIONS: list[dict[str, Any]] = [
    {"progressive": progressive, "subsampling": subsampling, **restarts}
    for progressive in (False, True)
    for subsampling in ("4:4:4", "4:2:2", "4:2:0", "4:1:1")
    for restarts in ({}, {"restart_marker_blocks": 1}, {"restart_marker_rows": 2})
]


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("height", [1, 8, 17])
@pytest.mark.parametrize("options", OPTIONS)
def test_what_pillow_writes_is_whole(options: dict[str, Any], height: int, mode: str) -> None:
    image = Image.fromarray(colours(height, 35)).convert(mode)
    data = encode(image, "JPEG", **({} if mode == "L" else options))
    assert jpeg.read(data).data == data
    assert decode.decode(data, SPEC).rgbx.shape == (height, 35, 4)


SEGMENTS = {
    "EXIF": make_segment(0xE1, b"Exif\0\0" + images.orientation_exif(6).tobytes()[6:]),
    "profile": make_segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(500)),
    "directory of further pictures": make_segment(0xE2, b"MPF\0" + bytes(50)),
    "comment": make_segment(0xFE, b"a comment"),
    "another's own": make_segment(0xEF, bytes(9)),
    "no Adobe": make_segment(0xEE, b"something else"),
    "thumbnail": make_segment(0xE0, b"JFXX\0" + bytes(30)),
    "fillers": b"\xff" * 50,
    "zeros": bytes(50),
    "restart": b"\xff\xd0",
}


@pytest.mark.parametrize("name", SEGMENTS)
def test_what_has_no_part_in_the_pixels_is_left_out(name: str) -> None:
    data = BASELINE[:2] + SEGMENTS[name] + BASELINE[2:]
    if name == "zeros":
        data = BASELINE[:20] + SEGMENTS[name] + BASELINE[20:]
    found = jpeg.read(data)
    found.cut()
    assert found.data == BASELINE
    assert bool(found.exif) == (name == "EXIF")


@pytest.mark.parametrize("after", [b"", b"x", bytes(5000), END, BASELINE, b"\xff\xda\xff"])
def test_what_comes_after_the_end_is_left_out(after: bytes) -> None:
    found = jpeg.read(PROGRESSIVE + after)
    assert found.cut() == bool(after)
    assert found.data == PROGRESSIVE


def test_segments_that_tell_colours_are_kept() -> None:
    data = encode(Image.fromarray(colours()), "JPEG", keep_rgb=True)
    adobe = make_segment(0xEE, b"Adobe\0d\0\0\0\0\0")
    assert adobe in data or b"JFIF" not in data
    assert jpeg.read(data).data == data
    with_adobe = BASELINE[:20] + adobe + BASELINE[20:]
    assert jpeg.read(with_adobe).data == with_adobe


# What is refused

START = find_pixels(BASELINE)
MIDDLE = (START + len(BASELINE)) // 2
SIZE = BASELINE.index(b"\xff\xc0") + 5
LAST_SCANS = find_scans(PROGRESSIVE)
FIRST_RESTART = RESTARTS.index(b"\xff\xd1")
SECOND_RESTART = RESTARTS.index(b"\xff\xd2")
REFUSED = {
    "no end": (BASELINE[:-2], "truncated, its end is missing"),
    "zeros for its end": (BASELINE[:MIDDLE] + bytes(3000), "truncated"),
    "end in its thumbnail alone": (
        BASELINE[:2] + make_segment(0xE1, b"Exif\0\0" + BASELINE) + BASELINE[2:-2],
        "truncated",
    ),
    "end before its pixels": (BASELINE[: START - 14] + END, "no header|missing|truncated"),
    "marker in its pixels": (BASELINE[:MIDDLE] + b"\xff\x02" + BASELINE[MIDDLE:], "unknown kind"),
    "restarts in its pixels": (
        BASELINE[:MIDDLE] + b"\xff\xd0\xff\xd1" + BASELINE[MIDDLE:],
        "a part of its pixels is missing",
    ),
    "restart lost": (
        RESTARTS[:FIRST_RESTART] + RESTARTS[SECOND_RESTART:],
        "a part of its pixels is missing",
    ),
    "restarts swapped": (
        RESTARTS.replace(b"\xff\xd1", b"\xff\xd7"),
        "a part of its pixels is missing",
    ),
    "last restart lost": (
        RESTARTS[: RESTARTS.rindex(b"\xff\xd2")] + END,
        "a part of its pixels is missing",
    ),
    "last scan lost": (PROGRESSIVE[: LAST_SCANS[-2]] + END, "some of its scans are missing"),
    "a scan in the middle lost": (
        PROGRESSIVE[: LAST_SCANS[3]] + PROGRESSIVE[LAST_SCANS[4] :],
        "some of its scans are missing",
    ),
    "two headers": (BASELINE[: SIZE - 5] + BASELINE[SIZE - 5 : SIZE + 14] * 2, "two headers"),
    "larger than its bytes": (
        BASELINE[:SIZE] + struct.pack(">HH", 9000, 9000) + BASELINE[SIZE + 4 :],
        "a part of its pixels is missing",
    ),
    "no height": (BASELINE[:SIZE] + bytes(2) + BASELINE[SIZE + 2 :], "names no size"),
    "12 bits": (
        BASELINE[: SIZE - 1] + b"\x0c" + BASELINE[SIZE:],
        "a JPEG of 3 colours with 12 bits each, which is not read",
    ),
    "no samples": (BASELINE[: SIZE + 6] + b"\0" + BASELINE[SIZE + 7 :], "makes no sense"),
    "short table": (BASELINE[:2] + make_segment(0xDB, bytes(20)) + BASELINE[2:], "too short"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_whole_is_refused(name: str) -> None:
    data, reason = REFUSED[name]
    with pytest.raises(ImageError, match=f"^(damaged JPEG: |a JPEG).*{reason}|^{reason}"):
        load_pixels(data, SPEC)


@pytest.mark.parametrize("data", [BASELINE, PROGRESSIVE, RESTARTS, GREY])
def test_no_prefix_is_whole(data: bytes) -> None:
    for length in range(3, len(data)):
        with pytest.raises(ImageError):
            load_pixels(data[:length], SPEC)


def test_one_restart_more_may_close_the_pixels() -> None:
    last = RESTARTS[RESTARTS.rindex(b"\xff\xd2") + 1]
    closed = RESTARTS[:-2] + bytes([0xFF, 0xD0 + (last + 1) % 8]) + END
    np.testing.assert_array_equal(load_pixels(closed, SPEC), load_pixels(RESTARTS, SPEC))
