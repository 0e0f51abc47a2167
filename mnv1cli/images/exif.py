"""The orientation of an image and the time it was taken, from its EXIF; nothing else is read.

EXIF is laid out as a TIFF: a header with the byte order, then directories of
entries of 12 bytes (TIFF 6.0, section 2; EXIF 2.3, section 4.6).
"""

from __future__ import annotations

import re
import struct
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ORIENTATION = 0x0112
_EXIF_DIRECTORY = 0x8769
# DateTimeOriginal, DateTimeDigitized, DateTime.
_TIMES = (0x9003, 0x9004, 0x0132)
# Those of Olympus's and Panasonic's RAWs are among them.
_HEADERS = {
    b"II*\0": "<", b"MM\0*": ">", b"II\0*": "<", b"MM*\0": ">",
    b"IIRO": "<", b"IIRS": "<", b"MMOR": ">", b"IIU\0": "<",
}  # fmt: skip
# SHORT and LONG, and the signed types; other types are no numbers, for Pillow neither.
_NUMBERS = {3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
_IN_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def read_orientation(exif: bytes, xmp: bytes = b"") -> int:
    """Read the orientation, 1 to 8; it is 1 where it is absent, unknown or damaged."""
    value = find_orientation(exif)
    if value is None:
        match = _IN_XMP.search(xmp)
        value = int(match[1]) if match else 1
    return value if 1 <= value <= 8 else 1


def read_time_taken(exif: bytes) -> str:
    """Read when the picture was taken, else when the file was made, as ISO 8601 without a zone.

    The text is empty where neither is recorded.
    """
    exif, order = _read_byte_order(exif)
    if order is None:
        return ""
    try:
        (place,) = struct.unpack_from(f"{order}I", exif, 4)
        places = dict(_walk_entries(exif, order, place))
        if _EXIF_DIRECTORY in places:
            (place,) = struct.unpack_from(f"{order}I", exif, places[_EXIF_DIRECTORY] + 8)
            places |= dict(_walk_entries(exif, order, place))
        times = (_read_time(exif, order, places.get(tag)) for tag in _TIMES)
        return next(filter(None, times), "")
    except struct.error:
        return ""


def _read_byte_order(exif: bytes) -> tuple[bytes, str | None]:
    """Return EXIF from its TIFF header on, and its byte order for `struct`, None without one."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    return exif, _HEADERS.get(exif[:4])


def _walk_entries(exif: bytes, order: str, place: int) -> Iterator[tuple[int, int]]:
    """Yield the tag of each entry of the directory at `place`, and the place of the entry."""
    (entries,) = struct.unpack_from(f"{order}H", exif, place)
    for start in range(place + 2, place + 2 + 12 * entries, 12):
        yield struct.unpack_from(f"{order}H", exif, start)[0], start


def _read_time(exif: bytes, order: str, entry: int | None) -> str:
    if entry is None:
        return ""
    (place,) = struct.unpack_from(f"{order}I", exif, entry + 8)
    text = exif[place : place + 19].decode("ascii", "replace")
    try:
        return datetime.strptime(text, "%Y:%m:%d %H:%M:%S").isoformat()  # noqa: DTZ007 - EXIF has none
    except ValueError:
        return ""


def find_orientation(exif: bytes) -> int | None:
    """Return the value of the first entry for the orientation, None without one."""
    exif, order = _read_byte_order(exif)
    if order is None:
        return None
    try:
        (place,) = struct.unpack_from(f"{order}I", exif, 4)
        for tag, start in _walk_entries(exif, order, place):
            _, kind, count = struct.unpack_from(f"{order}HHI", exif, start)
            if tag == _ORIENTATION:
                if count != 1 or kind not in _NUMBERS:
                    return 1
                return int(struct.unpack_from(f"{order}{_NUMBERS[kind]}", exif, start + 8)[0])
    except struct.error:
        pass
    return None
