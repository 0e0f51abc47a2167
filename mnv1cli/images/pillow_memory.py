"""The pixels of a Pillow image as an array, without a copy where Pillow allows it.

Pillow exports an image through the Arrow C data interface
(https://arrow.apache.org/docs/format/CDataInterface.html), a stable ABI: a
capsule with a pointer to a struct, whose first fields are read here.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

    from mnv1cli.types import ByteArray


class _ArrowArray(ctypes.Structure):
    """The struct ArrowArray, up to its children."""


_ArrowArray._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
]

_get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_get_pointer.restype = ctypes.c_void_p
_get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


def view_rgbx(image: Image.Image) -> ByteArray:
    """View a loaded image of mode RGB as RGBX uint8 [h, w, 4], which must not be written to.

    Pillow has four bytes per pixel in memory; the fourth means nothing.
    """
    if image.size != image.im.size:
        # The size of a TIFF that is to be turned is, in Pillow, the size after the turn.
        image = image.copy()
    try:
        _, capsule = image.__arrow_c_array__()
    except (AttributeError, ValueError):
        # Images of many megapixels may be in several blocks of memory.
        rgbx = np.frombuffer(image.tobytes("raw", "RGBX"), np.uint8)
        return rgbx.reshape(image.height, image.width, 4)
    array = _ArrowArray.from_address(_get_pointer(capsule, b"arrow_array"))
    pixels = array.children[0].contents
    size = image.width * image.height * 4
    assert pixels.length - pixels.offset >= size
    memory: Any = (ctypes.c_uint8 * size).from_address(pixels.buffers[1] + pixels.offset)
    # The capsule holds the image's memory, and the array holds the capsule.
    memory.capsule = capsule
    return np.frombuffer(memory, np.uint8).reshape(image.height, image.width, 4)
