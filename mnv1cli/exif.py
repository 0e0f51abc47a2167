"""The orientation in an image's EXIF, and nothing else of it."""

from __future__ import annotations

import re
import struct

_ORIENTATION = 0x0112
_HEADERS = {b"II*\0": "<", b"MM\0*": ">", b"II\0*": "<", b"MM*\0": ">"}
# SHORT and LONG, and the signed ones; other types are no number, to Pillow neither.
_NUMBERS = {3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
_IN_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def orientation(exif: bytes, xmp: bytes = b"") -> int:
    """The orientation, 1 to 8; 1 where it is absent, unknown or damaged."""
    value = _in_directory(exif)
    if value is None:
        found = _IN_XMP.search(xmp)
        value = int(found[1]) if found else 1
    return value if 1 <= value <= 8 else 1


def _in_directory(exif: bytes) -> int | None:
    """The value of the first entry for the orientation, where there is one."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    order = _HEADERS.get(exif[:4])
    try:
        if order is None:
            return None
        (place,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, place)
        for start in range(place + 2, place + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(f"{order}HHI", exif, start)
            if tag == _ORIENTATION:
                if count != 1 or kind not in _NUMBERS:
                    return 1
                return int(struct.unpack_from(f"{order}{_NUMBERS[kind]}", exif, start + 8)[0])
    except struct.error:
        pass
    return None
