"""From a file to pixels, with Pillow and numpy alone.

The chain is fixed: bytes, decoder by content, RGB in 8 bits, EXIF orientation,
crop, bilinear resize, float32. `pipeline.py` runs the same chain in
TensorFlow; both give the same bits, and what TensorFlow cannot decode exactly
goes through here there too.

Both accept the same files: an image is taken when it is whole, as far as its
markers, checksums and rows tell (`jpeg.py`, `png.py`, `gif.py`, `tiff.py`).
Damage within compressed pixels cannot be told.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mnv1cli import limits
from mnv1cli.errors import ImageError
from mnv1cli.images import exif, opening
from mnv1cli.images.formats import jpeg, png
from mnv1cli.images.opening import DAMAGE, describe_error
from mnv1cli.images.pillow_memory import view_rgbx
from mnv1cli.images.resize import choose_reduction, crop_and_resize

if TYPE_CHECKING:
    from mnv1cli.images.opening import OpenedImage
    from mnv1cli.types import ByteArray, FloatArray, PixelSpec

_ORIENTATION_TAG = 0x0112
_PHOTOMETRIC_TAG, _WHITE_IS_ZERO = 0x0106, 0
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Rows whose transparency is settled at a time, in pixels: it takes many times their bytes.
_BAND_PIXELS = 1 << 20

_LOADING = threading.Lock()


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What the header of a JPEG says: enough to decode it elsewhere.

    `data` is what a decoder needs of the file; `height` and `width` are those
    stored, `orientation` is 1 to 8 after EXIF.
    """

    data: bytes
    height: int
    width: int
    orientation: int


def load(data: bytes, spec: PixelSpec, out: FloatArray | None = None) -> FloatArray:
    """Pixels float32 [size, size, 3] in [0, 1] of an image file's bytes, written to `out`.

    Raises:
        ImageError: not an image, or a damaged one.
    """
    return crop_and_resize(decode(data, spec), spec, out)


def decode(data: bytes, spec: PixelSpec) -> ByteArray:
    """RGBX uint8 [h, w, 4] of an image file's bytes, oriented."""
    found = opening.open_image(data, spec)
    image = found.image
    try:
        orientation = _orientation_before(found, spec)
        if found.format == "JPEG":
            r = choose_reduction(image.height, image.width, spec)
            image.draft(None, (image.width // r, image.height // r))
        image.load()
        opening.check_rows(found)
        if found.format == "PNG":
            # It may come after the pixels.
            orientation = _orientation_told(image, spec)
            png.scale_transparent_grey(image, found.data)
        return _to_rgbx(_turn(image, orientation))
    except DAMAGE as error:
        raise ImageError(f"damaged {found.format}: {describe_error(error)}") from error


def _orientation_before(found: OpenedImage, spec: PixelSpec) -> int:
    """The orientation, as far as it is known before the pixels are decoded."""
    if found.format == "TIFF":
        orientation = _orientation(found.image, spec)
        _remove_orientation_tag(found.image)
        return orientation
    if found.format == "JPEG":
        return found.orientation if spec.exif else 1
    if found.format == "HEIF":
        # Its container has turned it; the EXIF says the same once more.
        return 1
    return _orientation_told(found.image, spec)


def load_from_memory(source: Any, spec: PixelSpec, out: FloatArray | None = None) -> FloatArray:
    """Pixels of a PIL image, or of a uint8 array [h, w], [h, w, 1], [h, w, 3] or [h, w, 4].

    Raises:
        ImageError: another type, shape or dtype.
    """
    if isinstance(source, Image.Image):
        limits.check_pixels(source.width, source.height, spec.max_pixels)
        if not source.width or not source.height:
            raise ImageError("cannot be used: it has no pixels")
        try:
            # One image may be given several times, and loading it reads its file.
            with _LOADING:
                source.load()
            return crop_and_resize(_to_rgbx(_turn(source, _orientation(source, spec))), spec, out)
        except DAMAGE as error:
            raise ImageError(f"cannot be used: {describe_error(error)}") from error
    try:
        array = np.asarray(source)
    except ValueError as error:
        raise ImageError(f"is no image and no array: {describe_error(error)}") from error
    if array.dtype != np.uint8:
        raise ImageError(f"an array must be uint8, not {array.dtype}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))) or not array.size:
        raise ImageError(f"an array must be [h, w], [h, w, 3] or [h, w, 4], not {array.shape}")
    limits.check_pixels(array.shape[1], array.shape[0], spec.max_pixels)
    return crop_and_resize(_to_rgbx(Image.fromarray(np.ascontiguousarray(array))), spec, out)


def read_plain_jpeg(data: bytes, spec: PixelSpec) -> JpegHeader | None:
    """The header of a JPEG of 1 or 3 components; nothing for all else, which is decoded here.

    Raises:
        ImageError: a JPEG that is damaged, or too large.
    """
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    found = jpeg.read(data)
    limits.check_pixels(found.width, found.height, spec.max_pixels)
    if not found.plain:
        return None
    orientation = exif.read_orientation(found.exif, found.xmp) if spec.exif else 1
    return JpegHeader(found.data, found.height, found.width, orientation)


def _orientation(image: Image.Image, spec: PixelSpec) -> int:
    """The EXIF orientation, 1 where it is absent, damaged or not wanted."""
    if not spec.exif:
        return 1
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except DAMAGE:
        return 1
    return value if isinstance(value, int) and value in _TRANSPOSITIONS else 1


def _orientation_told(image: Image.Image, spec: PixelSpec) -> int:
    """The orientation in what the file holds beside its pixels; Pillow would unpack all of that."""
    if not spec.exif:
        return 1
    told, info = b"", image.info
    if isinstance(info.get("exif"), bytes):
        told = info["exif"]
    elif isinstance(info.get("Raw profile type exif"), str):
        # Its name, its length, and hexadecimal digits, each in a line of its own.
        told = _decode_hex("".join(info["Raw profile type exif"].split("\n")[3:]))
    xmp = info.get("XML:com.adobe.xmp") or info.get("xmp") or b""
    xmp = xmp.encode("utf-8", "replace") if isinstance(xmp, str) else xmp
    return exif.read_orientation(told, xmp if isinstance(xmp, bytes) else b"")


def _decode_hex(digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return b""


def _remove_orientation_tag(image: Image.Image) -> None:
    """Keep Pillow from orienting a TIFF while it loads: `--no-exif` would have no say."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    if _ORIENTATION_TAG in tags:
        del tags[_ORIENTATION_TAG]
    image.getexif().pop(_ORIENTATION_TAG, None)


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    return (
        image.transpose(_TRANSPOSITIONS[orientation]) if orientation in _TRANSPOSITIONS else image
    )


def _to_rgbx(image: Image.Image) -> ByteArray:
    """RGBX uint8 [h, w, 4] of an image of any mode, transparency over white."""
    if image.mode.startswith("I;16"):
        return _to_rgbx_from_16_bits(image)
    if image.mode in ("I", "F"):
        raise ImageError("has 32 bits a sample, whose range is not known; save it with 8 or 16")
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        return _blend_over_white(rgba, rgba[:, :, 3:])
    return view_rgbx(image if image.mode == "RGB" else image.convert("RGB"))


def _to_rgbx_from_16_bits(image: Image.Image) -> ByteArray:
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
    return _blend_over_white(grey, alpha)


def _blend_over_white(colour: ByteArray, alpha: ByteArray) -> ByteArray:
    laid = np.empty_like(colour)
    step = max(_BAND_PIXELS // colour.shape[1], 1)
    for top in range(0, len(colour), step):
        band = slice(top, top + step)
        c, a = colour[band].astype(np.uint32), alpha[band].astype(np.uint32)
        laid[band] = (c * a + 255 * (255 - a) + 127) // 255
    return laid
