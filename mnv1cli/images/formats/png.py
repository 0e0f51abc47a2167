"""The checks of a PNG that Pillow leaves to its callers: checksums, missing rows, transparency.

Chunks that do not affect the pixels are not given to Pillow at all: it would
unpack texts and profiles, however large they become. The layout is that of the
W3C recommendation "Portable Network Graphics".
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from PIL import Image

from mnv1cli.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAGIC = b"\x89PNG\r\n\x1a\n"
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_NEEDED = (*_CRITICAL, b"tRNS", b"eXIf")
# Text chunks in which programs without eXIf store the orientation.
_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
# The samples per pixel of each colour type.
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Start and step, across and down, of the passes of an interlaced image.
_PASSES = (
    (0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2)
)  # fmt: skip
# Bytes that are unpacked at a time.
_STEP = 1 << 20
# Each takes a microsecond, and a file could hold a hundred times as many.
_MAX_CHUNKS = 1_000_000


def strip_chunks(data: bytes) -> bytes:
    """Return a PNG without the chunks that affect neither its pixels nor its orientation.

    Raises:
        ImageError: a checksum does not match, or a critical chunk is of an unknown kind.
    """
    kept = [data[:8]]
    end = 8
    for kind, start, end in _walk_chunks(data):
        content = memoryview(data)[start:end]
        if end + 4 <= len(data):
            (checksum,) = struct.unpack_from(">I", data, end)
            if zlib.crc32(content, zlib.crc32(kind)) != checksum:
                raise ImageError("damaged PNG: a checksum does not fit")
        if kind[0] & 0x20 == 0 and kind not in _CRITICAL:
            raise ImageError("damaged PNG: a chunk of an unknown kind")
        if kind in _NEEDED or bytes(content[:22]).startswith(_TEXTS):
            kept.append(data[start - 8 : end + 4])
    return b"".join(kept)


def _walk_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each chunk up to the last, and the start and end of its content."""
    place = len(_MAGIC)
    for _ in range(_MAX_CHUNKS):
        if place + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 8 + length
        yield kind, place + 8, end
        if kind == b"IEND":
            return
        place = end + 4
    raise ImageError(f"damaged PNG: more than {_MAX_CHUNKS:,} chunks")


def check_rows(image: Image.Image, data: bytes) -> None:
    """Refuse a loaded PNG whose pixels end before its last row: Pillow leaves the rest black.

    Counting the unpacked bytes costs as much as loading the image; it is
    omitted where the last row is not black anyway.

    Raises:
        ImageError: rows are missing.
    """
    interlaced = data[28]
    bottom = (0, image.height - 1, image.width, image.height)
    # Not `crop`, which applies Pillow's own limit.
    row = image.resize((image.width, 1), Image.Resampling.NEAREST, bottom)
    if not interlaced and row.tobytes().strip(b"\0"):
        return
    if _count_unpacked_bytes(data, _count_expected_bytes(data)) < _count_expected_bytes(data):
        raise ImageError("damaged PNG: its pixels end before its last row")


def _count_expected_bytes(data: bytes) -> int:
    """Count the bytes of an image's rows, unpacked."""
    width, height, depth, colour_type = struct.unpack_from(">IIBB", data, 16)
    passes = _PASSES if data[28] else ((0, 1, 0, 1),)
    total = 0
    for left, across, top, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * depth * _CHANNELS[colour_type] + 7) // 8)
    return total


def _count_unpacked_bytes(data: bytes, wanted: int) -> int:
    """Count the bytes that the pixels unpack to, up to a step beyond those wanted."""
    unpacker = zlib.decompressobj()
    count = 0
    for kind, start, end in _walk_chunks(data):
        packed = data[start:end] if kind == b"IDAT" else b""
        while packed and count < wanted:
            count += len(unpacker.decompress(packed, _STEP))
            packed = unpacker.unconsumed_tail
    return count


def scale_transparent_grey(image: Image.Image, data: bytes) -> None:
    """Scale the transparent grey of a PNG of 2 or 4 bits as Pillow scales its pixels: to 8 bits.

    Raises:
        ImageError: the transparent colour has 16 bits, of which Pillow keeps 8 in the pixels.
    """
    bits, colour_type = data[24], data[25]
    transparent = image.info.get("transparency")
    if colour_type == 2 and bits == 16 and transparent is not None:
        raise ImageError("has a transparent colour of 16 bits; save it with 8, or with alpha")
    if colour_type == 0 and bits in (2, 4) and isinstance(transparent, int):
        image.info["transparency"] = transparent * 255 // (2**bits - 1)
