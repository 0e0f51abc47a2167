"""The checks of a GIF that Pillow leaves to its callers: its claimed size, and missing rows.

The layout is that of the GIF89a specification.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from PIL import Image

from mnv1cli.errors import ImageError

# Blocks before the first frame. Pillow reads them one by one, and so does this file.
_MAX_BLOCKS = 100_000
# The label of a graphic control extension.
_CONTROL = 0xF9


@dataclass(frozen=True, slots=True)
class FirstFrame:
    """The canvas and the first frame of a GIF, as it claims them.

    `width` and `height` are those of the canvas, made large enough for the
    frame, in pixels. `control` is the place of the frame's flags in the file,
    whose lowest bit means transparency; it is 0 where there are none.
    """

    width: int
    height: int
    left: int
    top: int
    right: int
    bottom: int
    interlaced: bool
    control: int

    @property
    def last_row(self) -> tuple[int, int, int, int]:
        """The box (left, top, right, bottom) of the row that is decoded last."""
        rows = self.bottom - self.top
        row = rows - 1
        if self.interlaced and rows % 2 and rows > 1:
            row = rows - 2
        return self.left, self.top + row, self.right, self.top + row + 1


def find_first_frame(data: bytes) -> FirstFrame:
    """Find the first frame of a GIF.

    Raises:
        ImageError: there is no frame, or it is damaged.
    """
    try:
        width, height, flags = struct.unpack_from("<HHB", data, 6)
        place = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        control = 0
        for _ in range(_MAX_BLOCKS):
            if data[place : place + 1] == b",":
                return _read_frame(data, place, width, height, control)
            if data[place : place + 1] == b"!":
                if data[place + 1] == _CONTROL and data[place + 2]:
                    control = place + 3
                place = _skip_blocks(data, place + 2)
            elif data[place] == ord(";"):
                break
            else:
                place += 1
    except (IndexError, struct.error):
        pass
    raise ImageError("damaged GIF: it has no picture")


def _read_frame(data: bytes, place: int, width: int, height: int, control: int) -> FirstFrame:
    left, top, across, down, flags = struct.unpack_from("<HHHHB", data, place + 1)
    right, bottom = left + across, top + down
    size = (max(width, right), max(height, bottom))
    return FirstFrame(*size, left, top, right, bottom, bool(flags & 0x40), control)


def _skip_blocks(data: bytes, place: int) -> int:
    for _ in range(_MAX_BLOCKS):
        if not data[place]:
            return place + 1
        place += 1 + data[place]
    raise IndexError


def is_untouched(image: Image.Image, frame: FirstFrame, filling: int) -> bool:
    """Return whether the frame's last row holds only `filling`, as if no pixels came for it."""
    box = frame.last_row
    # Not `crop`, which applies Pillow's own limit.
    row = image.resize((box[2] - box[0], 1), Image.Resampling.NEAREST, box)
    return not row.tobytes().strip(bytes([filling]))


def make_opaque(data: bytes, frame: FirstFrame) -> bytes:
    """Return the file with a first frame that is not transparent."""
    at = frame.control
    return data[:at] + bytes([data[at] & 0xFE]) + data[at + 1 :] if at else data
