"""How much an image may be, by what it claims, before memory is taken for it."""

from __future__ import annotations

from mnv1cli.errors import ImageError


class TooLargeError(ImageError):
    """A file of more bytes than are allowed."""


def check_pixels(width: int, height: int, limit: int) -> None:
    """Hold a claimed size against `--max-pixels`.

    Raises:
        ImageError: it is more.
    """
    if width * height > limit:
        raise ImageError(
            f"too large: {width}x{height} is more than {_pixels(limit)} pixels (--max-pixels)"
        )


def check_bytes(size: int, limit: int) -> None:
    """Hold a file's length against `--max-bytes`.

    Raises:
        TooLargeError: it is more.
    """
    if size > limit:
        raise TooLargeError(f"too large: the file has {_bytes(size)} (--max-bytes)")


def _pixels(number: int) -> str:
    millions, rest = divmod(number, 10**6)
    return f"{number:,}" if rest or not millions else f"{millions:,} million"


def _bytes(size: int) -> str:
    for power, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= power:
            return f"{size / power:.1f} {unit}"
    return f"{size} bytes"
