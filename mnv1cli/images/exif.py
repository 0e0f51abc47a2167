"""The orientation in an image's EXIF, and when it was taken; nothing else of it."""

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
_HEADERS = {b"II*\0": "<", b"MM\0*": ">", b"II\0*": "<", b"MM*\0": ">"}
# SHORT and LONG, and the signed ones; other types are no number, to Pillow neither.
_NUMBERS = {3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
_IN_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def read_orientation(exif: bytes, xmp: bytes = b"") -> int:
    """The orientation, 1 to 8; 1 where it is absent, unknown or damaged."""
    value = _find_orientation(exif)
    if value is None:
        found = _IN_XMP.search(xmp)
        value = int(found[1]) if found else 1
    return value if 1 <= value <= 8 else 1


def read_time_taken(exif: bytes) -> str:
    """When the picture was taken, else when the file was made, as ISO 8601 without a zone.

    Empty where that is not told.
    """
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    order = _HEADERS.get(exif[:4])
    if order is None:
        return ""
    try:
        (place,) = struct.unpack_from(f"{order}I", exif, 4)
        known = dict(_walk_entries(exif, order, place))
        if _EXIF_DIRECTORY in known:
            (place,) = struct.unpack_from(f"{order}I", exif, known[_EXIF_DIRECTORY] + 8)
            known |= dict(_walk_entries(exif, order, place))
        return next(filter(None, (_read_time(exif, order, known.get(tag)) for tag in _TIMES)), "")
    except struct.error:
        return ""


def _walk_entries(exif: bytes, order: str, place: int) -> Iterator[tuple[int, int]]:
    """Each entry of a directory by its tag, and where it stands."""
    (entries,) = struct.unpack_from(f"{order}H", exif, place)
    for start in range(place + 2, place + 2 + 12 * entries, 12):
        yield struct.unpack_from(f"{order}H", exif, start)[0], start


def _read_time(exif: bytes, order: str, entry: int | None) -> str:
    if entry is None:
        return ""
    (place,) = struct.unpack_from(f"{order}I", exif, entry + 8)
    text = exif[place : place + 19].decode("ascii", "replace")
    try:
        return datetime.strptime(text, "%Y:%m:%d %H:%M:%S").isoformat()  # noqa: DTZ007 - it tells none
    except ValueError:
        return ""


def _find_orientation(exif: bytes) -> int | None:
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
