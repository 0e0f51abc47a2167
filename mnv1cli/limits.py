"""How much an image may be, by what it claims, before memory is taken for it."""

from __future__ import annotations

import struct

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


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height that a WebP claims, (0, 0) where that cannot be told.

    Its decoder takes memory for them as soon as it is made.
    """
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        width, height = (int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        return width + 1, height + 1
    if kind == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and len(data) >= 30:
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0
