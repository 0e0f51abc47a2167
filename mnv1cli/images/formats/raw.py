"""A camera's RAW: which files are RAWs, and the preview inside; the pixels of the sensor stay.

LibRaw, which finds the preview, is installed with the extra `raw`. Most RAWs are laid out as
TIFFs, whose first picture is often a thumbnail: they must not be taken for that.
"""

from __future__ import annotations

import io
import os
from typing import NamedTuple

from mnv1cli.errors import ImageError, first_line
from mnv1cli.images.formats import tiff
from mnv1cli.types import RAW_SUFFIXES

_NAMES = {
    b"cr2": "a Canon RAW (CR2)", b"cr3": "a Canon RAW (CR3)", b"nef": "a Nikon RAW (NEF)",
    b"arw": "a Sony RAW (ARW)", b"dng": "a RAW (DNG)", b"orf": "an Olympus RAW (ORF)",
    b"raf": "a Fujifilm RAW (RAF)", b"rw2": "a Panasonic RAW (RW2)",
    b"raw": "a RAW of a camera",
}  # fmt: skip
_MAGIC = (
    (0, b"FUJIFILMCCD-RAW", b"raf"), (0, b"IIRO", b"orf"), (0, b"IIRS", b"orf"),
    (0, b"MMOR", b"orf"), (0, b"IIU\0", b"rw2"), (4, b"ftypcrx ", b"cr3"), (8, b"CR\2\0", b"cr2"),
)  # fmt: skip
_MAKERS = ((b"NIKON", b"nef"), (b"SONY", b"arw"))
# Tags of TIFF 6.0, of TIFF/EP (ISO 12234-2) and of DNG 1.7.
_COMPRESSION, _PHOTOMETRIC, _MAKE, _DIRECTORIES, _DNG_VERSION = 259, 262, 271, 330, 50706
# A colour filter array, and pixels of a sensor that has none.
_SENSORS = frozenset((32803, 34892))
# Those of Sony and Nikon, and that of Pentax.
_PACKED = frozenset((32767, 34713, 65535))
# No camera writes more, and each is read.
_MAX_DIRECTORIES = 10
# The orientation of EXIF for each turn of LibRaw's: its bits are mirrored across, down, transposed.
_ORIENTATIONS = (1, 2, 4, 3, 5, 8, 6, 7)
# Before the EXIF in a CR3, by the name of its box, and in a RAF, by that of a JPEG's segment.
_EXIF_MARKS = (b"CMT2", b"Exif\0\0")
_MAX_EXIF = 1 << 16
# In the EXIF that LibRaw writes into a preview without any.
_WRITER = b"dcraw v"


class Preview(NamedTuple):
    """The preview of a RAW.

    Attributes:
        jpeg: its JPEG; empty if it is a bitmap, as it is the first picture of the TIFF.
        orientation: the orientation of the RAW, 1 to 8 as in EXIF.
        width: the width of the RAW's picture in pixels, before it is turned.
        height: its height.
    """

    jpeg: bytes
    orientation: int
    width: int
    height: int


def identify(data: bytes, name: bytes = b"") -> str:
    """Return the kind of RAW that a file is, as "a Canon RAW (CR2)"; empty for any other file.

    The content decides; a TIFF that shows no sign of a RAW is one if its suffix says so.
    """
    for place, magic, kind in _MAGIC:
        if data.startswith(magic, place):
            return _NAMES[kind]
    if not tiff.is_tiff(data):
        return ""
    suffix = os.path.splitext(name)[1].lower()[1:]
    named = suffix if suffix in RAW_SUFFIXES else b""
    return _NAMES.get(_inspect_tiff(data) or named, "")


def _inspect_tiff(data: bytes) -> bytes:
    """Return the kind of RAW that a TIFF is; empty if it has no pixels of a sensor."""
    first = tiff.read_directory(data)
    if _DNG_VERSION in first:
        return b"dng"
    below = tiff.read_numbers(data, first.get(_DIRECTORIES))[:_MAX_DIRECTORIES]
    for entries in (first, *(tiff.read_directory(data, place) for place in below)):
        colours = tiff.read_numbers(data, entries.get(_PHOTOMETRIC))
        packing = tiff.read_numbers(data, entries.get(_COMPRESSION))
        if not _SENSORS.isdisjoint(colours) or not _PACKED.isdisjoint(packing):
            place = first[_MAKE].place if _MAKE in first else len(data)
            makers = (kind for maker, kind in _MAKERS if data.startswith(maker, place))
            return next(makers, b"raw")
    return b""


def read_preview(data: bytes, kind: str) -> Preview:
    """Read the largest preview of a RAW, whose kind `identify` names.

    Raises:
        ImageError: there is none, the RAW is damaged, or the extra `raw` is not installed.
    """
    try:
        import rawpy
    except ImportError:
        needs = "whose preview needs an extra: pip install 'mnv1cli[raw]'"
        raise ImageError(f"is {kind}, {needs}") from None
    try:
        with rawpy.imread(io.BytesIO(data)) as opened:
            thumbnail, sizes = opened.extract_thumb(), opened.sizes
    except rawpy.LibRawNoThumbnailError:
        raise ImageError(f"{kind} without a preview") from None
    except (rawpy.LibRawUnsupportedThumbnailError, NotImplementedError):
        raise ImageError(f"{kind} with a preview of a kind that is not read") from None
    except (rawpy.LibRawError, OSError, MemoryError, RuntimeWarning) as error:
        reason = error.args[0] if error.args else error
        text = reason.decode("ascii", "replace") if isinstance(reason, bytes) else first_line(error)
        raise ImageError(f"damaged, or not {kind}: {text}") from error
    # A bitmap of rawpy's is not looked at: its shape is what the file claims, not what is there.
    jpeg = _remove_header(thumbnail.data) if isinstance(thumbnail.data, bytes) else b""
    orientation = _ORIENTATIONS[sizes.flip] if 0 <= sizes.flip < len(_ORIENTATIONS) else 1
    # What the camera shows of the sensor, where it says so.
    width, height = sizes.crop_width or sizes.width, sizes.crop_height or sizes.height
    return Preview(jpeg, orientation, width, height)


def _remove_header(jpeg: bytes) -> bytes:
    """Remove the EXIF of LibRaw's: a preview's own may follow behind its JFIF header."""
    end = 4 + int.from_bytes(jpeg[4:6], "big")
    return jpeg[:2] + jpeg[end:] if _WRITER in jpeg[:end] else jpeg


def find_exif(data: bytes) -> bytes:
    """Return a RAW from its EXIF on; empty where it has none."""
    if data.startswith((b"II", b"MM")):
        return data
    for mark in _EXIF_MARKS:
        place = data.find(mark, 0, _MAX_EXIF)
        if place >= 0:
            return data[place + len(mark) :][:_MAX_EXIF]
    return b""
