"""The pixels of an image alone, for comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnv1cli.images import decode
from mnv1cli.images.resize import crop_and_resize

if TYPE_CHECKING:
    from mnv1cli.types import ByteArray, FloatArray, PixelSpec


def read_rgb(data: bytes, spec: PixelSpec) -> ByteArray:
    """Return an image file's pixels before the crop, uint8 [h, w, 3]."""
    return decode.decode(data, spec).rgbx[:, :, :3]


def load_pixels(source: Any, spec: PixelSpec) -> FloatArray:
    """Return the pixels of an image file's bytes, of a PIL image or of an array."""
    is_file = isinstance(source, bytes)
    image = decode.decode(source, spec) if is_file else decode.decode_from_memory(source, spec)
    return crop_and_resize(image.rgbx, spec)
