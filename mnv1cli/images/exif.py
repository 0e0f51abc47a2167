"""The orientation of an image and the time it was taken, from its EXIF; nothing else is read.

EXIF is laid out as a TIFF: a header with the byte order, then directories of
entries of 12 bytes (TIFF 6.0, section 2; EXIF 2.3, section 4.6).
"""

from __future__ import annotations

import re
from datetime import datetime

from mnv1cli.images.formats import tiff

_ORIENTATION = 0x0112
_EXIF_DIRECTORY = 0x8769
# DateTimeOriginal, DateTimeDigitized, DateTime.
_TIMES = (0x9003, 0x9004, 0x0132)
# Those of Olympus's and Panasonic's RAWs are among them.
_HEADERS = (
    b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"IIRO", b"IIRS", b"MMOR", b"IIU\0",
)  # fmt: skip
_IN_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def read_orientation(exif: bytes, xmp: bytes = b"") -> int:
    """Read the orientation, 1 to 8; it is 1 where it is absent, unknown or damaged."""
    value = find_orientation(exif)
    if value is None:
        match = _IN_XMP.search(xmp)
        value = int(match[1]) if match else 1
    return value if 1 <= value <= 8 else 1


def find_orientation(exif: bytes) -> int | None:
    """Return the value of the first entry for the orientation, None without one."""
    block = _find_block(exif)
    for entry in tiff.read_entries(block):
        if entry.tag == _ORIENTATION:
            values = tiff.read_numbers(block, entry)
            return values[0] if len(values) == 1 else 1
    return None


def read_time_taken(exif: bytes) -> str:
    """Read when the picture was taken, else when the file was made, as ISO 8601 without a zone.

    The text is empty where neither is recorded.
    """
    block = _find_block(exif)
    entries = tiff.read_directory(block)
    for place in tiff.read_numbers(block, entries.get(_EXIF_DIRECTORY)):
        entries |= tiff.read_directory(block, place)
    times = (_read_time(block, entries[tag].place) for tag in _TIMES if tag in entries)
    return next(filter(None, times), "")


def _find_block(exif: bytes) -> bytes:
    """Return EXIF from its TIFF header on, empty without one."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    return exif if exif.startswith(_HEADERS) else b""


def _read_time(block: bytes, place: int) -> str:
    text = block[place : place + 19].decode("ascii", "replace")
    try:
        return datetime.strptime(text, "%Y:%m:%d %H:%M:%S").isoformat()  # noqa: DTZ007 - EXIF has none
    except ValueError:
        return ""
