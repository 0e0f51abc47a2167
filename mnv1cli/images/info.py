"""What there is to tell of an image beside its labels: its size, and when it was made."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mnv1cli.errors import ImageError
from mnv1cli.images import exif, file, opening
from mnv1cli.images.formats import jpeg, tiff
from mnv1cli.images.opening import DAMAGE
from mnv1cli.types import ImageInfo

if TYPE_CHECKING:
    from mnv1cli.types import ImageRef, PixelSpec

# The orientations that lay an image on its side.
_LYING = range(5, 9)


def read_info(ref: ImageRef, spec: PixelSpec) -> ImageInfo:
    """The facts of an image, as far as they can be told; its pixels are not decoded.

    Width and height are those of the image as it is seen: turned, where `spec` turns it.
    """
    width = height = None
    taken = ""
    with contextlib.suppress(ImageError, *DAMAGE):
        width, height, taken = _read_header(ref, spec)
    return ImageInfo(width, height, _read_modified(ref), taken)


def _read_header(ref: ImageRef, spec: PixelSpec) -> tuple[int, int, str]:
    if ref.source is not None:
        height, width = ref.source.shape[:2] if hasattr(ref.source, "shape") else (0, 0)
        return getattr(ref.source, "width", width), getattr(ref.source, "height", height), ""
    data = file.read_image(ref, spec.max_bytes)
    found = opening.open_image(data, spec)
    if found.format == "JPEG":
        header = jpeg.read(data)
        told, xmp = header.exif, header.xmp
    elif found.format == "TIFF":
        # The EXIF of others is a TIFF without pixels.
        told, xmp = data, b""
    else:
        told, xmp = found.image.info.get("exif", b""), b""
    # Pillow tells the size of a TIFF as it will be turned.
    tiled = found.format == "TIFF"
    width, height = tiff.read_stored_size(found.image) if tiled else found.image.size
    # A HEIC is turned by its container.
    if spec.exif and found.format != "HEIF" and exif.read_orientation(told, xmp) in _LYING:
        width, height = height, width
    return width, height, exif.read_time_taken(told)


def _read_modified(ref: ImageRef) -> str:
    """When the file was changed last, in UTC; empty for an image that has none of its own."""
    if ref.source is not None:
        return ""
    with contextlib.suppress(OSError, ValueError, OverflowError):
        # A store tells it with its listing, an archive does not.
        told = getattr(ref.member, "mtime", None) if ref.member else os.stat(ref.path).st_mtime
        if told is not None:
            return datetime.fromtimestamp(told, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return ""
