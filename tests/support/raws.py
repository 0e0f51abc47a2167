"""RAW files as cameras lay them out, with few pixels of their own and a JPEG as preview.

Each has what LibRaw needs to take it for one: TIFF directories with the maker's tags
(DNG 1.4, TIFF/EP), and the headers of CR2, ORF, RAF and RW2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

TIME = "2024:05:06 07:08:09"
TAKEN = "2024-05-06T07:08:09"
# The pixels of the sensor, which nobody decodes: a colour filter array of 16 bits.
WIDTH, HEIGHT = 96, 64
_SENSOR = bytes(2 * WIDTH * HEIGHT)
_BYTE, _ASCII, _SHORT, _LONG, _UNDEFINED = 1, 2, 3, 4, 7
_SUB, _EXIF = 0x014A, 0x8769
# The lengths of strips and of JPEGs, which LibRaw reads as 32 bits whatever their kind.
_LENGTHS = (279, 514)

Directory = dict[int, Any]


@dataclass(frozen=True)
class Undefined:
    """A value of bytes whose meaning TIFF does not define."""

    data: bytes


@dataclass(frozen=True)
class Content:
    """Bytes elsewhere in the file, whose place is the value of an entry."""

    data: bytes


def lay_out(*directories: Directory, head: bytes = b"II*\0", room: int = 8) -> bytes:
    """Lay out a chain of directories as a TIFF, little-endian unless `head` begins with MM.

    A value is a short, several shorts, a text, bytes, a `Content`, a directory (of EXIF), or a
    list of directories. `room` is the length of the header, which is `head` and zeros.
    """
    order = ">" if head.startswith(b"MM") else "<"
    file = bytearray(head.ljust(room, b"\0"))
    link = 4
    for directory in directories:
        place, end = _append(file, directory, order)
        struct.pack_into(f"{order}I", file, link, place)
        link = end
    return bytes(file)


def _append(file: bytearray, directory: Directory, order: str) -> tuple[int, int]:
    """Append a directory and its values; return where it is, and where its link is."""
    entries = []
    for tag, value in sorted(directory.items()):
        kind, count, data = _encode(file, tag, value, order)
        if len(data) > 4:
            data = struct.pack(f"{order}I", _store(file, data))
        entries.append(struct.pack(f"{order}HHI", tag, kind, count) + data.ljust(4, b"\0"))
    table = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)
    place = _store(file, table)
    return place, place + len(table) - 4


def _encode(file: bytearray, tag: int, value: Any, order: str) -> tuple[int, int, bytes]:
    if isinstance(value, str):
        data = value.encode() + b"\0"
        return _ASCII, len(data), data
    if isinstance(value, Undefined):
        return _UNDEFINED, len(value.data), value.data
    if isinstance(value, bytes):
        return _BYTE, len(value), value
    if isinstance(value, Content):
        return _LONG, 1, struct.pack(f"{order}I", _store(file, value.data))
    if isinstance(value, dict):
        return _LONG, 1, struct.pack(f"{order}I", _append(file, value, order)[0])
    if isinstance(value, list):
        places = [_append(file, below, order)[0] for below in value]
        return _LONG, len(places), struct.pack(f"{order}{len(places)}I", *places)
    values = value if isinstance(value, tuple) else (value,)
    kind, code = (_LONG, "I") if tag in _LENGTHS else (_SHORT, "H")
    return kind, len(values), struct.pack(f"{order}{len(values)}{code}", *values)


def _store(file: bytearray, data: bytes) -> int:
    file += bytes(len(file) % 2)
    place = len(file)
    file += data
    return place


def _camera(make: str, model: str, orientation: int) -> Directory:
    times = {0x9003: TIME, 0x9004: TIME}
    return {271: make, 272: model, 274: orientation, 306: TIME, _EXIF: times}


def _strip(data: bytes) -> Directory:
    return {273: Content(data), 278: 1 << 15, 279: len(data)}


def _sensor(compression: int = 1) -> Directory:
    return {
        254: 0, 256: WIDTH, 257: HEIGHT, 258: 16, 259: compression, 262: 32803, 277: 1,
        **_strip(_SENSOR), 33421: (2, 2), 33422: bytes((0, 1, 1, 2)),
    }  # fmt: skip


def _jpeg_strip(preview: bytes, compression: int) -> Directory:
    """A picture of RGB in a JPEG; its size is that of any larger than a thumbnail."""
    return {
        254: 1, 256: 640, 257: 480, 258: (8, 8, 8), 259: compression, 262: 6, 277: 3,
        **_strip(preview),
    }  # fmt: skip


def _jpeg_pointer(preview: bytes) -> Directory:
    return {254: 1, 259: 6, 513: Content(preview), 514: len(preview)}


def bitmap(width: int, height: int, pixels: bytes) -> Directory:
    """A picture in RGB, not compressed."""
    return {
        254: 1, 256: width, 257: height, 258: (8, 8, 8), 259: 1, 262: 2, 277: 3, 284: 1,
        **_strip(pixels),
    }  # fmt: skip


def dng(preview: bytes | Directory, orientation: int = 1, head: bytes = b"II*\0") -> bytes:
    """Make a DNG whose preview is a JPEG, or what a directory describes."""
    shown = _jpeg_strip(preview, 7) if isinstance(preview, bytes) else preview
    camera = _camera("Leica", "LEICA Q", orientation)
    version = {50706: bytes((1, 4, 0, 0)), 50708: "Leica LEICA Q"}
    return lay_out({**shown, **camera, **version, _SUB: [_sensor()]}, head=head)


def nef(preview: bytes, orientation: int = 1) -> bytes:
    """Make a NEF: a bitmap first, which a reader of TIFFs takes for the whole."""
    first = {**bitmap(16, 12, bytes(16 * 12 * 3)), **_camera("NIKON", "NIKON D90", orientation)}
    return lay_out({**first, _SUB: [_jpeg_pointer(preview), _sensor()]}, head=b"MM\0*")


def arw(preview: bytes, orientation: int = 1) -> bytes:
    """Make an ARW."""
    first = {**_jpeg_pointer(preview), **_camera("SONY", "ILCE-7", orientation)}
    return lay_out({**first, _SUB: [_sensor()]})


def _lossless_header() -> bytes:
    """The header of the lossless JPEG in which Canon codes the sensor's pixels."""
    frame = struct.pack(">BHHB", 14, HEIGHT, WIDTH // 2, 2) + bytes((1, 17, 0, 2, 17, 0))
    codes = bytes((0, 0, 1)) + bytes(14) + bytes((0,))
    scan = bytes((2, 1, 0, 2, 0, 1, 0, 0))
    parts = ((0xC4, codes), (0xC3, frame), (0xDA, scan))
    return b"\xff\xd8" + b"".join(
        struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content for marker, content in parts
    )


def cr2(preview: bytes, orientation: int = 1) -> bytes:
    """Make a CR2."""
    first = {**_jpeg_strip(preview, 6), **_camera("Canon", "Canon EOS 5D", orientation)}
    sensor = {259: 6, **_strip(_lossless_header() + _SENSOR), 50752: (1, WIDTH // 2, WIDTH // 2)}
    thumbnail = {513: Content(preview[:0]), 514: 0}
    return lay_out(first, thumbnail, sensor, head=b"II*\0\0\0\0\0CR\2\0", room=16)


def orf(preview: bytes, orientation: int = 1) -> bytes:
    """Make an ORF, whose preview is in the maker's note, with places counted from its start."""
    head, long, directory = b"OLYMPUS\0II\3\0", 4, 13
    settings = struct.pack("<HHHII4x", 1, 0x2020, directory, 1, len(head) + 18)
    start = len(head) + 18 + 30
    place = struct.pack("<HHHIIHHII4x", 2, 0x101, long, 1, start, 0x102, long, 1, len(preview))
    camera = _camera("OLYMPUS IMAGING CORP.", "E-M5", orientation)
    camera[_EXIF][0x927C] = Undefined(head + settings + place + preview)
    return lay_out({**_sensor(), **camera}, head=b"IIRO")


def rw2(preview: bytes, orientation: int = 1) -> bytes:
    """Make an RW2."""
    sensor = {1: b"0300", 2: WIDTH, 3: HEIGHT, 4: 0, 5: 0, 6: HEIGHT, 7: WIDTH, 9: 1, 10: 14}
    camera = _camera("Panasonic", "DMC-G1", orientation)
    pixels = {0x118: Content(_SENSOR), 0x2E: Undefined(preview)}
    return lay_out({**sensor, **camera, **pixels}, head=b"IIU\0", room=24)


def raf(preview: bytes) -> bytes:
    """Make a RAF, which has its preview's EXIF and none of its own."""
    head = b"FUJIFILMCCD-RAW 0201FF383501X100".ljust(84, b"\0")
    start = 160
    tags = struct.pack(">I2HHH", 1, 0x100, 4, HEIGHT, WIDTH)
    sensor = start + len(preview)
    pixels = (sensor + len(tags), len(_SENSOR))
    places = struct.pack(">6I", start, len(preview), sensor, len(tags), *pixels)
    return (head + places).ljust(start, b"\0") + preview + tags + _SENSOR
