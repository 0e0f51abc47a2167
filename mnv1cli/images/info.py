"""Information about an image beside its labels: its size, and when it was taken and changed."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mnv1cli.errors import ImageError
from mnv1cli.images import exif, file, opening
from mnv1cli.images.formats import tiff
from mnv1cli.images.opening import DAMAGE
from mnv1cli.types import ImageInfo

if TYPE_CHECKING:
    from mnv1cli.types import ImageRef, PixelSpec

# The EXIF orientations that swap width and height.
_SIDEWAYS = range(5, 9)


def read_info(ref: ImageRef, spec: PixelSpec) -> ImageInfo:
    """Read the size and the times of an image, as far as they are known, without decoding it.

    Width and height are in pixels as the image is displayed: turned by its EXIF
    if `spec.exif`. Nothing is raised for an image that cannot be read.
    """
    width = height = None
    taken = ""
    with contextlib.suppress(ImageError, *DAMAGE):
        width, height, taken = _read_header(ref, spec)
    return ImageInfo(width, height, _read_modified(ref), taken)


def _read_header(ref: ImageRef, spec: PixelSpec) -> tuple[int, int, str]:
    """Read width, height and the time taken."""
    if ref.source is not None:
        height, width = ref.source.shape[:2] if hasattr(ref.source, "shape") else (0, 0)
        return getattr(ref.source, "width", width), getattr(ref.source, "height", height), ""
    data = file.read_image(ref, spec.max_bytes)
    opened = opening.open_image(data, spec)
    width, height = opened.image.size
    exif_bytes = opened.exif or opened.image.info.get("exif", b"")
    if opened.format == "TIFF":
        # A TIFF is laid out as EXIF is. Pillow gives its size as it will be after the turn.
        exif_bytes = data
        width, height = tiff.read_stored_size(opened.image)
    # A HEIC has been turned by its container.
    turned = spec.exif and opened.format != "HEIF"
    if turned and exif.read_orientation(exif_bytes, opened.xmp) in _SIDEWAYS:
        width, height = height, width
    return width, height, exif.read_time_taken(exif_bytes)


def _read_modified(ref: ImageRef) -> str:
    """Read when the file was last changed, in UTC; empty for an image without a file of its own."""
    if ref.source is not None:
        return ""
    with contextlib.suppress(OSError, ValueError, OverflowError):
        # A store gives the time with its listing; an archive does not.
        seconds = getattr(ref.member, "mtime", None) if ref.member else os.stat(ref.path).st_mtime
        if seconds is not None:
            return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return ""
