"""A file's bytes opened as an image of Pillow's, by their content; nothing is decoded yet.

Pillow's plug-ins are called directly: `Image.open` would compare the image with
a limit that belongs to the whole process, and warn.
"""

from __future__ import annotations

import functools
import importlib
import io
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageFile

from mnv1cli import limits
from mnv1cli.errors import ImageError, first_line
from mnv1cli.images.formats import gif, heif, png, tiff, webp

if TYPE_CHECKING:
    from collections.abc import Callable

    from mnv1cli.types import PixelSpec

_PLUGINS = {
    "JPEG": "Jpeg", "PNG": "Png", "BMP": "Bmp", "GIF": "Gif", "WEBP": "WebP", "TIFF": "Tiff",
    "AVIF": "Avif",
}  # fmt: skip
_HEIF = "HEIF"
FORMATS = (*_PLUGINS, _HEIF)
# The largest BMP in run lengths, which Pillow unpacks in Python.
_MAX_RLE_PIXELS = 25_000_000

# What Pillow's decoders raise on damaged files, beyond their own OSError and
# SyntaxError: whatever the code that meets the damage happens to raise. And
# warnings, where a program has turned them into errors.
DAMAGE = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError,
    EOFError, MemoryError, RuntimeError, SystemError, struct.error, zlib.error, AssertionError,
    Image.DecompressionBombError, Warning,
)  # fmt: skip


@dataclass(slots=True)
class OpenedImage:
    """An image that is not decoded yet, with its format, one of FORMATS, and its bytes."""

    image: ImageFile.ImageFile
    format: str
    data: bytes


def open_image(data: bytes, spec: PixelSpec) -> OpenedImage:
    """Choose the decoder of an image, and compare the size that it claims with the limits.

    Raises:
        ImageError: `data` is not an image, or a damaged one, or too large.
    """
    name = _identify(data)
    if name == "PNG":
        data = png.strip_chunks(data)
    elif name == "TIFF":
        tiff.check_directory(data)
    elif name == "WEBP":
        limits.check_pixels(*webp.read_size(data), spec.max_pixels)
    elif name == "GIF":
        frame = gif.find_first_frame(data)
        limits.check_pixels(frame.width, frame.height, spec.max_pixels)
    image = open_with_plugin(name, tiff.make_unsigned(data) if name == "TIFF" else data)
    limits.check_pixels(image.width, image.height, spec.max_pixels)
    _check_tiles(image, name, spec)
    return OpenedImage(image, name, data)


def _check_tiles(image: ImageFile.ImageFile, name: str, spec: PixelSpec) -> None:
    if name == "TIFF":
        limits.check_pixels(*tiff.read_tile_size(image), spec.max_pixels)
        tiff.check_strips(image)
        # Pillow would make the same, after comparing the size with its own limit.
        image.im = Image.new(image.mode, tiff.read_stored_size(image)).im
    elif name == "BMP" and image.tile[0][0] == "bmp_rle":
        _check_runs(image)


def _check_runs(image: ImageFile.ImageFile) -> None:
    size = f"{image.width}x{image.height}"
    if image.width * image.height > _MAX_RLE_PIXELS:
        raise ImageError(f"a BMP of {size} in run lengths would take too long")


@functools.cache
def _load_plugin(name: str) -> tuple[Callable[..., Any], Callable[[bytes], Any]]:
    """Import Pillow's plug-in for a format; return its opener and its test of the first bytes."""
    importlib.import_module(f"PIL.{_PLUGINS[name]}ImagePlugin")
    factory, accept = Image.OPEN[name]
    assert accept is not None
    if name == "JPEG":
        # The registered opener looks for the further pictures of an MPO.
        factory = importlib.import_module("PIL.JpegImagePlugin").JpegImageFile
    return factory, accept


def _identify(data: bytes) -> str:
    if heif.is_heif(data):
        # Pillow would take some of them for AVIF.
        return _HEIF
    start = data[:16]
    for name in _PLUGINS:
        if _load_plugin(name)[1](start) is True:
            return name
    raise ImageError(_describe_unidentified(data))


def open_with_plugin(name: str, data: bytes) -> ImageFile.ImageFile:
    """Open a file with Pillow's plug-in for a format.

    Raises:
        ImageError: Pillow cannot read it.
    """
    opener = heif.load_opener() if name == _HEIF else _load_plugin(name)[0]
    file = _CompleteFile(data) if name in ("BMP", "TIFF") else io.BytesIO(data)
    try:
        image: ImageFile.ImageFile = opener(file, "")
    except (SyntaxError, IndexError, TypeError, struct.error) as error:
        raise ImageError(_describe_unidentified(data)) from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"too large for Pillow: {first_line(error)}") from error
    except DAMAGE as error:
        raise ImageError(f"damaged, or not an image: {first_line(error)}") from error
    return image


class _CompleteFile(io.BytesIO):
    """A file that must not end early, even if `ImageFile.LOAD_TRUNCATED_IMAGES` is set."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if not data and size and ImageFile.LOAD_TRUNCATED_IMAGES:
            raise OSError("image file is truncated")
        return data


def check_rows(opened: OpenedImage) -> None:
    """Refuse a decoded image whose pixels ended before its last row; map signed samples.

    Raises:
        ImageError: the image is damaged in this way.
    """
    if opened.format == "PNG":
        png.check_rows(opened.image, opened.data)
    elif opened.format == "TIFF":
        tiff.restore_sign(opened.image, opened.data)
    elif opened.format == "GIF":
        _check_gif_rows(opened)


def _check_gif_rows(opened: OpenedImage) -> None:
    """Decode a GIF again over another colour if its last row may be the canvas's own."""
    frame = gif.find_first_frame(opened.data)
    if not gif.is_untouched(opened.image, frame, opened.image.info.get("transparency", 0)):
        return
    image = open_with_plugin("GIF", gif.make_opaque(opened.data, frame))
    image.im = Image.new(image.mode, image.size, 255).im
    image.load()
    if gif.is_untouched(image, frame, 255):
        raise ImageError("damaged GIF: its pixels end before its last row")


def _describe_unidentified(data: bytes) -> str:
    start = data[:512]
    if not any(start):
        return "not an image: the file holds zeros"
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in start) and b"\x7f" not in start:
        return "not an image: the file holds text"
    return f"not an image, or a damaged one (known are {', '.join(FORMATS)})"
