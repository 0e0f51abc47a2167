"""An image file decoded to pixels, with Pillow and numpy only.

The steps are fixed: bytes, decoder by content, RGB in 8 bits, EXIF orientation,
crop, bilinear resize, float32. `tf_data.py` takes the same steps in TensorFlow.
Both give the same bits; what TensorFlow cannot decode exactly is decoded here
for it too.

Both accept the same files: an image is accepted when it is complete, as far as
its markers, checksums and rows show (`formats/`). Damage within compressed
pixels cannot be detected.
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

# Tags of TIFF 6.0, section 8, and of EXIF 2.3, section 4.6.4.
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

# Pixels that are blended at a time: blending takes many times their bytes.
_BAND_PIXELS = 1 << 20

_LOADING = threading.Lock()


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """The header of a JPEG: enough to decode it elsewhere.

    `data` is the part of the file that a decoder needs. `height` and `width`
    are those stored, before `orientation`, 1 to 8 as in EXIF, is applied.
    """

    data: bytes
    height: int
    width: int
    orientation: int


def load(data: bytes, spec: PixelSpec, out: FloatArray | None = None) -> FloatArray:
    """Decode, crop and resize an image file's bytes to float32 [size, size, 3] in [0, 1].

    The pixels are written to `out` if it is given.

    Raises:
        ImageError: `data` is not an image, or a damaged one, or too large.
    """
    return crop_and_resize(decode(data, spec), spec, out)


def decode(data: bytes, spec: PixelSpec) -> ByteArray:
    """Decode an image file's bytes to RGBX uint8 [h, w, 4], turned as its EXIF says.

    A JPEG may be decoded at a reduced size, as `resize.choose_reduction` decides.

    Raises:
        ImageError: `data` is not an image, or a damaged one, or too large.
    """
    opened = opening.open_image(data, spec)
    image = opened.image
    try:
        orientation = _read_orientation(image, spec, opened)
        if opened.format == "TIFF":
            _remove_orientation_tag(image)
        elif opened.format == "JPEG":
            r = choose_reduction(image.height, image.width, spec)
            image.draft(None, (image.width // r, image.height // r))
        image.load()
        opening.check_rows(opened)
        if opened.format == "PNG":
            # Its EXIF may come after the pixels.
            orientation = _read_orientation(image, spec, opened)
            png.scale_transparent_grey(image, opened.data)
        return _convert_to_rgbx(_turn(image, orientation))
    except DAMAGE as error:
        raise ImageError(f"damaged {opened.format}: {describe_error(error)}") from error


def load_from_memory(source: Any, spec: PixelSpec, out: FloatArray | None = None) -> FloatArray:
    """Crop and resize a PIL image or an array to float32 [size, size, 3] in [0, 1].

    An array is uint8 [h, w], [h, w, 1], [h, w, 3] or [h, w, 4]. The pixels are
    written to `out` if it is given.

    Raises:
        ImageError: `source` is of another type, shape or dtype, or too large.
    """
    if not isinstance(source, Image.Image):
        rgbx = _convert_to_rgbx(Image.fromarray(_check_array(source, spec)))
        return crop_and_resize(rgbx, spec, out)
    limits.check_pixels(source.width, source.height, spec.max_pixels)
    if not source.width or not source.height:
        raise ImageError("cannot be used: it has no pixels")
    try:
        # One image may be given several times, and loading it reads its file.
        with _LOADING:
            source.load()
        rgbx = _convert_to_rgbx(_turn(source, _read_orientation(source, spec)))
        return crop_and_resize(rgbx, spec, out)
    except DAMAGE as error:
        raise ImageError(f"cannot be used: {describe_error(error)}") from error


def _check_array(source: Any, spec: PixelSpec) -> ByteArray:
    """Return an array as contiguous uint8 [h, w], [h, w, 3] or [h, w, 4]."""
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
    return np.ascontiguousarray(array)


def read_plain_jpeg(data: bytes, spec: PixelSpec) -> JpegHeader | None:
    """Read the header of a JPEG of 1 or 3 components; return None for any other image.

    Raises:
        ImageError: the JPEG is damaged, or too large.
    """
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    header = jpeg.read(data)
    limits.check_pixels(header.width, header.height, spec.max_pixels)
    if not header.plain:
        return None
    orientation = exif.read_orientation(header.exif, header.xmp) if spec.exif else 1
    return JpegHeader(header.data, header.height, header.width, orientation)


def _read_orientation(
    image: Image.Image, spec: PixelSpec, opened: OpenedImage | None = None
) -> int:
    """Read the EXIF orientation, 1 to 8, as far as it is known; `opened` is None in memory.

    It is 1 where it is absent, damaged or not wanted.
    """
    # The container of a HEIC has turned it already; its EXIF says the same once more.
    if not spec.exif or (opened and opened.format == "HEIF"):
        return 1
    if opened and opened.format == "JPEG":
        return exif.read_orientation(opened.exif, opened.xmp)
    if opened and opened.format != "TIFF":
        return exif.read_orientation(*_find_metadata(image))
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except DAMAGE:
        return 1
    return value if isinstance(value, int) and value in _TRANSPOSITIONS else 1


def _find_metadata(image: Image.Image) -> tuple[bytes, bytes]:
    """Return EXIF and XMP as they are beside the pixels; Pillow's `getexif` would unpack all."""
    info = image.info
    exif_bytes = b""
    if isinstance(info.get("exif"), bytes):
        exif_bytes = info["exif"]
    elif isinstance(info.get("Raw profile type exif"), str):
        # Its name, its length, and hexadecimal digits, each on a line of its own.
        exif_bytes = _decode_hex("".join(info["Raw profile type exif"].split("\n")[3:]))
    xmp = info.get("XML:com.adobe.xmp") or info.get("xmp") or b""
    xmp = xmp.encode("utf-8", "replace") if isinstance(xmp, str) else xmp
    return exif_bytes, xmp if isinstance(xmp, bytes) else b""


def _decode_hex(digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return b""


def _remove_orientation_tag(image: Image.Image) -> None:
    """Keep Pillow from turning a TIFF while it loads it: `--no-exif` would have no effect."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    if _ORIENTATION_TAG in tags:
        del tags[_ORIENTATION_TAG]
    image.getexif().pop(_ORIENTATION_TAG, None)


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    if orientation not in _TRANSPOSITIONS:
        return image
    return image.transpose(_TRANSPOSITIONS[orientation])


def _convert_to_rgbx(image: Image.Image) -> ByteArray:
    """Convert an image of any mode to RGBX uint8 [h, w, 4], transparency over white."""
    if image.mode.startswith("I;16"):
        return _convert_16_bits(image)
    if image.mode in ("I", "F"):
        raise ImageError("has 32 bits a sample, whose range is not known; save it with 8 or 16")
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        return _blend_over_white(rgba, rgba[:, :, 3:])
    return view_rgbx(image if image.mode == "RGB" else image.convert("RGB"))


def _convert_16_bits(image: Image.Image) -> ByteArray:
    # A copy: Pillow gives the pixels of a turned TIFF in the shape before the turn.
    samples = np.asarray(image.copy()).astype(np.uint16)
    if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO:
        # Pillow inverts these at 8 bits, but not at 16.
        samples = ~samples
    grey = (samples >> 8).astype(np.uint8)[:, :, None].repeat(4, axis=2)
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return grey
    alpha = np.where(samples == transparent, 0, 255).astype(np.uint8)[:, :, None]
    return _blend_over_white(grey, alpha)


def _blend_over_white(colour: ByteArray, alpha: ByteArray) -> ByteArray:
    """Blend colours uint8 [h, w, 4] over white by their alpha uint8 [h, w, 1], rounded half up."""
    blended = np.empty_like(colour)
    step = max(_BAND_PIXELS // colour.shape[1], 1)
    for top in range(0, len(colour), step):
        band = slice(top, top + step)
        c, a = colour[band].astype(np.uint32), alpha[band].astype(np.uint32)
        blended[band] = (c * a + 255 * (255 - a) + 127) // 255
    return blended
