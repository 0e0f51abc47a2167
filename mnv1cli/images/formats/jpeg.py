"""What libjpeg leaves to its callers in a JPEG: whether it is whole, and which way up it belongs.

libjpeg paints what is missing grey, and does not say so. Here the file's
segments are walked, the pixels' own bytes searched for markers, and whatever
has no part in the pixels is left out, so that every decoder sees the same.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from mnv1cli.errors import ImageError

# More than any encoder writes. Each costs as much as the whole picture.
MAX_SCANS = 100
# Pixels times scans: some two seconds.
_MAX_WORK = 4_000_000_000
# Each is at hand in a microsecond, and a file could hold a quarter of a billion.
_MAX_SEGMENTS = 100_000
# Bytes between two segments that mean nothing.
_MAX_GAP = 1 << 16
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_SOF0, _SOF1, _SOF2, _DHT, _JPG, _DAC = 0xC0, 0xC1, 0xC2, 0xC4, 0xC8, 0xCC
_RST0, _RST7, _SOI, _EOI, _SOS, _DQT, _DRI = 0xD0, 0xD7, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD
_APP0, _APP1, _APP14, _APP15, _COM, _TEM = 0xE0, 0xE1, 0xEE, 0xEF, 0xFE, 0x01
_FRAMES = frozenset(range(0xC0, 0xD0)) - {_DHT, _DAC}
_BARE = frozenset(range(_RST0, _RST7 + 1)) | {_TEM}
_KNOWN = _FRAMES | {_DHT, _DAC, _SOS, _DQT, 0xDC, _DRI, _COM, *range(_APP0, _APP15 + 1)}
_PROGRESSIVE = (_SOF2, 0xC6, 0xCA, 0xCE)
_ALL = (1 << 64) - 1
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_END = b"\xff\xd9"


class _Component(NamedTuple):
    id: int
    horizontal: int
    vertical: int


@dataclass(frozen=True, slots=True)
class Jpeg:
    """A JPEG that is whole as far as its markers tell.

    `data` is what decoders need of it. `plain` is one of 1 or 3 colours, coded
    as nearly all are.
    """

    data: bytes
    height: int
    width: int
    plain: bool
    exif: bytes
    xmp: bytes


@dataclass(slots=True)
class _Walk:
    """What was met so far; `dropped` are the ranges of the file that decoders do not need."""

    data: bytes
    dropped: list[tuple[int, int]] = field(default_factory=list)
    exif: list[bytes] = field(default_factory=list)
    xmp: bytes = b""
    kind: int = 0
    height: int = 0
    width: int = 0
    components: tuple[_Component, ...] = ()
    # The most blocks across and down that a component has in a unit.
    across: int = 1
    down: int = 1
    # Of each component, which of its 64 frequencies came, by the bits that they still lack.
    seen: dict[tuple[int, int], int] = field(default_factory=dict)
    interval: int = 0
    scans: int = 0
    pixel_bytes: int = 0


def read(data: bytes) -> Jpeg:
    """Walk through a JPEG up to its end; what comes after that is ignored.

    Raises:
        ImageError: its end or a part of it is missing, or its segments are damaged.
    """
    walk = _Walk(data)
    place = 2
    try:
        for _ in range(_MAX_SEGMENTS):
            start, place = place, _find_marker(data, place)
            if place > start:
                walk.dropped.append((start, place))
            marker = data[place + 1]
            if marker == _EOI:
                break
            place = _read_segment(walk, marker, place)
        else:
            raise _damaged(f"more than {_MAX_SEGMENTS:,} segments")
    except (IndexError, ValueError, struct.error):
        raise _truncated() from None
    _check_complete(walk)
    return _make_result(walk, place)


def _truncated() -> ImageError:
    return ImageError("damaged JPEG: truncated, its end is missing")


def _damaged(what: str) -> ImageError:
    return ImageError(f"damaged JPEG: {what}")


def _find_marker(data: bytes, place: int) -> int:
    """Where the next marker begins, of whose leading 0xFF there may be several."""
    if data[place] == 0xFF and data[place + 1] not in (0, 0xFF):
        return place
    found = _MARKER.search(data, place, place + _MAX_GAP)
    if found is None:
        if place + _MAX_GAP < len(data):
            raise _damaged("its segments do not follow each other")
        raise _truncated()
    return found.start()


def _read_segment(walk: _Walk, marker: int, place: int) -> int:
    """Note what a segment says; where the next one begins."""
    data = walk.data
    if marker in _BARE:
        walk.dropped.append((place, place + 2))
        return place + 2
    if marker not in _KNOWN:
        raise _damaged(f"a segment of the unknown kind {marker:02X}")
    end = place + 2 + (data[place + 2] << 8 | data[place + 3])
    content = data[place + 4 : end]
    if end > len(data):
        raise _truncated()
    if _APP0 <= marker <= _APP15 or marker == _COM:
        if not _affects_pixels(walk, marker, content):
            walk.dropped.append((place, end))
    elif marker == _SOS:
        return _read_scan(walk, content, end)
    elif marker in _FRAMES:
        _read_frame(walk, marker, content)
    elif marker == _DRI:
        walk.interval = content[0] << 8 | content[1]
    elif marker == _DQT and len(content) < (129 if content[0] >> 4 else 65):
        raise _damaged("a quantisation table is too short")
    return end


def _affects_pixels(walk: _Walk, marker: int, content: bytes) -> bool:
    """Note what a segment of a program's own holds, and whether decoders heed it."""
    if marker == _APP1 and content.startswith(_EXIF):
        walk.exif.append(content[len(_EXIF) :])
    elif marker == _APP1 and content.startswith(_XMP):
        walk.xmp = content[len(_XMP) :]
    # These two tell colours.
    return (marker == _APP0 and content.startswith(b"JFIF\0")) or (
        marker == _APP14 and content.startswith(b"Adobe")
    )


def _read_frame(walk: _Walk, marker: int, content: bytes) -> None:
    if walk.kind:
        raise _damaged("it has two headers")
    bits, height, width, count = struct.unpack_from(">BHHB", content)
    parts = [struct.unpack_from("BBB", content, 6 + 3 * i) for i in range(count)]
    components = tuple(_Component(i, size >> 4, size & 15) for i, size, _ in parts)
    if bits != 8 or count not in (1, 3, 4):
        raise ImageError(f"a JPEG of {count} colours with {bits} bits each, which is not read")
    if not all(1 <= c.horizontal <= 4 and 1 <= c.vertical <= 4 for c in components):
        raise _damaged("its header makes no sense")
    if not height or not width:
        raise _damaged("its header names no size")
    walk.kind, walk.height, walk.width, walk.components = marker, height, width, components
    walk.across = max(c.horizontal for c in components)
    walk.down = max(c.vertical for c in components)


def _read_scan(walk: _Walk, content: bytes, start: int) -> int:
    """Look through a scan for markers; where it ends."""
    ids = set(content[1 : 1 + 2 * content[0] : 2])
    walk.scans += 1
    if not walk.kind:
        raise _damaged("its pixels come before its header")
    if walk.scans > MAX_SCANS or walk.scans * walk.width * walk.height > _MAX_WORK:
        size = f"{walk.width}x{walk.height}"
        raise ImageError(f"a JPEG of {size} in {walk.scans} scans or more would take too long")
    restarts = []
    for found in _MARKER.finditer(walk.data, start):
        marker = walk.data[found.start() + 1]
        if not _RST0 <= marker <= _RST7:
            break
        restarts.append(marker)
    else:
        raise _truncated()
    _note_frequencies(walk, ids, content)
    _check_restarts(walk, ids, restarts)
    walk.pixel_bytes += found.start() - start
    return found.start()


def _note_frequencies(walk: _Walk, ids: set[int], content: bytes) -> None:
    """Note what a scan brings: of a progressive one some frequencies, or one bit more of them."""
    if walk.kind not in _PROGRESSIVE:
        walk.seen.update({(i, 0): _ALL for i in ids})
        return
    first, last, precision = content[1 + 2 * content[0] : 4 + 2 * content[0]]
    frequencies = (1 << last + 1) - (1 << first) if first <= last else 0
    before, after = precision >> 4, precision & 15
    for i in ids:
        known = walk.seen.get((i, before), 0)
        if before and frequencies & ~known:
            raise _damaged("some of its scans are missing")
        walk.seen[i, before] = known & ~frequencies
        walk.seen[i, after] = walk.seen.get((i, after), 0) | frequencies


def _check_restarts(walk: _Walk, ids: set[int], restarts: list[int]) -> None:
    """Hold the marks within a scan against their number and order; one more may close it."""
    expected = 0
    if walk.interval:
        expected = -(-_count_units(walk, ids) // walk.interval) - 1
    if len(restarts) - expected not in (0, 1) or any(
        marker != _RST0 + i % 8 for i, marker in enumerate(restarts)
    ):
        raise _damaged("a part of its pixels is missing")


def _count_units(walk: _Walk, ids: set[int]) -> int:
    """How many units a scan of these components has."""
    if len(ids) == 1:
        return sum(_count_blocks(walk, c) for c in walk.components if c.id in ids)
    return -(-walk.width // (8 * walk.across)) * -(-walk.height // (8 * walk.down))


def _count_blocks(walk: _Walk, component: _Component) -> int:
    """The blocks of 8 x 8 that a component has."""
    width = -(-walk.width * component.horizontal // walk.across)
    height = -(-walk.height * component.vertical // walk.down)
    return -(-width // 8) * -(-height // 8)


def _check_complete(walk: _Walk) -> None:
    """Whether there are pixels for each component, and bytes enough for the size claimed."""
    if not walk.kind:
        raise _damaged("it has no header")
    if any(walk.seen.get((component.id, 0)) != _ALL for component in walk.components):
        raise _damaged("some of its scans are missing")
    # No block has less than two codes of one bit, in a progressive one less than one.
    least = {_SOF0: 2, _SOF1: 2, _SOF2: 1}.get(walk.kind, 0)
    if 8 * walk.pixel_bytes < least * sum(_count_blocks(walk, c) for c in walk.components):
        raise _damaged(f"too few bytes for {walk.width}x{walk.height} pixels")


def _make_result(walk: _Walk, end: int) -> Jpeg:
    parts = []
    start = 0
    for first, last in walk.dropped:
        parts.append(walk.data[start:first])
        start = last
    parts.append(walk.data[start : end + len(_END)])
    return Jpeg(
        data=b"".join(parts),
        height=walk.height,
        width=walk.width,
        plain=walk.kind in (_SOF0, _SOF1, _SOF2) and len(walk.components) in (1, 3),
        exif=b"".join(walk.exif),
        xmp=walk.xmp,
    )
