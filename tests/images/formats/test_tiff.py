"""TIFFs with signed samples: the lowest value is black, the highest white."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mnv1cli.errors import ImageError
from mnv1cli.images.decode import decode
from mnv1cli.types import PixelSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPEC = PixelSpec(4)
UNSIGNED, SIGNED, UNDEFINED = 1, 2, 4
ORDERS = {"<": b"II", ">": b"MM"}


def tiff(
    samples: NDArray[Any],
    sample_format: int | None,
    order: str = "<",
    *,
    big: bool = False,
    photometric: int | None = None,
    packed: bool = False,
    tags: dict[int, list[int]] | None = None,
) -> bytes:
    """Make a TIFF or BigTIFF of one strip, laid out as in TIFF 6.0, section 2."""
    h, w, *rest = samples.shape
    bands = rest[0] if rest else 1
    bits = samples.dtype.itemsize * 8
    strip = samples.astype(samples.dtype.newbyteorder(order)).tobytes()  # type: ignore[arg-type]
    strip = zlib.compress(strip) if packed else strip
    colour = (2 if bands > 1 else 1) if photometric is None else photometric
    values = {256: [w], 257: [h], 258: [bits] * bands, 259: [8 if packed else 1], 262: [colour],
              273: [0], 277: [bands], 278: [h], 279: [len(strip)]}  # fmt: skip
    if sample_format is not None:
        values[339] = [sample_format] * bands
    values = dict(sorted({**values, **(tags or {})}.items()))
    start, room, pointer = (16, 8, "Q") if big else (8, 4, "I")
    header = ORDERS[order] + (
        struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8)
    )
    length = (8 if big else 2) + len(values) * (12 + 2 * room - 8) + room
    beyond, entries = b"", b""
    for tag, numbers in values.items():
        kind, code = (4, "I") if tag in (273, 279) else (3, "H")
        longest = sum(2 * len(v) for v in values.values() if 2 * len(v) > room)
        content = [start + length + longest] if tag == 273 else numbers
        data = struct.pack(f"{order}{len(numbers)}{code}", *content)
        if len(data) > room:
            place = struct.pack(order + pointer, start + length + len(beyond))
            beyond, data = beyond + data, place
        entries += struct.pack(f"{order}HH{pointer}", tag, kind, len(numbers))
        entries += data.ljust(room, b"\0")
    number = struct.pack(order + ("Q" if big else "H"), len(values))
    return header + number + entries + bytes(room) + beyond + strip


def grid(dtype: Any, bands: int | None = None) -> NDArray[Any]:
    """The whole range of a signed type, its ends, and what is around zero."""
    info = np.iinfo(dtype)
    some = [info.min, -1, 0, 1, info.max, -info.max // 2, info.max // 2, 77]
    shape = (4, 6) if bands is None else (4, 6, bands)
    return np.resize(np.array(some, dtype), shape)


def lifted(samples: NDArray[Any]) -> NDArray[Any]:
    """The same samples as offsets from the lowest value."""
    unsigned = np.dtype(samples.dtype.str.replace("i", "u"))
    return (samples.astype(np.int64) - np.iinfo(samples.dtype).min).astype(unsigned)


# Pillow reads no BigTIFF with the highest byte first.
LAYOUTS = [("<", False), ("<", True), (">", False)]


@pytest.mark.parametrize(("order", "big"), LAYOUTS)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("photometric", "dtype"), [(0, np.int8), (1, np.int8), (0, np.int16), (1, np.int16)]
)
def test_signed_grey_is_read_as_offsets(
    order: str, packed: bool, big: bool, photometric: int, dtype: Any
) -> None:
    samples = grid(dtype)
    if not photometric and samples.dtype.itemsize == 2:
        # The only one of the kind that Pillow reads.
        order = "<"
    options: dict[str, Any] = {"big": big, "packed": packed, "photometric": photometric}
    pixels = decode(tiff(samples, SIGNED, order, **options), SPEC).rgbx
    expected = decode(tiff(lifted(samples), UNSIGNED, order, **options), SPEC).rgbx
    np.testing.assert_array_equal(pixels, expected)
    grey = lifted(samples) >> (8 * (samples.dtype.itemsize - 1))
    np.testing.assert_array_equal(pixels[..., 0], grey if photometric else 255 - grey)


@pytest.mark.parametrize(("order", "big"), LAYOUTS)
@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_signed_colours_are_read_as_offsets(order: str, big: bool, dtype: Any) -> None:
    samples = grid(dtype, 3)
    pixels = decode(tiff(samples, SIGNED, order, big=big), SPEC).rgbx
    np.testing.assert_array_equal(
        pixels[..., :3], lifted(samples) >> (8 * (samples.dtype.itemsize - 1))
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("exif", [True, False])
def test_signed_samples_are_turned_as_others(orientation: int, order: str, exif: bool) -> None:
    samples = grid(np.int16)
    spec = PixelSpec(4, exif=exif)
    tags = {274: [orientation]}
    pixels = decode(tiff(samples, SIGNED, order, tags=tags), spec).rgbx
    expected = decode(tiff(lifted(samples), UNSIGNED, order, tags=tags), spec).rgbx
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bands", [None, 3])
def test_undefined_and_absent_formats_count_as_unsigned(dtype: Any, bands: int | None) -> None:
    samples = grid(np.dtype(dtype).str.replace("u", "i"), bands).view(dtype)
    expected = decode(tiff(samples, UNSIGNED), SPEC).rgbx
    for sample_format in (UNDEFINED, None):
        np.testing.assert_array_equal(decode(tiff(samples, sample_format), SPEC).rgbx, expected)


@pytest.mark.parametrize("sample_format", [UNSIGNED, SIGNED])
def test_32_bits_are_refused_either_way(sample_format: int) -> None:
    samples = np.arange(24, dtype=np.int32).reshape(4, 6)
    with pytest.raises(ImageError, match="32 bits a sample"):
        decode(tiff(samples, sample_format), SPEC)


def test_palette_is_not_touched() -> None:
    indices = np.arange(24, dtype=np.uint8).reshape(4, 6)
    colours = {320: [i * 257 for i in range(256)] * 3}
    expected = decode(tiff(indices, UNSIGNED, photometric=3, tags=colours), SPEC).rgbx
    np.testing.assert_array_equal(expected[..., 0], indices)
    pixels = decode(tiff(indices, SIGNED, photometric=3, tags=colours), SPEC).rgbx
    np.testing.assert_array_equal(pixels, expected)


def test_formats_that_lie_outside_of_the_file_do_no_harm() -> None:
    good = tiff(grid(np.int16, 3), SIGNED)
    at = good.index(struct.pack("<HHI", 339, 3, 3)) + 8
    for place in (0, len(good) - 2, 0xFFFFFFFF):
        damaged = good[:at] + struct.pack("<I", place) + good[at + 4 :]
        with pytest.raises(ImageError):
            decode(damaged, SPEC)
