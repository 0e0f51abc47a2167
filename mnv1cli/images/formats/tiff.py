"""The checks of a TIFF that Pillow leaves to its callers: its directory, and missing strips.

The layout is that of TIFF 6.0, section 2, and of BigTIFF.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

# The bytes of a value of each type.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}
_BYTES, _TEXT, _UNKNOWN = 1, 2, 7
# Numbers in an entry, which Pillow makes Python's numbers: a strip for each row needs fewer.
_MAX_NUMBERS = 4_000_000
_MAX_ENTRIES = 0xFFFF
_TILE_WIDTH, _TILE_HEIGHT = 322, 323


def check_directory(data: bytes) -> None:
    """Refuse a directory whose entries have more bytes than the file, or too many numbers.

    All entries may point to the same bytes, and each would be read on its own.

    Raises:
        ImageError: the directory is of that kind.
    """
    order = ">" if data[:2] == b"MM" else "<"
    big = data[2:4] in (b"+\0", b"\0+")
    entry = struct.Struct(order + ("HHQ" if big else "HHI"))
    width = 20 if big else 12
    try:
        (place,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        (entries,) = struct.unpack_from(order + ("Q" if big else "H"), data, place)
    except (struct.error, OverflowError):
        # The directory is beyond the end of the file, which Pillow reports.
        return
    if entries > _MAX_ENTRIES:
        raise ImageError(f"damaged TIFF: its directory has {entries:,} entries")
    start = place + (8 if big else 2)
    total = 0
    for at in range(start, min(start + width * entries, len(data) - width + 1), width):
        _, kind, count = entry.unpack_from(data, at)
        total += count * _SIZES.get(kind, 0)
        numbers = count if kind not in (_BYTES, _TEXT, _UNKNOWN) else 0
        if total > 2 * len(data) or numbers > _MAX_NUMBERS:
            raise ImageError("damaged TIFF: its directory claims more than the file has")


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
