"""The segments of a JPEG: its size, its EXIF, and the part of the file that decoders need.

libjpeg says itself where coded pixels are damaged (`jpeg_pixels.py`). It does not
see that scans are missing, and it has no bounds. So the segments are read here,
and whatever does not affect the pixels is left out. The layout is that of ITU-T
T.81, annex B.
"""

from __future__ import annotations

import itertools
import re
import struct
from dataclasses import dataclass, field

from mnv1cli.errors import ImageError

# More than any encoder writes. Each scan costs as much as the whole picture.
MAX_SCANS = 100
# Pixels times scans, which take about two seconds.
MAX_WORK = 4_000_000_000
# Each takes a microsecond, and a file could hold a quarter of a billion.
_MAX_SEGMENTS = 100_000
# Meaningless bytes between two segments.
_MAX_GAP = 1 << 16
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_DHT, _DAC, _EOI, _SOS, _DQT, _APP0, _APP1, _APP14 = 0xC4, 0xCC, 0xD9, 0xDA, 0xDB, 0xE0, 0xE1, 0xEE
_FRAMES = frozenset(range(0xC0, 0xD0)) - {_DHT, _DAC}
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1), (0xC2, 0xC6, 0xCA, 0xCE)
# Markers without a segment: restarts, and one for temporary use.
_BARE = frozenset((*range(0xD0, 0xD8), 0x01))
# Segments of applications, and comments.
_NOTES = frozenset((*range(_APP0, 0xF0), 0xFE))
_ALL = (1 << 64) - 1
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
END = b"\xff\xd9"


@dataclass(slots=True)
class Jpeg:
    """A JPEG as far as its segments show.

    Attributes:
        data: the file; after `cut` the part of it that decoders need.
        height: the height in pixels, as stored.
        width: the width in pixels, as stored.
        colours: the number of components.
        exif: the contents of the EXIF segments.
        xmp: the contents of the XMP segment.
        components: the number of blocks in a unit (MCU) by the id of each component.
        tables: the contents of the segments with Huffman codes.
        scan: the header of the scan, if it is the only one and sequential; else empty.
        start: the place in `data` at which the coded pixels of that scan begin.
        ends: the places in `data` at which a damaged JPEG may be cut: the first is before all
            coded pixels, the last is its end.
        dropped: the ranges of `data` that no decoder needs.
    """

    data: bytes
    height: int = 0
    width: int = 0
    colours: int = 0
    exif: bytes = b""
    xmp: bytes = b""
    components: dict[int, int] = field(default_factory=dict)
    tables: list[bytes] = field(default_factory=list)
    scan: bytes = b""
    start: int = 0
    ends: list[int] = field(default_factory=list)
    dropped: list[tuple[int, int]] = field(default_factory=list)

    def cut(self) -> bool:
        """Leave out of the data what no decoder needs; return whether there was any of that.

        Decoders seldom mind it, and a copy of a large file takes its time.
        """
        if not self.dropped:
            return False
        starts = (0, *(last for _, last in self.dropped))
        lasts = (*(first for first, _ in self.dropped), len(self.data))
        data = b"".join(self.data[first:last] for first, last in zip(starts, lasts, strict=True))
        self.start -= len(self.data) - len(data)
        self.data, self.dropped = data, []
        return True


@dataclass(slots=True)
class _State:
    """The part of a JPEG read so far, up to `place`.

    With `is_lenient` scans may be missing or end early; `ends` are the beginning of the first one
    and the ends of all.
    """

    data: bytes
    jpeg: Jpeg
    is_lenient: bool = False
    place: int = 2
    ends: list[int] = field(default_factory=list)
    exif: list[bytes] = field(default_factory=list)
    kind: int = 0
    # A bit for each of the 64 frequencies that came, by component and by the bits still missing.
    seen: dict[tuple[int, int], int] = field(default_factory=dict)
    scans: int = 0


def read(data: bytes) -> Jpeg:
    """Read a JPEG's segments: up to its pixels if they are in one scan, else up to its end.

    Raises:
        ImageError: its end or another part is missing, or its segments are damaged.
    """
    return _read_segments(_State(data, Jpeg(data)))


def read_damaged(data: bytes) -> Jpeg:
    """Read a JPEG's segments as far as they make sense, from its header to its first scan at least.

    Raises:
        ImageError: its header is damaged, or there is no scan, or too many of them.
    """
    state = _State(data, Jpeg(data), is_lenient=True)
    try:
        jpeg = _read_segments(state)
    except DamageError:
        if not state.ends:
            raise
        jpeg = _end(state, state.place)
    removed = [(last, last - first) for first, last in jpeg.dropped]
    jpeg.cut()
    if jpeg.scan:
        # There are no segments in a scan: each marker may be where libjpeg gives up.
        markers = _SCAN_END.finditer(jpeg.data, jpeg.start)
        places = (match.start() for match in itertools.islice(markers, MAX_SCANS))
        jpeg.ends = [jpeg.start, *places, len(jpeg.data)]
        return jpeg
    jpeg.ends = [
        end - sum(length for place, length in removed if place <= end) for end in state.ends
    ]
    jpeg.ends.append(len(jpeg.data))
    return jpeg


def _read_segments(state: _State) -> Jpeg:
    data = state.data
    try:
        for _ in range(_MAX_SEGMENTS):
            start, state.place = state.place, _find_marker(data, state.place)
            if start < state.place:
                state.jpeg.dropped.append((start, state.place))
            marker = data[state.place + 1]
            if marker == _EOI:
                _check_complete(state)
                return _end(state, state.place + len(END))
            state.place = _read_segment(state, marker, state.place)
            if state.jpeg.scan:
                return _end(state, len(data))
    except (IndexError, ValueError, struct.error):
        raise damaged("truncated, its end is missing") from None
    raise damaged(f"more than {_MAX_SEGMENTS:,} segments")


class DamageError(ImageError):
    """A JPEG that is damaged."""


def damaged(what: str) -> DamageError:
    """Return the error for a damaged JPEG."""
    return DamageError(f"damaged JPEG: {what}")


def _find_marker(data: bytes, place: int) -> int:
    """Find the start of the next marker, which several bytes 0xFF may precede."""
    if data[place] == 0xFF and data[place + 1] not in (0, 0xFF):
        return place
    match = _MARKER.search(data, place, place + _MAX_GAP)
    if match is None:
        if place + _MAX_GAP < len(data):
            raise damaged("its segments do not follow each other")
        raise IndexError
    return match.start()


def _read_segment(state: _State, marker: int, place: int) -> int:
    """Read a segment into `state`; return the place of the next one."""
    data = state.data
    if marker in _BARE:
        state.jpeg.dropped.append((place, place + 2))
        return place + 2
    end = place + 2 + (data[place + 2] << 8 | data[place + 3])
    content = data[place + 4 : end]
    if end > len(data):
        raise IndexError
    if marker in _NOTES:
        if not _affects_pixels(state, marker, content):
            state.jpeg.dropped.append((place, end))
    elif marker == _SOS:
        return _read_scan(state, content, end)
    elif marker in _FRAMES:
        _read_frame(state, marker, content)
    elif marker == _DHT:
        state.jpeg.tables.append(content)
    elif marker == _DQT and len(content) < (129 if content[0] >> 4 else 65):
        raise damaged("a quantisation table is too short")
    return end


def _affects_pixels(state: _State, marker: int, content: bytes) -> bool:
    """Read an application's segment into `state`; return whether decoders use it."""
    if marker == _APP1 and content.startswith(_EXIF):
        state.exif.append(content[len(_EXIF) :])
    elif marker == _APP1 and content.startswith(_XMP):
        state.jpeg.xmp = content[len(_XMP) :]
    # These two determine the colours.
    return (marker == _APP0 and content.startswith(b"JFIF\0")) or (
        marker == _APP14 and content.startswith(b"Adobe")
    )


def _read_frame(state: _State, marker: int, content: bytes) -> None:
    if state.kind:
        raise damaged("it has two headers")
    bits, height, width, count = struct.unpack_from(">BHHB", content)
    if bits != 8 or count not in (1, 3, 4):
        raise ImageError(f"a JPEG of {count} colours with {bits} bits each, which is not read")
    for i in range(6, 6 + 3 * count, 3):
        factor = content[i + 1]
        across, down = factor >> 4, factor & 15
        if not (1 <= across <= 4 and 1 <= down <= 4):
            raise damaged("its header makes no sense")
        state.jpeg.components[content[i]] = across * down
    if not height or not width:
        raise damaged("its header names no size")
    state.kind, state.jpeg.colours = marker, count
    state.jpeg.height, state.jpeg.width = height, width


def _read_scan(state: _State, content: bytes, start: int) -> int:
    """Read the header of a scan; return the place of its end."""
    jpeg = state.jpeg
    ids = set(content[1 : 1 + 2 * content[0] : 2])
    state.scans += 1
    if not state.kind:
        raise damaged("its pixels come before its header")
    if state.kind in _SEQUENTIAL and state.scans == 1 and ids >= jpeg.components.keys():
        jpeg.scan, jpeg.start = content, start
        return start
    if state.scans > MAX_SCANS or state.scans * jpeg.width * jpeg.height > MAX_WORK:
        size = f"{jpeg.width}x{jpeg.height}"
        raise ImageError(f"a JPEG of {size} in {state.scans} scans or more would take too long")
    match = _SCAN_END.search(state.data, start)
    if match is None and not state.is_lenient:
        raise IndexError
    end = len(state.data) if match is None else match.start()
    _record_frequencies(state, ids, content)
    state.ends += [end] if state.ends else [start, end]
    return end


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
        if before and frequencies & ~earlier and not state.is_lenient:
            raise damaged("some of its scans are missing")
        state.seen[i, before] = earlier & ~frequencies
        state.seen[i, after] = state.seen.get((i, after), 0) | frequencies


def _check_complete(state: _State) -> None:
    """Check that every component has pixels."""
    if not state.kind:
        raise damaged("it has no header")
    if not state.is_lenient and any(state.seen.get((i, 0)) != _ALL for i in state.jpeg.components):
        raise damaged("some of its scans are missing")


def _end(state: _State, end: int) -> Jpeg:
    """Return the JPEG; everything from `end` on is of no use."""
    jpeg = state.jpeg
    if end < len(state.data):
        jpeg.dropped.append((end, len(state.data)))
    jpeg.exif = b"".join(state.exif)
    return jpeg
