"""From a file to pixels, with Pillow and numpy alone.

The chain is fixed: bytes, decoder by content, RGB in 8 bits, EXIF orientation,
crop, bilinear resize, float32. `pipeline.py` runs the same chain in
TensorFlow; both give the same bits, and what TensorFlow cannot decode exactly
goes through here there too.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import threading
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from mnv1cli import png
from mnv1cli.errors import ImageError
from mnv1cli.geometry import frame_pixels, reduction
from mnv1cli.imagememory import rgbx_of

if TYPE_CHECKING:
    from mnv1cli.records import ByteArray, FloatArray, PixelSpec

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "AVIF")

_ORIENTATION_TAG = 0x0112
_PHOTOMETRIC_TAG, _WHITE_IS_ZERO = 0x0106, 0
_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# What Pillow's decoders raise on damaged files, beyond their own OSError and
# SyntaxError: whatever the code that meets the damage happens to raise.
_DAMAGE = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError,
    EOFError, MemoryError, RuntimeError, SystemError, struct.error, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip


_LOADING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of an image says: enough to decode it elsewhere.

    `plain_jpeg` is a JPEG of 1 or 3 components; `height` and `width` are those
    of the file, `orientation` is 1 to 8 after EXIF.
    """

    plain_jpeg: bool
    height: int
    width: int
    orientation: int


def read_file(path: bytes) -> bytes:
    """The bytes of a regular file.

    Raises:
        ImageError: missing, unreadable, empty, or no regular file.
    """
    try:
        # Asked before opening: a FIFO without a writer would block for good.
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            raise ImageError(f"is a {_kind(mode)}, not a file")
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        what = "is a link to a missing file" if os.path.islink(path) else "no such file"
        raise ImageError(what) from None
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error
    except ValueError:
        raise ImageError("no such file: its name has a NUL byte") from None
    if not data:
        raise ImageError("the file is empty")
    return data


def _kind(mode: int) -> str:
    for test, name in (
        (stat.S_ISDIR, "folder"),
        (stat.S_ISSOCK, "socket"),
        (stat.S_ISFIFO, "named pipe"),
    ):
        if test(mode):
            return name
    return "device"


def load(data: bytes, spec: PixelSpec, out: FloatArray | None = None) -> FloatArray:
    """Pixels float32 [size, size, 3] in [0, 1] of an image file's bytes, written to `out`.

    Raises:
        ImageError: not an image, or a damaged one.
    """
    return frame_pixels(decode(data, spec), spec, out)


def decode(data: bytes, spec: PixelSpec) -> ByteArray:
    """RGBX uint8 [h, w, 4] of an image file's bytes, oriented."""
    image = _open(data)
    try:
        # A PNG's may come after its pixels, and asking for it before loads them.
        orientation = 1 if image.format == "PNG" else _orientation(image, spec)
        if image.format in ("JPEG", "MPO"):
            r = reduction(image.height, image.width, spec)
            image.draft(None, (image.width // r, image.height // r))
        elif image.format == "TIFF":
            _forget_orientation(image)
        elif image.format == "PNG":
            png.check(data)
        image.load()
        if image.format == "PNG":
            orientation = _orientation(image, spec)
            png.settle_transparency(image, data)
        return _rgbx(_oriented(image, orientation))
    except _DAMAGE as error:
        raise ImageError(f"damaged {image.format}: {_first_line(error)}") from error


def from_memory(source: Any, spec: PixelSpec, out: FloatArray | None = None) -> FloatArray:
    """Pixels of a PIL image, or of a uint8 array [h, w], [h, w, 1], [h, w, 3] or [h, w, 4].

    Raises:
        ImageError: another type, shape or dtype.
    """
    if isinstance(source, Image.Image):
        try:
            # One image may be given several times, and loading it reads its file.
            with _LOADING:
                source.load()
            return frame_pixels(_rgbx(_oriented(source, _orientation(source, spec))), spec, out)
        except _DAMAGE as error:
            raise ImageError(f"cannot be used: {_first_line(error)}") from error
    try:
        array = np.asarray(source)
    except ValueError as error:
        raise ImageError(f"is no image and no array: {_first_line(error)}") from error
    if array.dtype != np.uint8:
        raise ImageError(f"an array must be uint8, not {array.dtype}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))) or not array.size:
        raise ImageError(f"an array must be [h, w], [h, w, 3] or [h, w, 4], not {array.shape}")
    return frame_pixels(_rgbx(Image.fromarray(np.ascontiguousarray(array))), spec, out)


def header(data: bytes, spec: PixelSpec) -> Header:
    """Read the header alone.

    Raises:
        ImageError: not an image.
    """
    image = _open(data)
    plain = image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB")
    # Other formats are decoded whole by `decode`, which looks for itself.
    orientation = _orientation(image, spec) if plain else 1
    return Header(plain, image.height, image.width, orientation)


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageError(_unidentified(data)) from None
    except Image.DecompressionBombError:
        # Pillow refuses before it takes memory, at twice its warning threshold.
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise ImageError(f"too large: it claims more than {limit} million pixels") from None
    except _DAMAGE as error:
        raise ImageError(f"damaged, or not an image: {_first_line(error)}") from error


def _unidentified(data: bytes) -> str:
    start = data[:512]
    if not any(start):
        return "not an image: the file holds zeros"
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in start) and b"\x7f" not in start:
        return "not an image: the file holds text"
    return f"not an image, or a damaged one (known are {', '.join(FORMATS)})"


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _orientation(image: Image.Image, spec: PixelSpec) -> int:
    """The EXIF orientation, 1 where it is absent, damaged or not wanted."""
    if not spec.exif:
        return 1
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except _DAMAGE:
        return 1
    return value if isinstance(value, int) and value in _TRANSPOSED else 1


def _forget_orientation(image: Image.Image) -> None:
    """Keep Pillow from orienting a TIFF while it loads: `--no-exif` would have no say."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    if _ORIENTATION_TAG in tags:
        del tags[_ORIENTATION_TAG]
    image.getexif().pop(_ORIENTATION_TAG, None)


def _oriented(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TRANSPOSED[orientation]) if orientation in _TRANSPOSED else image


def _rgbx(image: Image.Image) -> ByteArray:
    """RGBX uint8 [h, w, 4] of an image of any mode, transparency over white."""
    if image.mode.startswith("I;16"):
        return _rgbx_from_16_bits(image)
    if image.mode in ("I", "F"):
        raise ImageError("has 32 bits a sample, whose range is not known; save it with 8 or 16")
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        return _over_white(rgba, rgba[:, :, 3:])
    return rgbx_of(image if image.mode == "RGB" else image.convert("RGB"))


def _rgbx_from_16_bits(image: Image.Image) -> ByteArray:
    # A copy: Pillow gives the pixels of a turned TIFF in the shape before the turn.
    samples = np.asarray(image.copy()).astype(np.uint16)
    if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO:
        # Pillow inverts these at 8 bits, and not at 16.
        samples = ~samples
    grey = (samples >> 8).astype(np.uint8)[:, :, None].repeat(4, axis=2)
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return grey
    alpha = np.where(samples == transparent, 0, 255).astype(np.uint8)[:, :, None]
    return _over_white(grey, alpha)


def _over_white(colour: ByteArray, alpha: ByteArray) -> ByteArray:
    c, a = colour.astype(np.uint32), alpha.astype(np.uint32)
    return ((c * a + 255 * (255 - a) + 127) // 255).astype(np.uint8)
