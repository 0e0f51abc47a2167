"""The pixels of a JPEG, decoded by libjpeg-turbo, which refuses damage that it notices.

simplejpeg raises at libjpeg's first warning. A few warnings are of oddities that
do not affect the pixels: of those in the header Pillow decodes the file instead,
which ignores them, and meaningless bytes among the pixels are removed.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg
from PIL import Image

from mnv1cli.images.formats import jpeg_junk
from mnv1cli.images.formats.jpeg import damaged

if TYPE_CHECKING:
    from mnv1cli.images.formats.jpeg import Jpeg
    from mnv1cli.types import ByteArray

# What libjpeg warns of although the pixels are whole, and what only TurboJPEG's interface to
# it refuses.
_HARMLESS = re.compile(
    r"extraneous bytes|JFIF revision|Adobe color transform|SOS parameters|ICC marker"
    r"|subsampling level|more than one scan|not implemented"
)
_TAIL = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_REASONS = (
    ("Premature end of JPEG file", "truncated, its end is missing"),
    ("premature end of data segment", "a part of its pixels is missing"),
    ("instead of RST", "a part of its pixels is missing"),
    ("bad Huffman code", "its pixels cannot be decoded"),
    ("progression sequence", "some of its scans are missing"),
    ("Unsupported marker type", "a segment of an unknown kind"),
)
# From 8 pixels on no other fraction of libjpeg's, n/8, gives the same sizes as 1/r.
_MIN_SIDE = 8
# The largest picture that is decoded into the buffer of its thread, in bytes.
_MAX_BUFFER = 1 << 22


class _Workspace(threading.local):
    """The buffer of a thread: fresh pages for every picture would cost page faults."""

    def __init__(self) -> None:
        self.buffer = np.empty(_MAX_BUFFER, np.uint8)


_OF_THREAD = _Workspace()


def decode(jpeg: Jpeg, r: int, reuse: bool = False) -> ByteArray | None:
    """Decode a JPEG at 1/r, 1, 2, 4 or 8, to RGBX uint8 [h, w, 4]; None where Pillow has to.

    Its data are cut where libjpeg warns. With `reuse` the array is overwritten by the next call in
    the same thread.

    Raises:
        ImageError: the JPEG is damaged.
    """
    if r > 1 and max(jpeg.height, jpeg.width) < _MIN_SIDE:
        jpeg.cut()
        return None
    jpeg_junk.check_zeros(jpeg)
    try:
        try:
            return _decode_strictly(jpeg.data, jpeg, r, reuse)
        except ValueError:
            if not jpeg.cut():
                raise
        return _decode_strictly(jpeg.data, jpeg, r, reuse)
    except ValueError as error:
        warning = str(error)
    if not _HARMLESS.search(warning):
        words = (reason for text, reason in _REASONS if text in warning)
        raise damaged(next(words, warning.removeprefix("Corrupt JPEG data: ")))
    if not jpeg.scan or "extraneous" not in warning:
        return None
    jpeg_junk.check_restarts(jpeg)
    tail = _TAIL.search(warning)
    data = jpeg_junk.cut_tail(jpeg, int(tail[1]), find_warning) if tail else None
    return None if data is None else _decode_strictly(data, jpeg, r, reuse)


def find_warning(data: bytes) -> str:
    """Return the first warning of libjpeg for a JPEG; it is empty where there is none."""
    try:
        simplejpeg.decode_jpeg(data, "RGBX", min_height=1, min_width=1)
    except ValueError as error:
        return str(error)
    return ""


def _decode_strictly(data: bytes, jpeg: Jpeg, r: int, reuse: bool) -> ByteArray:
    # simplejpeg chooses the smallest fraction that gives at least this size, 0 for the whole.
    height, width = -(-jpeg.height // r), -(-jpeg.width // r)
    least = {"min_height": height, "min_width": width} if r > 1 else {}
    buffer = _OF_THREAD.buffer if reuse and 4 * height * width <= _MAX_BUFFER else None
    if jpeg.colours != 4:
        rgbx: ByteArray = simplejpeg.decode_jpeg(data, "RGBX", buffer=buffer, **least)
        return rgbx
    # Inverted, as Adobe writes them and Pillow takes all.
    cmyk = simplejpeg.decode_jpeg(data, "CMYK", **least)
    image = Image.frombuffer("CMYK", (width, height), cmyk, "raw", "CMYK;I", 0, 1)
    pixels = np.frombuffer(image.convert("RGB").tobytes("raw", "RGBX"), np.uint8)
    return pixels.reshape(height, width, 4)
