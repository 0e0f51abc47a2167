"""What Pillow leaves to its callers in a GIF: the first frame's claims, and whether it is whole."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from PIL import Image

from mnv1cli.errors import ImageError

# Blocks before the first frame. Pillow takes them one by one, and so does this.
_MAX_BLOCKS = 100_000
_CONTROL = 0xF9


@dataclass(frozen=True, slots=True)
class FirstFrame:
    """What a GIF claims of its canvas and of its first frame.

    `control` is where the frame's flags stand, of which the lowest tells
    transparency; 0 where it has none.
    """

    width: int
    height: int
    left: int
    top: int
    right: int
    bottom: int
    interlaced: bool
    control: int

    def last_row(self) -> tuple[int, int, int, int]:
        """The box of the row that is decoded last."""
        rows = self.bottom - self.top
        row = rows - 1
        if self.interlaced and rows % 2 and rows > 1:
            row = rows - 2
        return self.left, self.top + row, self.right, self.top + row + 1


def find_first_frame(data: bytes) -> FirstFrame:
    """Walk to the first frame.

    Raises:
        ImageError: there is none, or it is damaged.
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
    """Whether the frame's last row holds `filling` alone, as if nothing had come for it."""
    box = frame.last_row()
    # Not `crop`, which heeds Pillow's own limit.
    row = image.resize((box[2] - box[0], 1), Image.Resampling.NEAREST, box)
    return not row.tobytes().strip(bytes([filling]))


def make_opaque(data: bytes, frame: FirstFrame) -> bytes:
    """The file with a first frame that is not transparent."""
    at = frame.control
    return data[:at] + bytes([data[at] & 0xFE]) + data[at + 1 :] if at else data
