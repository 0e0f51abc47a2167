"""What Pillow leaves to its callers in a PNG: checksums, and the scale of a transparent grey."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from mnv1cli.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image


def check(data: bytes) -> None:
    """Hold a PNG's pixel chunks against their checksums, which Pillow does not."""
    place = len(b"\x89PNG\r\n\x1a\n")
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 8 + length
        if kind == b"IDAT" and end + 4 <= len(data):
            (checksum,) = struct.unpack_from(">I", data, end)
            if zlib.crc32(memoryview(data)[place + 4 : end]) != checksum:
                raise ImageError("damaged PNG: a checksum does not fit")
        place = end + 4


def settle_transparency(image: Image.Image, data: bytes) -> None:
    """Give the transparent grey of a PNG of 2 or 4 bits the scale of its 8-bit pixels.

    Raises:
        ImageError: a transparent colour of 16 bits, of whose pixels Pillow keeps 8.
    """
    bits, colour_type = data[24], data[25]
    transparent = image.info.get("transparency")
    if colour_type == 2 and bits == 16 and transparent is not None:
        raise ImageError("has a transparent colour of 16 bits; save it with 8, or with alpha")
    if colour_type == 0 and bits in (2, 4) and isinstance(transparent, int):
        image.info["transparency"] = transparent * 255 // (2**bits - 1)
