"""Bytes among the coded pixels of a JPEG that belong there, or do not.

Some cameras and programs leave meaningless bytes before the end of a JPEG or
before a restart mark, which libjpeg skips with a warning. It gives the same
warning where damage made it finish early: then coded pixels are left over.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mnv1cli.images.formats.jpeg import END, damaged

if TYPE_CHECKING:
    from collections.abc import Callable

    from mnv1cli.images.formats.jpeg import Jpeg

# The page of most file systems, and of memory: lost ones read as zeros.
_PAGE = bytes(4096)
_PROBE_STEP = 1024
# libjpeg does not count bytes that it has taken ahead, 8 and the zeros stuffed among them.
_MAX_AHEAD = 32
# Coded pixels contain a byte 0xFF about every 256 bytes.
_MAX_TAIL = 2500
_LEFT_OVER = "a part of its pixels is damaged, so that some are left over"


def check_zeros(jpeg: Jpeg) -> None:
    """Refuse a JPEG with a page of zeros among its coded pixels.

    Raises:
        ImageError: it has one.
    """
    data, start = jpeg.data, jpeg.start
    # Four samples of each page at first, which is a thousand times faster.
    if not jpeg.scan or bytes(len(_PAGE) // _PROBE_STEP) not in data[start::_PROBE_STEP]:
        return
    place = data.find(_PAGE, start)
    end = len(data) - len(data[place:].lstrip(b"\0"))
    if place < 0 or data[end : end + 2] in (b"", END):
        return
    # Zeros may be right where they code empty blocks: 0 is then the value of each first code.
    if any(codes[min(codes)] for pair in _read_codes(jpeg) for codes in pair if codes):
        raise damaged(f"{len(_PAGE):,} bytes of its pixels are zeros")


def check_restarts(jpeg: Jpeg) -> None:
    """Refuse a JPEG whose restart marks do not follow each other.

    Raises:
        ImageError: a part is missing.
    """
    end = jpeg.data.find(END, jpeg.start)
    marks = re.findall(rb"\xff[\xd0-\xd7]", jpeg.data[jpeg.start : end])
    if any(mark[1] != 0xD0 + i % 8 for i, mark in enumerate(marks)):
        raise damaged("a part of its pixels is missing")


def cut_tail(jpeg: Jpeg, count: int, find_warning: Callable[[bytes], str]) -> bytes | None:
    """Cut meaningless bytes before the end mark, `count` of them or a few more.

    The result is None where they are elsewhere: libjpeg may count those before a restart mark
    too late.

    Raises:
        ImageError: they are coded pixels.
    """
    data = jpeg.data
    end = data.find(END, jpeg.start)
    first, last = max(end - count - _MAX_AHEAD, jpeg.start), end - count + 1
    while first < last:
        middle = (first + last) // 2
        warning = find_warning(data[:middle] + END)
        if "premature" in warning:
            first = middle + 1
        elif warning and "extraneous" not in warning:
            raise damaged(_LEFT_OVER)
        else:
            last = middle
    if first > end - count:
        return None
    tail = data[first:end]
    if 0xFF in tail or _is_coded(data[first - 1 : first] + tail, jpeg):
        raise damaged(_LEFT_OVER)
    return data[:first] + END


def _is_coded(tail: bytes, jpeg: Jpeg) -> bool:
    """Return whether bytes are coded pixels, by their end; the first is of the last unit before.

    They are read as units (MCUs) from each bit of the first byte on. If they are
    coded, a unit ends at their end, where at most seven bits 1 fill the byte
    (T.81, F.1.2.3). Of other bytes that is true in one of a hundred cases.
    """
    if len(tail) > _MAX_TAIL or len(set(tail[1:])) == 1 < len(tail) - 8:
        return False
    unit = _read_codes(jpeg)
    bits = "".join(f"{byte:08b}" for byte in tail)
    for first in range(1, 9):
        place = first
        while place <= len(bits):
            if len(bits) - place < 8 and "0" not in bits[place:]:
                return True
            for dc, ac in unit:
                place = _skip_block(bits, place, dc, ac)
    return False


def _skip_block(bits: str, place: int, dc: dict[str, int], ac: dict[str, int]) -> int:
    """Return the place behind a block of 64 frequencies, which may be behind the end."""
    frequency, codes = 0, dc
    while frequency < 64:
        code = next((c for n in range(1, 17) if (c := bits[place : place + n]) in codes), None)
        if code is None:
            return len(bits) + 1
        # The number of zeros before a value, and the number of its bits.
        zeros, size = codes[code] >> 4, codes[code] & 15
        place += len(code) + size
        if frequency and not size and zeros < 15:
            break
        frequency += zeros + 1 if frequency else 1
        codes = ac
    return place


def _read_codes(jpeg: Jpeg) -> list[tuple[dict[str, int], dict[str, int]]]:
    """Read the codes of the first and of the other frequencies for each block of a unit."""
    tables: dict[int, dict[str, int]] = {}
    for content in jpeg.tables:
        place = 0
        while place + 17 <= len(content):
            counts, values = content[place + 1 : place + 17], iter(content[place + 17 :])
            codes = tables[content[place]] = {}
            code = 0
            # T.81, C.2.
            for length, count in enumerate(counts, 1):
                for _ in range(count):
                    codes[f"{code:0{length}b}"] = next(values, 0)
                    code += 1
                code <<= 1
            place += 17 + sum(counts)
    scan = jpeg.scan
    return [
        (tables.get(scan[2 * i + 2] >> 4, {}), tables.get(0x10 | scan[2 * i + 2] & 15, {}))
        for i in range(scan[0])
        for _ in range(jpeg.components.get(scan[2 * i + 1], 1) if scan[0] > 1 else 1)
    ]
