"""Information about an image beside its labels: its size, and when it was taken and changed."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mnv1cli.images import exif
from mnv1cli.types import ImageInfo

if TYPE_CHECKING:
    from mnv1cli.images.decode import DecodedImage
    from mnv1cli.types import ImageRef


def read_info(ref: ImageRef, image: DecodedImage) -> ImageInfo:
    """Return the size of an image as it is displayed, and its times as far as they are known."""
    taken = exif.read_time_taken(image.exif)
    return ImageInfo(image.width, image.height, _read_modified(ref), taken)


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
