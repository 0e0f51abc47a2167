"""Limits of the size of an image, checked before memory is allocated for it."""

from __future__ import annotations

from mnv1cli.errors import ImageError


class TooLargeError(ImageError):
    """A file of more bytes than allowed."""


def check_pixels(width: int, height: int, limit: int) -> None:
    """Refuse a size in pixels above the limit of `--max-pixels`.

    Raises:
        ImageError: the size is above the limit.
    """
    if width * height > limit:
        pixels = _format_number(limit)
        raise ImageError(f"too large: {width}x{height} is more than {pixels} pixels (--max-pixels)")


def check_bytes(size: int, limit: int) -> None:
    """Refuse a size in bytes above the limit of `--max-bytes`.

    Raises:
        TooLargeError: the size is above the limit.
    """
    if size > limit:
        raise TooLargeError(f"too large: the file has {format_bytes(size)} (--max-bytes)")


def _format_number(number: int) -> str:
    millions, remainder = divmod(number, 10**6)
    return f"{number:,}" if remainder or not millions else f"{millions:,} million"


def format_bytes(size: int) -> str:
    """Format a number of bytes with its unit, such as 1.5 MB."""
    for power, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= power:
            return f"{size / power:.1f} {unit}"
    return f"{size} bytes"
