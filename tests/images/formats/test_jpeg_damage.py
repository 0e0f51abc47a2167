"""JPEGs that libjpeg warns of: harmless oddities are accepted with their pixels, damage is not."""

from __future__ import annotations

import io
import random
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from mnv1cli.errors import ImageError
from mnv1cli.images import decode
from mnv1cli.types import PixelSpec
from tests.fuzz import damage
from tests.support import images
from tests.support.images import noise
from tests.support.pixels import load_pixels

if TYPE_CHECKING:
    from pathlib import Path

SPEC = PixelSpec(64)
END = b"\xff\xd9"


def make_jpeg(**options: Any) -> bytes:
    """Make a JPEG that is large enough to be decoded at 1/2, with some detail."""
    detail = Image.fromarray(noise(35, 47, 3)).resize((401, 303), Image.Resampling.BICUBIC)
    return images.encode(detail, "JPEG", **options)


PLAIN, RESTARTS = make_jpeg(), make_jpeg(restart_marker_rows=1)
PROGRESSIVE = make_jpeg(progressive=True)
TABLES = PLAIN.index(b"\xff\xdb")
SCAN = PLAIN.index(b"\xff\xda")
ADOBE = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x07"


def before_mark(mark: int, junk: bytes) -> bytes:
    place = RESTARTS.index(bytes([0xFF, mark]))
    return RESTARTS[:place] + junk + RESTARTS[place:]


HARMLESS = {
    "zeros before the end": PLAIN[:-2] + bytes(100) + END,
    "many zeros before the end": PLAIN[:-2] + bytes(9000) + END,
    "junk before the end": PLAIN[:-2] + random.Random(1).randbytes(64).replace(b"\xff", b"") + END,
    "long junk before the end": PLAIN[:-2] + bytes(range(255)) * 20 + END,
    "text before the end": PLAIN[:-2] + b"this is a camera of 1999" + END,
    "junk before the end of one with restarts": RESTARTS[:-2] + b"\x12\x34\x56\x78" * 9 + END,
    "two bytes before a restart mark": before_mark(0xD3, b"\x12\x34"),
    "junk before a restart mark": before_mark(0xD2, bytes(range(40))),
    "junk between segments": PLAIN[:TABLES] + b"abcd" + PLAIN[TABLES:],
    "an unknown Adobe transform": PLAIN[:2] + ADOBE + PLAIN[20:],
    "an unknown Adobe transform beside JFIF": PLAIN[:TABLES] + ADOBE + PLAIN[TABLES:],
    "JFIF 2.1": PLAIN.replace(b"JFIF\0\1", b"JFIF\0\2", 1),
    "a bad ICC marker": PLAIN[:2] + b"\xff\xe2\0\x10ICC_PROFILE\0\x05\x02" + PLAIN[2:],
    "parameters of a progressive scan": PLAIN[: SCAN + 11] + bytes(3) + PLAIN[SCAN + 14 :],
    "bytes behind the end": PLAIN + bytes(5000),
    "junk before the end of a progressive one": PROGRESSIVE[:-2] + bytes(100) + END,
}


@pytest.mark.parametrize("resolution", ["scaled", "full"])
@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_harmless_has_the_pixels_of_pillow(name: str, resolution: Any) -> None:
    spec = PixelSpec(64, decode=resolution)
    image = Image.open(io.BytesIO(HARMLESS[name]))
    image.draft(None, (200, 151) if resolution == "scaled" else image.size)
    rgbx = decode.decode(HARMLESS[name], spec).rgbx
    np.testing.assert_array_equal(rgbx[:, :, :3], np.asarray(image))


def join_scans(factors: int, planes: list[Image.Image]) -> bytes:
    """Make a JPEG of three components, the first with these factors, in a scan for each."""
    files = [images.encode(plane, "JPEG") for plane in planes]
    tables, _, frame = files[0].partition(b"\xff\xc0")
    codes = frame[int.from_bytes(frame[:2], "big") : frame.index(b"\xff\xda")]
    components = bytes([1, factors, 0, 2, 0x11, 0, 3, 0x11, 0])
    header = b"\xff\xc0\0\x11\x08" + frame[3:7] + b"\x03" + components
    scans = b"".join(
        b"\xff\xda\0\x08\x01" + bytes([i, 0, 0, 63, 0]) + file[file.index(b"\xff\xda") + 10 : -2]
        for i, file in enumerate(files, 1)
    )
    return tables + header + codes + scans + END


@pytest.mark.parametrize(("factors", "width"), [(0x31, 100), (0x21, 150), (0x11, 300)])
def test_unusual_sampling_and_a_scan_for_each_component(factors: int, width: int) -> None:
    sizes = [(300, 200), (width, 200), (width, 200)]
    planes = [Image.fromarray(noise(25, 37, i)).convert("L").resize(sizes[i]) for i in range(3)]
    data = join_scans(factors, planes)
    image = Image.open(io.BytesIO(data))
    rgbx = decode.decode(data, PixelSpec(64, decode="full")).rgbx
    np.testing.assert_array_equal(rgbx[:, :, :3], np.asarray(image))
    last = data.rindex(b"\xff\xda")
    with pytest.raises(ImageError, match="some of its scans are missing"):
        load_pixels(data[:last] + END, SPEC)


def find_scans(data: bytes) -> list[tuple[int, int]]:
    """Find where the coded pixels of each scan begin and end."""
    places = [match.start() for match in re.finditer(b"\xff\xda", data)]
    starts = [place + 2 + int.from_bytes(data[place + 2 : place + 4], "big") for place in places]
    end = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
    return [(start, end.search(data, start).start()) for start in starts]  # type: ignore[union-attr]


SCANS = find_scans(PROGRESSIVE)
MIDDLE = (SCAN + len(PLAIN)) // 2
DAMAGED = {
    **{f"scan {i} emptied": PROGRESSIVE[:a] + PROGRESSIVE[b:] for i, (a, b) in enumerate(SCANS)},
    **{
        f"half of scan {i} lost": PROGRESSIVE[: (a + b) // 2] + PROGRESSIVE[b:]
        for i, (a, b) in enumerate(SCANS)
    },
    "cut and closed": PLAIN[:MIDDLE] + END,
    "bytes lost": PLAIN[:MIDDLE] + PLAIN[MIDDLE + 500 :],
    "page of zeros": (big := make_jpeg(quality=98))[:9000] + bytes(4096) + big[13096:],
    "a part of CMYK lost": images.encode(Image.fromarray(noise(99, 99, 1)).convert("CMYK"), "JPEG")[
        :-900
    ]
    + END,
    "a part between restarts lost": RESTARTS[: (place := RESTARTS.index(b"\xff\xd2")) - 99]
    + RESTARTS[place:],
    "the end of the pixels repeated": PLAIN[:-2] + PLAIN[-402:],
}


@pytest.mark.parametrize("resolution", ["scaled", "full"])
@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_damaged_is_refused_in_words(name: str, resolution: Any) -> None:
    with pytest.raises(
        ImageError, match=r"^damaged JPEG: .*(missing|damaged|zeros|decoded)"
    ) as caught:
        load_pixels(DAMAGED[name], PixelSpec(64, decode=resolution))
    assert "Corrupt" not in str(caught.value)


def test_zeros_that_code_empty_blocks_are_accepted() -> None:
    data = images.encode(Image.new("RGB", (6000, 6000), "white"), "JPEG", optimize=True)
    assert bytes(4096) in data
    assert (load_pixels(data, SPEC) == 1).all()


@pytest.mark.parametrize("kind", damage.KINDS)
def test_damaged_photos_keep_their_labels_or_are_refused(kind: str, photos: Path) -> None:
    files = [path.read_bytes() for path in sorted(photos.iterdir())]
    outcome = damage.measure(files, kind, 60, seed=1)
    assert outcome.damaged > 50
    # Five times what is allowed of many, for so few.
    assert outcome.changed <= damage.ALLOWED[kind] * 60 / 500 * 5
    assert outcome.accepted > 30 if kind == "one bit flipped" else outcome.accepted < 5
    assert outcome.share >= damage.SHARE


def test_few_whole_photos_are_taken_for_damaged_where_junk_is_before_their_end(
    photos: Path,
) -> None:
    chance = random.Random(3)
    refused = 0
    for path in sorted(photos.iterdir())[:40]:
        data = path.read_bytes()
        end = data.rindex(END)
        junk = chance.randbytes(chance.choice([3, 20, 100])).replace(b"\xff", b"")
        try:
            pixels = load_pixels(data[:end] + junk + data[end:], SPEC)
        except ImageError:
            refused += 1
        else:
            np.testing.assert_array_equal(pixels, load_pixels(data, SPEC))
    assert refused <= 2
