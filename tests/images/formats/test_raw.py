"""RAWs: the pixels of their preview, turned once, and faults that name them."""

from __future__ import annotations

import contextlib
import random
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from mnv1cli.errors import ImageError
from mnv1cli.images import decode, exif
from mnv1cli.images.formats import raw
from mnv1cli.types import PixelSpec
from tests.support import raws
from tests.support.images import SAMPLES, colours, encode, jpeg, orientation_exif
from tests.support.shell import BUNDLED, mnv1

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.images.decode import DecodedImage

SPEC = PixelSpec(64)
PREVIEW = jpeg(120, 160)
MAKERS = {
    "a Canon RAW (CR2)": raws.cr2,
    "a Nikon RAW (NEF)": raws.nef,
    "a Sony RAW (ARW)": raws.arw,
    "a RAW (DNG)": raws.dng,
    "an Olympus RAW (ORF)": raws.orf,
    "a Panasonic RAW (RW2)": raws.rw2,
}
RAWS = {kind: make(PREVIEW) for kind, make in MAKERS.items()}
RAWS["a Fujifilm RAW (RAF)"] = raws.raf(PREVIEW)


def turn(orientation: int) -> DecodedImage:
    return decode.decode(jpeg(120, 160, exif=orientation_exif(orientation)), SPEC)


@pytest.mark.parametrize("kind", RAWS)
def test_preview_gives_the_pixels(kind: str) -> None:
    image = decode.decode(RAWS[kind], SPEC)
    np.testing.assert_array_equal(image.rgbx, decode.decode(PREVIEW, SPEC).rgbx)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_preview_without_exif_is_turned_as_the_raw(kind: str, orientation: int) -> None:
    image = decode.decode(MAKERS[kind](PREVIEW, orientation), SPEC)
    np.testing.assert_array_equal(image.rgbx, turn(orientation).rgbx)


@pytest.mark.parametrize("own", [1, 6, 8])
@pytest.mark.parametrize("with_jfif", [True, False])
def test_orientation_of_the_preview_comes_first(own: int, with_jfif: bool) -> None:
    preview = jpeg(120, 160, exif=orientation_exif(own))
    assert preview[2:4] == b"\xff\xe0"
    without = preview[:2] + preview[4 + int.from_bytes(preview[4:6], "big") :]
    image = decode.decode(raws.nef(preview if with_jfif else without, 3), SPEC)
    np.testing.assert_array_equal(image.rgbx, turn(own).rgbx)


@pytest.mark.parametrize(("turned", "size"), [(True, (64, 96)), (False, (96, 64))])
def test_size_and_time_are_those_of_the_raw(turned: bool, size: tuple[int, int]) -> None:
    image = decode.decode(raws.dng(PREVIEW, 6), PixelSpec(64, exif=turned))
    assert (image.width, image.height) == size
    assert image.rgbx.shape == ((160, 120, 4) if turned else (120, 160, 4))
    assert exif.read_time_taken(image.exif) == raws.TAKEN


@pytest.mark.parametrize(("kind", "taken"), [*dict.fromkeys(MAKERS, raws.TAKEN).items()])
def test_time_is_read_from_every_kind(kind: str, taken: str) -> None:
    assert exif.read_time_taken(raw.find_exif(RAWS[kind])) == taken


def test_time_of_a_raf_and_of_a_cr3_is_in_their_middle() -> None:
    times = Image.Exif()
    times[306] = raws.TIME
    assert exif.read_time_taken(raw.find_exif(raws.raf(jpeg(9, 9, exif=times)))) == raws.TAKEN
    box = b"\0\0\0\x18ftypcrx " + bytes(90) + b"CMT2" + times.tobytes()[6:]
    assert exif.read_time_taken(raw.find_exif(box)) == raws.TAKEN


@pytest.mark.parametrize("kind", RAWS)
@pytest.mark.parametrize("name", [b"", b"a.tif", b"a.jpg"])
def test_content_tells_the_kind(kind: str, name: bytes) -> None:
    assert raw.identify(RAWS[kind], name) == kind


def test_other_marks_of_raws() -> None:
    assert raw.identify(b"\0\0\0\x18ftypcrx \0\0\0\1") == "a Canon RAW (CR3)"
    assert (
        raw.identify(b"MMOR\0\0\0\x08") == raw.identify(b"IIRS\x08\0\0\0") == "an Olympus RAW (ORF)"
    )
    sensor = raws.lay_out({256: 9, 257: 9, 262: 32803, 271: "PENTAX"})
    assert raw.identify(sensor) == "a RAW of a camera"


@pytest.mark.parametrize("name", SAMPLES)
def test_other_images_are_none(name: str) -> None:
    assert raw.identify(SAMPLES[name].data, b"a.tif") == ""


def test_tiff_with_the_suffix_of_a_raw_is_no_tiff() -> None:
    data = encode(Image.fromarray(colours()), "TIFF")
    assert decode.decode(data, SPEC, name=b"a.tif").rgbx.shape == (13, 19, 4)
    with pytest.raises(ImageError, match=r"damaged, or not a Nikon RAW \(NEF\): Unsupported"):
        decode.decode(data, SPEC, name=b"photos.zip!/a.NEF")
    assert decode.decode(jpeg(13, 19), SPEC, name=b"a.nef").rgbx.shape == (13, 19, 4)


def test_bitmap_is_a_preview() -> None:
    data = raws.dng(raws.bitmap(19, 13, colours().tobytes()), 6)
    expected = np.rot90(colours(), -1)
    np.testing.assert_array_equal(decode.decode(data, SPEC).rgbx[:, :, :3], expected)


BROKEN = {
    "bitmap that claims more than there is": (
        raws.dng(raws.bitmap(19, 700, colours().tobytes())),
        "preview of a RAW .* damaged",
    ),
    "no preview": (raws.dng(raws.bitmap(0, 0, b"")), "without a preview"),
    "preview that was cut": (raws.cr2(PREVIEW[:2000]), "preview of a Canon RAW .* damaged JPEG"),
    "preview that is none": (raws.arw(bytes(5000)), "Sony RAW"),
    "only a header": (RAWS["a RAW (DNG)"][:200], "RAW"),
    "too many pixels": (raws.nef(jpeg(130, 160)), "160x130 is more than 20,000 pixels"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_raw_is_a_fault_in_a_line(name: str) -> None:
    data, reason = BROKEN[name]
    with pytest.raises(ImageError, match=reason) as caught:
        decode.decode(data, PixelSpec(64, max_pixels=20_000), name=b"a.dng")
    assert "\n" not in str(caught.value)


def test_cut_preview_can_be_accepted_with_a_warning() -> None:
    data, reason = BROKEN["preview that was cut"]
    image = decode.decode(data, replace(SPEC, damaged="accept"))
    assert re.match(reason, image.warning)
    assert image.rgbx.shape == decode.decode(raws.cr2(PREVIEW), SPEC).rgbx.shape


def test_mutated_raws_are_decoded_or_refused() -> None:
    choose = random.Random(16)
    small = jpeg(16, 24)
    whole = [make(small) for make in MAKERS.values()] + [raws.raf(small)]
    for _ in range(400):
        data = bytearray(choose.choice(whole))
        for _ in range(choose.choice((1, 2, 8))):
            # Directories are at either end.
            place = choose.choice((1, -1)) * choose.randrange(min(len(data), 900))
            data[place] = choose.choice((0, 1, 7, 255, choose.randrange(256)))
        with contextlib.suppress(ImageError):
            decode.decode(bytes(data), PixelSpec(16, max_pixels=1_000_000), name=b"a.dng")


def test_many_threads_get_the_same_pixels() -> None:
    files = [make(jpeg(120 + 4 * i, 160), 6) for i in range(3) for make in MAKERS.values()]
    expected = [decode.decode(data, SPEC).rgbx for data in files]
    with ThreadPoolExecutor(16) as pool:
        images = list(pool.map(lambda data: decode.decode(data, SPEC).rgbx, files * 2))
    assert all(map(np.array_equal, images, expected * 2))


def test_libraw_does_not_write_to_stderr(tmp_path: Path) -> None:
    """Its library prints a line for the first file, and libjpeg one for the second."""
    (tmp_path / "a.raf").write_bytes(b"FUJIFILMCCD-RAW" + bytes(105))
    noisy = PREVIEW.replace(b"\xff\xdb", bytes(9) + b"\xff\xdb", 1)
    (tmp_path / "b.nef").write_bytes(raws.nef(noisy))
    command = [sys.executable, "-m", "mnv1cli", "classify", str(tmp_path), *BUNDLED]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert all(line.startswith("mnv1: ") for line in result.stderr.splitlines())


def test_fault_names_the_extra_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, data in RAWS.items():
        (tmp_path / f"{kind[-4:-1]}.tif").write_bytes(data)
    (tmp_path / "plain.dng").write_bytes(encode(Image.fromarray(colours()), "TIFF"))
    (tmp_path / "good.tif").write_bytes(encode(Image.fromarray(colours()), "TIFF"))
    monkeypatch.setitem(sys.modules, "rawpy", None)
    result = mnv1("classify", tmp_path, *BUNDLED, "--top", 1)
    assert result.exit_code == 3
    needs = "whose preview needs an extra: pip install 'mnv1cli[raw]'"
    for kind in RAWS:
        assert f"{kind[-4:-1]}.tif: is {kind}, {needs}" in result.stderr
    assert f"plain.dng: is a RAW (DNG), {needs}" in result.stderr
    assert [line.split(",")[0] for line in result.stdout.splitlines()[1:]] == [
        str(tmp_path / "good.tif")
    ]
