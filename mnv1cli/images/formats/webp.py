"""The size that the header of a WebP claims (RFC 9649, section 2)."""

from __future__ import annotations

import struct


def read_size(data: bytes) -> tuple[int, int]:
    """Read the width and height that a WebP claims, (0, 0) where it is damaged.

    Its decoder allocates memory for them as soon as it is created.
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
