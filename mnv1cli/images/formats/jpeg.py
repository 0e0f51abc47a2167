"""The checks of a JPEG that libjpeg leaves to its callers: whether it is complete, and its EXIF.

libjpeg paints missing parts grey, and does not report them. Here the segments of
the file are read, the coded pixels are searched for markers, and whatever does
not affect the pixels is left out, so that every decoder sees the same. The
layout is that of ITU-T T.81, annex B.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from mnv1cli.errors import ImageError

# More than any encoder writes. Each scan costs as much as the whole picture.
MAX_SCANS = 100
# Pixels times scans, which take about two seconds.
_MAX_WORK = 4_000_000_000
# Each takes a microsecond, and a file could hold a quarter of a billion.
_MAX_SEGMENTS = 100_000
# Meaningless bytes between two segments.
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
    """A component and its sampling factors."""

    id: int
    horizontal: int
    vertical: int


@dataclass(frozen=True, slots=True)
class Jpeg:
    """A JPEG that is complete, as far as its markers show.

    `data` is the part that decoders need. `height` and `width` are in pixels,
    as stored. A `plain` JPEG has 1 or 3 components in 8 bits, baseline,
    extended or progressive with Huffman codes, as nearly all have. `exif` and
    `xmp` are the contents of those segments.
    """

    data: bytes
    height: int
    width: int
    plain: bool
    exif: bytes
    xmp: bytes


@dataclass(slots=True)
class _State:
    """The part of a JPEG read so far; `dropped` are ranges of the file that no decoder needs."""

    data: bytes
    dropped: list[tuple[int, int]] = field(default_factory=list)
    exif: list[bytes] = field(default_factory=list)
    xmp: bytes = b""
    kind: int = 0
    height: int = 0
    width: int = 0
    components: tuple[_Component, ...] = ()
    # The largest number of blocks across and down that a component has in a unit (MCU).
    across: int = 1
    down: int = 1
    # A bit for each of the 64 frequencies that came, by component and by the bits still missing.
    seen: dict[tuple[int, int], int] = field(default_factory=dict)
    interval: int = 0
    scans: int = 0
    pixel_bytes: int = 0


def read(data: bytes) -> Jpeg:
    """Read a JPEG's segments up to its end; what follows the end is ignored.

    Raises:
        ImageError: its end or another part is missing, or its segments are damaged.
    """
    state = _State(data)
    place = 2
    try:
        for _ in range(_MAX_SEGMENTS):
            start, place = place, _find_marker(data, place)
            if place > start:
                state.dropped.append((start, place))
            marker = data[place + 1]
            if marker == _EOI:
                break
            place = _read_segment(state, marker, place)
        else:
            raise _damaged(f"more than {_MAX_SEGMENTS:,} segments")
    except (IndexError, ValueError, struct.error):
        raise _truncated() from None
    _check_complete(state)
    return _make_result(state, place)


def _truncated() -> ImageError:
    return ImageError("damaged JPEG: truncated, its end is missing")


def _damaged(what: str) -> ImageError:
    return ImageError(f"damaged JPEG: {what}")


def _find_marker(data: bytes, place: int) -> int:
    """Find the start of the next marker, which several bytes 0xFF may precede."""
    if data[place] == 0xFF and data[place + 1] not in (0, 0xFF):
        return place
    match = _MARKER.search(data, place, place + _MAX_GAP)
    if match is None:
        if place + _MAX_GAP < len(data):
            raise _damaged("its segments do not follow each other")
        raise _truncated()
    return match.start()


def _read_segment(state: _State, marker: int, place: int) -> int:
    """Read a segment into `state`; return the place of the next one."""
    data = state.data
    if marker in _BARE:
        state.dropped.append((place, place + 2))
        return place + 2
    if marker not in _KNOWN:
        raise _damaged(f"a segment of the unknown kind {marker:02X}")
    end = place + 2 + (data[place + 2] << 8 | data[place + 3])
    content = data[place + 4 : end]
    if end > len(data):
        raise _truncated()
    if _APP0 <= marker <= _APP15 or marker == _COM:
        if not _affects_pixels(state, marker, content):
            state.dropped.append((place, end))
    elif marker == _SOS:
        return _read_scan(state, content, end)
    elif marker in _FRAMES:
        _read_frame(state, marker, content)
    elif marker == _DRI:
        state.interval = content[0] << 8 | content[1]
    elif marker == _DQT and len(content) < (129 if content[0] >> 4 else 65):
        raise _damaged("a quantisation table is too short")
    return end


def _affects_pixels(state: _State, marker: int, content: bytes) -> bool:
    """Read an application's segment into `state`; return whether decoders use it."""
    if marker == _APP1 and content.startswith(_EXIF):
        state.exif.append(content[len(_EXIF) :])
    elif marker == _APP1 and content.startswith(_XMP):
        state.xmp = content[len(_XMP) :]
    # These two determine the colours.
    return (marker == _APP0 and content.startswith(b"JFIF\0")) or (
        marker == _APP14 and content.startswith(b"Adobe")
    )


def _read_frame(state: _State, marker: int, content: bytes) -> None:
    if state.kind:
        raise _damaged("it has two headers")
    bits, height, width, count = struct.unpack_from(">BHHB", content)
    fields = [struct.unpack_from("BBB", content, 6 + 3 * i) for i in range(count)]
    components = tuple(_Component(i, size >> 4, size & 15) for i, size, _ in fields)
    if bits != 8 or count not in (1, 3, 4):
        raise ImageError(f"a JPEG of {count} colours with {bits} bits each, which is not read")
    if not all(1 <= c.horizontal <= 4 and 1 <= c.vertical <= 4 for c in components):
        raise _damaged("its header makes no sense")
    if not height or not width:
        raise _damaged("its header names no size")
    state.kind, state.height, state.width, state.components = marker, height, width, components
    state.across = max(c.horizontal for c in components)
    state.down = max(c.vertical for c in components)


def _read_scan(state: _State, content: bytes, start: int) -> int:
    """Search a scan for markers; return the place of its end."""
    ids = set(content[1 : 1 + 2 * content[0] : 2])
    state.scans += 1
    if not state.kind:
        raise _damaged("its pixels come before its header")
    if state.scans > MAX_SCANS or state.scans * state.width * state.height > _MAX_WORK:
        size = f"{state.width}x{state.height}"
        raise ImageError(f"a JPEG of {size} in {state.scans} scans or more would take too long")
    restarts = []
    for match in _MARKER.finditer(state.data, start):
        marker = state.data[match.start() + 1]
        if not _RST0 <= marker <= _RST7:
            break
        restarts.append(marker)
    else:
        raise _truncated()
    _record_frequencies(state, ids, content)
    _check_restarts(state, ids, restarts)
    state.pixel_bytes += match.start() - start
    return match.start()


def _record_frequencies(state: _State, ids: set[int], content: bytes) -> None:
    """Record the frequencies of a scan; a progressive one has some, or another bit of them."""
    if state.kind not in _PROGRESSIVE:
        state.seen.update({(i, 0): _ALL for i in ids})
        return
    first, last, precision = content[1 + 2 * content[0] : 4 + 2 * content[0]]
    frequencies = (1 << last + 1) - (1 << first) if first <= last else 0
    before, after = precision >> 4, precision & 15
    for i in ids:
        earlier = state.seen.get((i, before), 0)
        if before and frequencies & ~earlier:
            raise _damaged("some of its scans are missing")
        state.seen[i, before] = earlier & ~frequencies
        state.seen[i, after] = state.seen.get((i, after), 0) | frequencies


def _check_restarts(state: _State, ids: set[int], restarts: list[int]) -> None:
    """Check the number and order of the restart markers in a scan; one more may close it."""
    expected = 0
    if state.interval:
        expected = -(-_count_units(state, ids) // state.interval) - 1
    if len(restarts) - expected not in (0, 1) or any(
        marker != _RST0 + i % 8 for i, marker in enumerate(restarts)
    ):
        raise _damaged("a part of its pixels is missing")


def _count_units(state: _State, ids: set[int]) -> int:
    """Count the units (MCUs) that a scan of these components has (T.81, A.2)."""
    if len(ids) == 1:
        return sum(_count_blocks(state, c) for c in state.components if c.id in ids)
    return -(-state.width // (8 * state.across)) * -(-state.height // (8 * state.down))


def _count_blocks(state: _State, component: _Component) -> int:
    """Count the blocks of 8 x 8 pixels that a component has (T.81, A.1.1)."""
    width = -(-state.width * component.horizontal // state.across)
    height = -(-state.height * component.vertical // state.down)
    return -(-width // 8) * -(-height // 8)


def _check_complete(state: _State) -> None:
    """Check that each component has pixels, and that there are enough bytes for the size."""
    if not state.kind:
        raise _damaged("it has no header")
    if any(state.seen.get((component.id, 0)) != _ALL for component in state.components):
        raise _damaged("some of its scans are missing")
    # A block has at least two codes of one bit; in a progressive JPEG at least one.
    least = {_SOF0: 2, _SOF1: 2, _SOF2: 1}.get(state.kind, 0)
    if 8 * state.pixel_bytes < least * sum(_count_blocks(state, c) for c in state.components):
        raise _damaged(f"too few bytes for {state.width}x{state.height} pixels")


def _make_result(state: _State, end: int) -> Jpeg:
    parts = []
    start = 0
    for first, last in state.dropped:
        parts.append(state.data[start:first])
        start = last
    parts.append(state.data[start : end + len(_END)])
    return Jpeg(
        data=b"".join(parts),
        height=state.height,
        width=state.width,
        plain=state.kind in (_SOF0, _SOF1, _SOF2) and len(state.components) in (1, 3),
        exif=b"".join(state.exif),
        xmp=state.xmp,
    )
