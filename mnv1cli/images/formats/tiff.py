"""The checks of a TIFF that Pillow leaves to its callers: its directory, and missing strips.

The layout is that of TIFF 6.0, section 2, and of BigTIFF.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from mnv1cli.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

# The bytes of a value of each type.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}
_BYTES, _TEXT, _UNKNOWN = 1, 2, 7
# Numbers in an entry, which Pillow makes Python's numbers: a strip for each row needs fewer.
_MAX_NUMBERS = 4_000_000
_MAX_ENTRIES = 0xFFFF
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_SHORT, _SAMPLE_FORMAT = 3, 339
# Whole numbers as `struct` names them, but for bytes; two kinds are places of directories.
_CODES = {3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 18: "Q"}
# More of them in one entry are not read here.
_MAX_VALUES = 64
_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_UNSIGNED, _SIGNED, _UNDEFINED = 1, 2, 4
# The highest bit of a byte turned: its value as an offset from the lowest one.
_FLIP = bytes(i ^ 0x80 for i in range(256))


def check_directory(data: bytes) -> None:
    """Refuse a directory whose entries have more bytes than the file, or too many numbers.

    All entries may point to the same bytes, and each would be read on its own.

    Raises:
        ImageError: the directory is of that kind.
    """
    total = 0
    for entry in read_entries(data):
        total += entry.length * _SIZES.get(entry.kind, 0)
        numbers = entry.length if entry.kind not in (_BYTES, _TEXT, _UNKNOWN) else 0
        if total > 2 * len(data) or numbers > _MAX_NUMBERS:
            raise ImageError("damaged TIFF: its directory claims more than the file has")


class Entry(NamedTuple):
    """An entry of a directory, with `length` values of a kind at `place` in the file."""

    tag: int
    kind: int
    length: int
    place: int


def is_tiff(data: bytes) -> bool:
    """Return whether a file is a TIFF or BigTIFF, by its first bytes."""
    return data.startswith(_MAGIC)


def read_directory(data: bytes, place: int | None = None) -> dict[int, Entry]:
    """Read the entries of the directory at a place in a TIFF, or of the first one, by their tags.

    Raises:
        ImageError: it claims more entries than a directory can have.
    """
    return {entry.tag: entry for entry in read_entries(data, place)}


def read_numbers(data: bytes, entry: Entry | None) -> tuple[int, ...]:
    """Read the whole numbers of an entry; none where it is absent, damaged, or of other values."""
    if entry is None or entry.kind not in _CODES or entry.length > _MAX_VALUES:
        return ()
    try:
        layout = f"{_read_order(data)}{entry.length}{_CODES[entry.kind]}"
        return struct.unpack_from(layout, data, entry.place)
    except (struct.error, OverflowError):
        return ()


def read_entries(data: bytes, place: int | None = None) -> Iterator[Entry]:
    """Read the entries of the directory at a place in a TIFF, or of the first one.

    Raises:
        ImageError: it claims more entries than a directory can have.
    """
    order = _read_order(data)
    big = data[2:4] in (b"+\0", b"\0+")
    entry = struct.Struct(order + ("HHQQ" if big else "HHII"))
    room = 8 if big else 4
    try:
        if place is None:
            (place,) = struct.unpack_from(order + ("Q" if big else "I"), data, room)
        (entries,) = struct.unpack_from(order + ("Q" if big else "H"), data, place)
    except (struct.error, OverflowError):
        # The directory is beyond the end of the file, which Pillow reports.
        return
    if entries > _MAX_ENTRIES:
        raise ImageError(f"damaged TIFF: its directory has {entries:,} entries")
    start = place + (8 if big else 2)
    stop = min(start + entry.size * entries, len(data) - entry.size + 1)
    for at in range(start, stop, entry.size):
        tag, kind, length, pointer = entry.unpack_from(data, at)
        is_inside = length * _SIZES.get(kind, 0) <= room
        yield Entry(tag, kind, length, at + entry.size - room if is_inside else pointer)


def _read_order(data: bytes) -> str:
    return ">" if data[:2] == b"MM" else "<"


def _find_formats(data: bytes) -> tuple[int, tuple[int, ...]]:
    """Return where the formats of the samples are, and the formats; none where they are absent."""
    entry = read_directory(data).get(_SAMPLE_FORMAT)
    if entry is None or entry.kind != _SHORT:
        return 0, ()
    return entry.place, read_numbers(data, entry)


def _is_signed(data: bytes) -> bool:
    return set(_find_formats(data)[1]) == {_SIGNED}


def make_unsigned(data: bytes) -> bytes:
    """Return a TIFF that says of signed samples that they are unsigned, for Pillow.

    Pillow takes signed bytes for unsigned ones, and knows few other signed formats.
    `restore_sign` does the rest. Samples of an undefined format count as unsigned, as TIFF 6.0
    recommends in section 19.
    """
    place, formats = _find_formats(data)
    if set(formats) not in ({_SIGNED}, {_UNDEFINED}):
        return data
    unsigned = struct.pack(f"{_read_order(data)}{len(formats)}H", *[_UNSIGNED] * len(formats))
    return data[:place] + unsigned + data[place + len(unsigned) :]


def restore_sign(image: Image.Image, data: bytes) -> None:
    """Map signed samples of a decoded image, read as unsigned ones, to the unsigned range.

    The lowest value becomes 0 and the highest 255 or 65535: an offset of half the range, as
    ImageJ has for them. `data` is the file.
    """
    if not _is_signed(data) or image.mode in ("P", "PA"):
        return
    # A copy: Pillow gives the pixels of a turned TIFF in the shape before the turn.
    plain = image.copy()
    if plain.mode.startswith("I;16"):
        samples = np.asarray(plain)
        # numpy's results have the order of the machine.
        flipped = (samples ^ np.array(0x8000, samples.dtype)).astype(samples.dtype)
        image.im = Image.frombytes(plain.mode, plain.size, flipped.tobytes()).im
    elif plain.mode not in ("I", "F"):
        image.im = plain.point(_FLIP * len(plain.getbands())).im


def read_tile_size(image: Image.Image) -> tuple[int, int]:
    """Read the width and height that a tile claims, (0, 0) where there are no tiles."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    width, height = tags.get(_TILE_WIDTH, 0), tags.get(_TILE_HEIGHT, 0)
    return (width, height) if isinstance(width, int) and isinstance(height, int) else (0, 0)


def read_stored_size(image: Image.Image) -> tuple[int, int]:
    """Read width and height as stored; Pillow's own are those after the turn by EXIF."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    return tags[256], tags[257]


def check_strips(image: Image.Image) -> None:
    """Refuse an image whose strips or tiles do not cover it: Pillow leaves the rest black.

    Raises:
        ImageError: a part of the image is missing.
    """
    width, height = read_stored_size(image)
    boxes = {tuple(tile[1]) for tile in image.tile}  # type: ignore[attr-defined]
    if sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes) < width * height:
        raise ImageError("damaged TIFF: a part of its pixels is missing")
