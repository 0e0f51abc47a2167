"""From a file to pixels: every kind of image, and what is said of those that are none."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
from PIL import Image

from mnv1cli.errors import ImageError
from mnv1cli.images import decode, file
from mnv1cli.images.resize import crop_and_resize
from mnv1cli.types import Decode, PixelSpec, Preprocess
from tests.support import images
from tests.support.images import SAMPLES, chunk, colours, depths, encode, jpeg, noise, png, png16

if TYPE_CHECKING:
    from collections.abc import Callable

    from mnv1cli.types import ByteArray

SPEC = PixelSpec(64)
UNTURNED = PixelSpec(64, exif=False)
MODES: tuple[Preprocess, ...] = get_args(Preprocess)
ORIENTATIONS = range(1, 9)


def test_reference_pixels_of_photos(shared: Path, photos: Path) -> None:
    reference = np.load(shared / "reference.npz")
    for name, expected in zip(reference["names"][:4], reference["pixels"], strict=True):
        data = file.read_file(os.fsencode(photos / name))
        np.testing.assert_allclose(decode.load(data, PixelSpec(128)), expected, atol=1e-5)


# Colour


@pytest.mark.parametrize("name", SAMPLES)
def test_colours_of_every_kind_of_file(name: str) -> None:
    np.testing.assert_array_equal(
        decode.decode(SAMPLES[name].data, SPEC)[:, :, :3], SAMPLES[name].rgb
    )


def test_every_colour_under_every_alpha() -> None:
    alpha, colour = np.mgrid[:256, :256].astype(np.uint8)
    rgb = np.dstack([colour, 255 - colour, colour ^ 0x55])
    data = encode(images.with_alpha(rgb, alpha), "PNG")
    np.testing.assert_array_equal(
        decode.decode(data, SPEC)[:, :, :3], images.over_white(rgb, alpha)
    )


def test_white_under_any_alpha_is_white() -> None:
    white = np.full((1, 256, 3), 255, np.uint8)
    data = encode(images.with_alpha(white, np.arange(256, dtype=np.uint8)[None]), "PNG")
    np.testing.assert_array_equal(decode.decode(data, SPEC)[:, :, :3], white)


@pytest.mark.skipif(not images.HAS_AVIF, reason="this Pillow has no AVIF")
def test_avif_is_close_to_what_was_encoded() -> None:
    data = encode(Image.fromarray(colours(40, 56)), "AVIF", quality=100, subsampling="4:4:4")
    np.testing.assert_allclose(
        decode.decode(data, SPEC)[:, :, :3].astype(int), colours(40, 56), atol=4
    )


def test_colour_profile_is_ignored() -> None:
    profile = b"no profile at all"
    data = encode(Image.fromarray(colours()), "PNG", icc_profile=profile)
    assert profile in zlib.decompress(data[data.index(b"\0\0", data.index(b"iCCP")) + 2 :])
    np.testing.assert_array_equal(decode.decode(data, SPEC)[:, :, :3], colours())


# Orientation


def upright(stored: ByteArray, orientation: int) -> ByteArray:
    """What EXIF says is seen: its value names the edges where row 0 and column 0 belong."""
    h, w = stored.shape[:2]
    y, x = np.ogrid[: (h, w)[orientation > 4], : (w, h)[orientation > 4]]
    rows_and_columns = {
        1: (y, x),  # top, left
        2: (y, w - 1 - x),  # top, right
        3: (h - 1 - y, w - 1 - x),  # bottom, right
        4: (h - 1 - y, x),  # bottom, left
        5: (x, y),  # left, top
        6: (h - 1 - x, y),  # right, top
        7: (h - 1 - x, w - 1 - y),  # right, bottom
        8: (x, w - 1 - y),  # left, bottom
    }
    rows, columns = rows_and_columns[orientation]
    seen: ByteArray = stored[rows, columns]
    return seen


def sixteen_bits() -> Image.Image:
    samples = images.depths(1).astype("<u2").tobytes()
    return Image.frombytes("I;16", (images.WIDTH, images.HEIGHT), samples)


# How to write a file that may carry an orientation.
ORIENTED: dict[str, Callable[..., bytes]] = {
    "JPEG": lambda **exif: jpeg(40, 56, **exif),
    "grey JPEG": lambda **exif: images.grey_jpeg(40, 56, **exif),
    "CMYK JPEG": lambda **exif: encode(
        Image.fromarray(colours(40, 56)).convert("CMYK"), "JPEG", **exif
    ),
    "PNG": lambda **exif: encode(Image.fromarray(colours()), "PNG", **exif),
    "palette PNG": lambda **exif: encode(images.palette_image(), "PNG", **exif),
    "16-bit PNG": lambda **exif: encode(sixteen_bits(), "PNG", **exif),
    "TIFF": lambda **exif: encode(Image.fromarray(colours()), "TIFF", **exif),
    "LZW TIFF": lambda **exif: encode(
        Image.fromarray(colours()), "TIFF", compression="tiff_lzw", **exif
    ),
    "grey TIFF": lambda **exif: encode(Image.fromarray(images.shades()), "TIFF", **exif),
    "16-bit TIFF": lambda **exif: encode(sixteen_bits(), "TIFF", **exif),
    "WebP": lambda **exif: encode(Image.fromarray(colours()), "WEBP", lossless=True, **exif),
    **(
        {"AVIF": lambda **exif: encode(Image.fromarray(colours(40, 56)), "AVIF", **exif)}
        if images.HAS_AVIF
        else {}
    ),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ORIENTED)
def test_orientation_is_applied(kind: str, orientation: int) -> None:
    stored = decode.decode(ORIENTED[kind](), SPEC)[:, :, :3]
    turned = ORIENTED[kind](exif=images.orientation_exif(orientation))
    np.testing.assert_array_equal(
        decode.decode(turned, SPEC)[:, :, :3], upright(stored, orientation)
    )


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ORIENTED)
def test_orientation_is_left_without_exif(kind: str, orientation: int) -> None:
    stored = decode.decode(ORIENTED[kind](), SPEC)[:, :, :3]
    turned = ORIENTED[kind](exif=images.orientation_exif(orientation))
    np.testing.assert_array_equal(decode.decode(turned, UNTURNED)[:, :, :3], stored)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_orientation_after_the_pixels_of_a_png(orientation: int) -> None:
    data = encode(Image.fromarray(colours()), "PNG")
    exif = chunk(b"eXIf", images.orientation_exif(orientation).tobytes().removeprefix(b"Exif\0\0"))
    end = chunk(b"IEND", b"")
    late = data.removesuffix(end) + exif + end
    np.testing.assert_array_equal(
        decode.decode(late, SPEC)[:, :, :3], upright(colours(), orientation)
    )
    np.testing.assert_array_equal(decode.decode(late, UNTURNED)[:, :, :3], colours())


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WebP"])
def test_unknown_orientation_is_none(kind: str, orientation: int) -> None:
    turned = ORIENTED[kind](exif=images.orientation_exif(orientation))
    np.testing.assert_array_equal(
        decode.decode(turned, SPEC)[:, :, :3], decode.decode(ORIENTED[kind](), SPEC)[:, :, :3]
    )


DAMAGED_EXIF = {
    "nothing": b"",
    "no TIFF": b"garbage, and more garbage",
    "directory beyond the end": b"MM\0*\xff\xff\xff\xff",
    "directory cut short": b"II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0\x01",
    "value beyond the end": b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x112, 2, 999, 999),
    "text for a number": b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHI4s", 0x112, 2, 2, b"6"),
}


# Pillow warns of it; whether that is an error is up to the program.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("damage", DAMAGED_EXIF)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP"])
def test_damaged_exif_leaves_the_image_readable(kind: str, damage: str) -> None:
    data = ORIENTED[kind](exif=b"Exif\0\0" + DAMAGED_EXIF[damage])
    np.testing.assert_array_equal(
        decode.decode(data, SPEC)[:, :, :3], decode.decode(ORIENTED[kind](), SPEC)[:, :, :3]
    )


# Reduction


@pytest.mark.parametrize(
    ("size", "resolution", "shape"),
    [
        (16, "scaled", (63, 76)),
        (32, "scaled", (126, 151)),
        (64, "scaled", (251, 302)),
        (128, "scaled", (501, 603)),
        (16, "full", (501, 603)),
    ],
)
@pytest.mark.parametrize("kind", ["RGB", "L", "CMYK"])
def test_jpeg_is_decoded_at_its_reduction(
    kind: str, size: int, resolution: Decode, shape: tuple[int, ...]
) -> None:
    data = encode(Image.fromarray(colours(501, 603)).convert(kind), "JPEG")
    decoded = decode.decode(data, PixelSpec(size, "squash", resolution))
    assert decoded.shape == (*shape, 4)


def test_other_formats_are_decoded_whole() -> None:
    data = encode(Image.fromarray(colours(501, 603)), "PNG")
    assert decode.decode(data, PixelSpec(16)).shape == (501, 603, 4)


# What is no image


def a_link_to_nothing(path: str) -> None:
    os.symlink("nowhere", path)


def a_link_to_itself(path: str) -> None:
    os.symlink(os.path.basename(path), path)


def a_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)


def an_empty_file(path: str) -> None:
    open(path, "wb").close()


UNREADABLE: dict[str, tuple[Callable[[str], object], str]] = {
    "missing": (lambda path: None, "no such file"),
    "broken link": (a_link_to_nothing, "link to a missing file"),
    "circular link": (a_link_to_itself, "cannot be read"),
    "folder": (os.mkdir, "is a folder"),
    "socket": (a_socket, "is a socket"),
    "named pipe": (os.mkfifo, "is a named pipe"),
    "empty": (an_empty_file, "empty"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_reason_why_a_file_cannot_be_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The name of a socket may not be as long as that of a temporary folder.
    monkeypatch.chdir(tmp_path)
    make, reason = UNREADABLE[kind]
    make("it")
    with pytest.raises(ImageError, match=reason):
        file.read_file(b"it")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (b"a\0b.jpg", "NUL byte"),
        (b"x" * 5000, "cannot be read"),
        (os.fsencode(__file__) + b"/a.jpg", "cannot be read|no such file"),
        (os.fsencode(os.devnull), "is a device"),
    ],
)
def test_reason_why_a_name_cannot_be_read(path: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        file.read_file(path)


@pytest.mark.parametrize("name", [b"a b'\".jpg", b"line\nbreak", b"\xff\xfe.jpg", b"no-suffix"])
def test_file_of_any_name_is_read(name: bytes, tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    Path(os.fsdecode(path)).write_bytes(b"content")
    assert file.read_file(path) == b"content"


def corrupted(data: bytes, start: int) -> bytes:
    return data[:start] + bytes(byte ^ 0xFF for byte in data[start:])


def half(name: str) -> bytes:
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
    "truncated JPEG": (half("JPEG"), "damaged|not an image"),
    "JPEG without pixels": (jpeg(40, 56).partition(b"\xff\xda")[0], "damaged"),
    "JPEG cut in its pixels": (jpeg(200, 300)[:-2000], "damaged JPEG.*truncated"),
    "truncated PNG": (half("RGB PNG"), "damaged PNG"),
    "PNG with a wrong checksum": (
        SAMPLES["RGB PNG"].data[:-14] + b"xx" + chunk(b"IEND", b""),
        "damaged PNG",
    ),
    "PNG with pixels that do not unpack": (
        png(images.WIDTH, images.HEIGHT, 8, 2, b"these are not pixels"),
        "damaged PNG",
    ),
    "PNG with pixels that unpack in part": (
        png(images.WIDTH, images.HEIGHT, 8, 2, corrupted(zlib.compress(b"".join(RGB_ROWS)), 80)),
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
    "truncated GIF": (half("palette GIF"), "damaged|not an image"),
    "truncated BMP": (half("RGB BMP"), "damaged BMP"),
    "corrupt WebP": (corrupted(SAMPLES["RGB WebP"].data, 40), "damaged"),
    "truncated WebP": (half("RGB WebP"), "damaged"),
    "truncated TIFF": (half("RGB TIFF"), "damaged"),
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
        decode.load(data, PixelSpec(64, exif=exif))
    assert str(caught.value).isprintable()


def fate(data: bytes, spec: PixelSpec) -> str | bytes:
    """The reason, or the pixels."""
    try:
        return decode.load(data, spec).tobytes()
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
        fate(bytes(data), spec)
        fate(bytes(data[: random.integers(1, len(data))]), spec)


def test_acceptance_of_a_damaged_png_does_not_depend_on_exif() -> None:
    rows = b"".join(b"\0" + row for row in RGB_ROWS)
    random = np.random.default_rng(7)
    for _ in range(200):
        packed = bytearray(zlib.compress(rows))
        packed[random.integers(len(packed))] = random.integers(256)
        data = png(images.WIDTH, images.HEIGHT, 8, 2, bytes(packed))
        assert fate(data, SPEC) == fate(data, UNTURNED)


# In memory


ARRAYS: dict[str, tuple[Any, ByteArray]] = {
    "[h, w]": (images.shades(), images.grey(images.shades())),
    "[h, w, 1]": (images.shades()[:, :, None], images.grey(images.shades())),
    "[h, w, 3]": (colours(), colours()),
    "[h, w, 4]": (
        np.dstack([colours(), images.alphas()]),
        images.over_white(colours(), images.alphas()),
    ),
    "not contiguous": (colours()[::-1, ::2], np.ascontiguousarray(colours()[::-1, ::2])),
    "one pixel": (np.full((1, 1), 7, np.uint8), np.full((1, 1, 3), 7, np.uint8)),
}


@pytest.mark.parametrize("preprocess", MODES)
@pytest.mark.parametrize("shape", ARRAYS)
def test_array_is_an_image(shape: str, preprocess: Preprocess) -> None:
    spec = PixelSpec(64, preprocess)
    array, rgb = ARRAYS[shape]
    before = array.copy()
    expected = crop_and_resize(images.rgbx(rgb), spec)
    np.testing.assert_array_equal(decode.load_from_memory(array, spec), expected)
    np.testing.assert_array_equal(array, before)


PIL_IMAGES: dict[str, tuple[Image.Image, ByteArray]] = {
    "RGB": (Image.fromarray(colours()), colours()),
    "L": (Image.fromarray(images.shades()), images.grey(images.shades())),
    "1": (
        Image.fromarray(images.shades() // 128 * 255).convert("1"),
        images.grey(images.shades() // 128 * 255),
    ),
    "RGBA": (
        images.with_alpha(colours(), images.alphas()),
        images.over_white(colours(), images.alphas()),
    ),
    "LA": (
        images.with_alpha(images.shades(), images.alphas()),
        images.over_white(images.grey(images.shades()), images.alphas()),
    ),
    "P": (images.palette_image(), np.array(images.PALETTE, np.uint8)[images.indices()]),
    "I;16": (sixteen_bits(), images.grey(images.high_byte(images.depths(1))[:, :, 0])),
}


@pytest.mark.parametrize("mode", PIL_IMAGES)
def test_pil_image_of_every_mode(mode: str) -> None:
    image, rgb = PIL_IMAGES[mode]
    assert image.mode == mode
    expected = crop_and_resize(images.rgbx(rgb), SPEC)
    np.testing.assert_array_equal(decode.load_from_memory(image, SPEC), expected)


@pytest.mark.parametrize("exif", [True, False])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "16-bit PNG", "WebP"])
def test_opened_pil_image_is_its_file(kind: str, orientation: int, exif: bool) -> None:
    spec = PixelSpec(64, decode="full", exif=exif)
    data = ORIENTED[kind](exif=images.orientation_exif(orientation))
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(decode.load_from_memory(image, spec), decode.load(data, spec))
        # Again, now that Pillow has loaded it.
        np.testing.assert_array_equal(decode.load_from_memory(image, spec), decode.load(data, spec))


NOT_IN_MEMORY: dict[str, Any] = {
    "float32": np.zeros((4, 5, 3), np.float32),
    "float64": np.zeros((4, 5)),
    "int64": np.zeros((4, 5, 3), np.int64),
    "bool": np.zeros((4, 5), bool),
    "[n]": np.zeros(5, np.uint8),
    "[]": np.uint8(7),
    "[h, w, 2]": np.zeros((4, 5, 2), np.uint8),
    "[h, w, 5]": np.zeros((4, 5, 5), np.uint8),
    "[3, h, w]": np.zeros((3, 4, 5), np.uint8),
    "[n, h, w, 3]": np.zeros((2, 4, 5, 3), np.uint8),
    "no rows": np.zeros((0, 5, 3), np.uint8),
    "no columns": np.zeros((5, 0), np.uint8),
    "text": "photo.jpg",
    "None": None,
    "an object": object(),
    "lists of different lengths": [[1], [1, 2]],
    "PIL image of floats": Image.new("F", (5, 4)),
    "PIL image of 32-bit integers": Image.new("I", (5, 4)),
    "PIL image without pixels": Image.new("RGB", (0, 4)),
}


@pytest.mark.parametrize("preprocess", MODES)
@pytest.mark.parametrize("kind", NOT_IN_MEMORY)
def test_what_is_no_image_in_memory_is_refused(kind: str, preprocess: Preprocess) -> None:
    with pytest.raises(ImageError):
        decode.load_from_memory(NOT_IN_MEMORY[kind], PixelSpec(64, preprocess))


def test_damaged_pil_image_is_refused() -> None:
    with (
        Image.open(io.BytesIO(jpeg(200, 300)[:-2000])) as image,
        pytest.raises(ImageError, match="truncated"),
    ):
        decode.load_from_memory(image, SPEC)
