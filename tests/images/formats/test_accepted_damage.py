"""Damaged JPEGs that are accepted: their pixels as far as they go, and the reason as a warning."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnv1cli.errors import ImageError
from mnv1cli.images import decode
from mnv1cli.images.formats import jpeg
from mnv1cli.types import PixelSpec
from tests.images.formats.test_jpeg_damage import DAMAGED, HARMLESS, join_scans
from tests.support.images import SAMPLES, encode, noise

WHOLE = PixelSpec(64, decode="full", damaged="accept")
DETAIL = Image.fromarray(noise(35, 47, 3)).resize((401, 303), Image.Resampling.BICUBIC)
TURNED = Image.Exif()
TURNED[0x0112] = 6
KINDS: dict[str, tuple[Image.Image, dict[str, Any]]] = {
    "baseline": (DETAIL, {}),
    "progressive": (DETAIL, {"progressive": True}),
    "grey": (DETAIL.convert("L"), {}),
    "CMYK": (DETAIL.convert("CMYK"), {}),
    "CMYK, progressive": (DETAIL.convert("CMYK"), {"progressive": True}),
    "restarts": (DETAIL, {"restart_marker_rows": 1}),
    "turned by its EXIF": (DETAIL, {"exif": TURNED}),
    "full colour": (DETAIL, {"subsampling": 0}),
}
FILES = {name: encode(image, "JPEG", **options) for name, (image, options) in KINDS.items()}
PLAIN, PROGRESSIVE = FILES["baseline"], FILES["progressive"]
SCAN = PLAIN.index(b"\xff\xda")
START = SCAN + 14


def refuse(data: bytes, spec: PixelSpec) -> str:
    """Return the reason why damaged JPEGs are refused."""
    with pytest.raises(ImageError) as caught:
        decode.decode(data, PixelSpec(spec.size, decode=spec.decode))
    return str(caught.value)


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("kind", FILES)
def test_what_is_cut_is_decoded_to_where_it_breaks_off(kind: str, closed: bool) -> None:
    data = FILES[kind]
    start = data.index(b"\xff\xda")
    cut = data[: start + (len(data) - start) * 2 // 3] + closed * jpeg.END
    image, whole = decode.decode(cut, WHOLE), decode.decode(data, WHOLE)
    assert image.warning == refuse(cut, WHOLE)
    assert not whole.warning
    assert image._replace(rgbx=whole.rgbx, warning="") == whole
    assert image.rgbx.shape == whole.rgbx.shape
    if "progressive" not in kind:
        # The picture is turned to the right: its top is there at the right side.
        top = np.s_[:, -150:] if "turned" in kind else np.s_[:150]
        np.testing.assert_array_equal(image.rgbx[top], whole.rgbx[top])
    assert not np.array_equal(image.rgbx, whole.rgbx)


@pytest.mark.parametrize("resolution", ["scaled", "full"])
@pytest.mark.parametrize("name", DAMAGED)
def test_each_damage_is_a_warning_in_the_words_of_the_refusal(name: str, resolution: Any) -> None:
    spec = PixelSpec(64, decode=resolution, damaged="accept")
    image = decode.decode(DAMAGED[name], spec)
    assert image.warning == refuse(DAMAGED[name], spec)
    # Nothing that another image has left in memory.
    again = decode.decode(DAMAGED[name], spec)
    np.testing.assert_array_equal(image.rgbx, again.rgbx)


def test_a_marker_that_libjpeg_does_not_know_ends_the_pixels() -> None:
    for data in (PLAIN, PROGRESSIVE):
        place = data.rindex(b"\xff\xda") + 500
        harmed = data[:place] + b"\xff\x3c" + data[place:]
        image = decode.decode(harmed, WHOLE)
        assert image.warning == "damaged JPEG: a segment of an unknown kind"
        expected = decode.decode(data[:place] + jpeg.END, WHOLE).rgbx
        np.testing.assert_array_equal(image.rgbx[:40], expected[:40])


def test_a_scan_for_each_component_of_which_one_is_missing() -> None:
    planes = [Image.fromarray(noise(25, 37, i)).convert("L").resize((300, 200)) for i in range(3)]
    data = join_scans(0x11, planes)
    cut = data[: data.rindex(b"\xff\xda")] + jpeg.END
    image = decode.decode(cut, WHOLE)
    assert image.warning == "damaged JPEG: some of its scans are missing"
    assert not np.array_equal(image.rgbx, decode.decode(data, WHOLE).rgbx)


@pytest.mark.parametrize(
    "data",
    [
        PLAIN[:START],
        PLAIN[:START] + jpeg.END,
        PLAIN[:SCAN],
        PLAIN[:200],
        PLAIN[:SCAN] + jpeg.END,
        PROGRESSIVE[: PROGRESSIVE.index(b"\xff\xda")] + jpeg.END,
        PROGRESSIVE[: PROGRESSIVE.index(b"\xff\xda") + 14] + jpeg.END,
        PLAIN.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"),
        b"\xff\xd8\xff" + bytes(5000),
    ],
)
def test_what_has_no_header_or_no_pixels_stays_refused(data: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        decode.decode(data, WHOLE)
    assert str(caught.value) == refuse(data, WHOLE)


def test_the_bounds_hold() -> None:
    cut = PLAIN[: len(PLAIN) // 2]
    with pytest.raises(ImageError, match="too large"):
        decode.decode(cut, PixelSpec(64, max_pixels=9999, damaged="accept"))
    first, last = PROGRESSIVE.index(b"\xff\xda"), PROGRESSIVE.rindex(b"\xff\xda")
    scans = PROGRESSIVE[:last] + PROGRESSIVE[last:-2] * jpeg.MAX_SCANS
    for data in (scans, PROGRESSIVE[:first] + PROGRESSIVE[last:-2] * (jpeg.MAX_SCANS + 1)):
        with pytest.raises(ImageError):
            decode.decode(data, WHOLE)


def test_attempts_are_bounded_as_scans_are(monkeypatch: pytest.MonkeyPatch) -> None:
    place = PROGRESSIVE.rindex(b"\xff\xda") + 500
    harmed = PROGRESSIVE[:place] + b"\xff\x3c" + PROGRESSIVE[place:]
    assert decode.decode(harmed, WHOLE).warning
    scans = PROGRESSIVE.count(b"\xff\xda")
    monkeypatch.setattr(jpeg, "MAX_WORK", scans * DETAIL.width * DETAIL.height)
    with pytest.raises(ImageError, match="a segment of an unknown kind"):
        decode.decode(harmed, WHOLE)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_harmless_has_no_warning(name: str) -> None:
    assert not decode.decode(HARMLESS[name], WHOLE).warning


@pytest.mark.parametrize("name", ["RGB PNG", "palette GIF", "RGB WebP", "RGB TIFF", "RGB BMP"])
def test_other_formats_stay_refused(name: str) -> None:
    data = SAMPLES[name].data[: len(SAMPLES[name].data) // 2]
    with pytest.raises(ImageError) as caught:
        decode.decode(data, WHOLE)
    assert str(caught.value) == refuse(data, WHOLE)


@pytest.mark.parametrize("kind", FILES)
def test_damage_anywhere_is_a_reason_or_a_picture_with_a_warning(kind: str) -> None:
    chance = random.Random(kind)
    for _ in range(60):
        data = bytearray(FILES[kind])
        for _ in range(chance.randrange(1, 5)):
            data[chance.randrange(2, len(data))] = chance.randrange(256)
        harmed = bytes(data[: chance.choice([len(data), chance.randrange(3, len(data))])])
        try:
            image = decode.decode(harmed, PixelSpec(64, max_pixels=300_000, damaged="accept"))
        except ImageError:
            continue
        if image.warning:
            assert image.warning == refuse(harmed, PixelSpec(64))
