"""An image file decoded to pixels: the one way from bytes to an image, for every feeder.

The steps are fixed: bytes, decoder by content, RGB in 8 bits, EXIF orientation,
crop, bilinear resize, float32. JPEGs are decoded by libjpeg-turbo, everything else
by Pillow.

An image is accepted when it is complete, as far as its markers, checksums and rows
show (`formats/`), and its decoder notices no damage. On request a damaged JPEG is
decoded as far as libjpeg can.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from mnv1cli import limits
from mnv1cli.errors import ImageError, first_line
from mnv1cli.images import exif, opening
from mnv1cli.images.formats import jpeg, jpeg_pixels, png, raw
from mnv1cli.images.opening import DAMAGE
from mnv1cli.images.resize import choose_reduction
from mnv1cli.images.rgbx import convert_to_rgbx

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mnv1cli.images.formats.jpeg import Jpeg
    from mnv1cli.images.opening import OpenedImage
    from mnv1cli.types import ByteArray, PixelSpec

# A tag of EXIF 2.3, section 4.6.4, and of TIFF 6.0, section 8.
_ORIENTATION_TAG = 0x0112
# The axes that are mirrored for each orientation, after the transposition for those from 5 on.
_MIRRORED = {1: (), 2: (1,), 3: (0, 1), 4: (0,), 5: (), 6: (1,), 7: (0, 1), 8: (0,)}

_LOADING = threading.Lock()


class DecodedImage(NamedTuple):
    """A decoded image, turned as its EXIF says.

    Attributes:
        rgbx: RGBX uint8 [h, w, 4]; a JPEG may be at a reduced size.
        width: the width in pixels of the whole image.
        height: the height in pixels of the whole image.
        exif: its EXIF, empty without any.
        warning: why it would be refused, if damaged JPEGs were; empty for others.
    """

    rgbx: ByteArray
    width: int
    height: int
    exif: bytes = b""
    warning: str = ""


def decode(data: bytes, spec: PixelSpec, reuse: bool = False, name: bytes = b"") -> DecodedImage:
    """Decode an image file's bytes.

    A JPEG may be decoded at a reduced size, as `resize.choose_reduction` decides. With
    `reuse` its pixels are overwritten by the next call in the same thread. `name` is that of
    the file, whose suffix tells some RAWs from TIFFs.

    Raises:
        ImageError: `data` is not an image, or a damaged one, or too large.
    """
    if not data.startswith(b"\xff\xd8\xff"):
        if kind := raw.identify(data, name):
            return _decode_raw(data, kind, spec, reuse)
        opened = opening.open_image(data, spec)
        with _explaining_damage(opened.format):
            return _decode_with_pillow(opened, spec)
    try:
        with _explaining_damage("JPEG"):
            return _decode_jpeg(jpeg.read(data), spec, reuse)
    except ImageError as error:
        if spec.damaged == "refuse":
            raise
        with contextlib.suppress(ImageError, *DAMAGE):
            return _decode_damaged_jpeg(data, spec)._replace(warning=str(error))
        raise


@contextlib.contextmanager
def _explaining_damage(kind: str) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        raise ImageError(f"damaged {kind}: {first_line(error)}") from error


def _decode_jpeg(header: Jpeg, spec: PixelSpec, reuse: bool) -> DecodedImage:
    r = _choose_jpeg_reduction(header, spec)
    rgbx = jpeg_pixels.decode(header, r, reuse)
    if rgbx is None:
        rgbx = _load_jpeg(header, header.data, r)
    return _turn_jpeg(rgbx, header, spec)


def _decode_damaged_jpeg(data: bytes, spec: PixelSpec) -> DecodedImage:
    """Decode a JPEG as far as libjpeg can, with whatever it gives for the missing pixels.

    Pillow does it: what libjpeg cannot go on from is an error there, where simplejpeg without
    `strict` returns memory that nobody has written to.

    Raises:
        ImageError: the header is damaged, or there are no pixels.
    """
    header = jpeg.read_damaged(data)
    r = _choose_jpeg_reduction(header, spec)
    blank = _load_jpeg(header, header.data[: header.ends[0]] + jpeg.END, r)
    rgbx = blank
    # What comes first can be decoded, and nothing from the first end on that cannot be: a few
    # attempts are enough, and no more are made than the bound on work allows.
    first, middle, last = 1, len(header.ends) - 1, len(header.ends)
    work = 0
    while first < last and work < jpeg.MAX_WORK:
        work += header.height * header.width * (1 if header.scan else middle)
        try:
            rgbx = _load_jpeg(header, header.data[: header.ends[middle]] + jpeg.END, r)
            first = middle + 1
        except DAMAGE:
            last = middle
        middle = (first + last) // 2
    if np.array_equal(rgbx, blank):
        raise jpeg.damaged("it has no pixels")
    return _turn_jpeg(rgbx, header, spec)


def _choose_jpeg_reduction(header: Jpeg, spec: PixelSpec) -> int:
    limits.check_pixels(header.width, header.height, spec.max_pixels)
    return choose_reduction(header.height, header.width, spec)


def _load_jpeg(header: Jpeg, data: bytes, r: int) -> ByteArray:
    """Decode the data of a JPEG at 1/r by Pillow."""
    image = opening.open_with_plugin("JPEG", data)
    image.draft(None, (header.width // r, header.height // r))
    image.load()
    return convert_to_rgbx(image)


def _turn_jpeg(rgbx: ByteArray, header: Jpeg, spec: PixelSpec) -> DecodedImage:
    has_any = spec.exif and (header.exif or header.xmp)
    orientation = exif.read_orientation(header.exif, header.xmp) if has_any else 1
    return _turn(rgbx, orientation, (header.height, header.width), header.exif)


def _decode_raw(data: bytes, kind: str, spec: PixelSpec, reuse: bool) -> DecodedImage:
    """Decode the preview of a RAW, turned as its own EXIF says, else as that of the RAW."""
    preview = raw.read_preview(data, kind)
    height, width = preview.height, preview.width
    try:
        if preview.jpeg:
            image = decode(preview.jpeg, spec, reuse)
            if spec.exif and exif.find_orientation(image.exif) is None:
                image = image._replace(rgbx=_turn(image.rgbx, preview.orientation).rgbx)
        else:
            with _explaining_damage("TIFF"):
                image = _decode_with_pillow(opening.open_image(data, spec), spec)
    except ImageError as error:
        raise ImageError(f"preview of {kind}: {error}") from error
    if spec.exif and preview.orientation >= 5:
        height, width = width, height
    warning = f"preview of {kind}: {image.warning}" if image.warning else ""
    exif_bytes = raw.find_exif(data) or image.exif
    return image._replace(width=width, height=height, exif=exif_bytes, warning=warning)


def _decode_with_pillow(opened: OpenedImage, spec: PixelSpec) -> DecodedImage:
    image = opened.image
    if opened.format == "TIFF":
        orientation = _read_tag(image) if spec.exif else 1
        _remove_orientation_tag(image)
    image.load()
    opening.check_rows(opened)
    exif_bytes, xmp = _find_metadata(image)
    if opened.format == "PNG":
        png.scale_transparent_grey(image, opened.data)
    if opened.format == "TIFF":
        # It is laid out as EXIF is.
        exif_bytes = opened.data
    elif opened.format == "HEIF" or not spec.exif:
        # The container of a HEIC has turned it already; its EXIF says the same once more.
        orientation = 1
    else:
        orientation = exif.read_orientation(exif_bytes, xmp)
    return _turn(convert_to_rgbx(image), orientation, exif_bytes=exif_bytes)


def _turn(
    rgbx: ByteArray,
    orientation: int = 1,
    size: tuple[int, int] | None = None,
    exif_bytes: bytes = b"",
) -> DecodedImage:
    """Turn pixels as their EXIF says; `size` is the height and width of the whole image before."""
    height, width = size or rgbx.shape[:2]
    if orientation >= 5:
        rgbx, height, width = rgbx.transpose(1, 0, 2), width, height
    if orientation > 1:
        rgbx = np.flip(rgbx, _MIRRORED[orientation])
    return DecodedImage(rgbx, width, height, exif_bytes)


def decode_from_memory(source: Any, spec: PixelSpec) -> DecodedImage:
    """Convert a PIL image, or an array uint8 [h, w], [h, w, 1], [h, w, 3] or [h, w, 4].

    Raises:
        ImageError: `source` is of another type, shape or dtype, or too large.
    """
    if not isinstance(source, Image.Image):
        return _turn(convert_to_rgbx(Image.fromarray(_check_array(source, spec))))
    limits.check_pixels(source.width, source.height, spec.max_pixels)
    if not source.width or not source.height:
        raise ImageError("cannot be used: it has no pixels")
    try:
        # One image may be given several times, and loading it reads its file.
        with _LOADING:
            source.load()
        return _turn(convert_to_rgbx(source), _read_tag(source) if spec.exif else 1)
    except DAMAGE as error:
        raise ImageError(f"cannot be used: {first_line(error)}") from error


def _check_array(source: Any, spec: PixelSpec) -> ByteArray:
    """Return an array as contiguous uint8 [h, w], [h, w, 3] or [h, w, 4]."""
    try:
        array = np.asarray(source)
    except ValueError as error:
        raise ImageError(f"is no image and no array: {first_line(error)}") from error
    if array.dtype != np.uint8:
        raise ImageError(f"an array must be uint8, not {array.dtype}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))) or not array.size:
        raise ImageError(f"an array must be [h, w], [h, w, 3] or [h, w, 4], not {array.shape}")
    limits.check_pixels(array.shape[1], array.shape[0], spec.max_pixels)
    return np.ascontiguousarray(array)


def _read_tag(image: Image.Image) -> int:
    """Read the orientation of a TIFF or of an image in memory; 1 where it is absent or damaged."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except DAMAGE:
        return 1
    return value if isinstance(value, int) and value in _MIRRORED else 1


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
