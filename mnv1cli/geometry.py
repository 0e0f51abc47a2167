"""Which part of an image is used, and how it becomes pixels of the wanted size.

Images are RGBX here: four bytes a pixel, as Pillow holds them, of which the
last means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mnv1cli.records import ByteArray, FloatArray, PixelSpec

# float32(255) * SCALE is exactly 1. A product, not a quotient, so that no graph
# optimiser has a reason to replace it by something that rounds differently.
SCALE = np.float32(1 / 255)
_PAD = np.float32(0.5)

# JPEG decoders can leave out what a reduction by these would discard anyway.
_REDUCTIONS = (8, 4, 2, 1)


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a decoded image lands: crop (y, x, h, w), then its size and offset in the result."""

    y: int
    x: int
    h: int
    w: int
    target_h: int
    target_w: int
    offset_y: int
    offset_x: int


def reduction(height: int, width: int, spec: PixelSpec) -> int:
    """The r of a JPEG that is decoded at 1/r.

    The largest of 1, 2, 4 and 8 that leaves the shorter side of the crop at
    least twice the wanted size, so that bilinear sampling still has two pixels
    to choose from for each one.
    """
    if spec.decode == "full":
        return 1
    crop = frame(height, width, spec)
    shorter = min(crop.h, crop.w)
    return next((r for r in _REDUCTIONS if shorter >= 2 * spec.size * r), 1)


def frame(height: int, width: int, spec: PixelSpec) -> Frame:
    """The part of an image of this size that is used, and where it lands."""
    size = spec.size
    if spec.preprocess == "slim":
        y, x = height // 16, width // 16
        return Frame(y, x, height - 2 * y, width - 2 * x, size, size, 0, 0)
    if spec.preprocess == "square":
        side = max(7 * min(height, width) // 8, 1)
        return Frame((height - side) // 2, (width - side) // 2, side, side, size, size, 0, 0)
    if spec.preprocess == "squash":
        return Frame(0, 0, height, width, size, size, 0, 0)
    longer = max(height, width)
    # n * size / longer, rounded half up, in integers.
    target_h, target_w = (max((2 * n * size + longer) // (2 * longer), 1) for n in (height, width))
    offset_y, offset_x = (size - target_h) // 2, (size - target_w) // 2
    return Frame(0, 0, height, width, target_h, target_w, offset_y, offset_x)


def frame_pixels(rgbx: ByteArray, spec: PixelSpec, out: FloatArray | None = None) -> FloatArray:
    """Crop and resize RGBX uint8 [h, w, 4] to float32 [size, size, 3] in [0, 1], into `out`."""
    f = frame(rgbx.shape[0], rgbx.shape[1], spec)
    if out is None:
        out = np.empty((spec.size, spec.size, 3), np.float32)
    if (f.target_h, f.target_w) != (spec.size, spec.size):
        out.fill(_PAD)
    resized = resize_bilinear(rgbx[f.y : f.y + f.h, f.x : f.x + f.w], f.target_h, f.target_w)
    rows, columns = (
        slice(f.offset_y, f.offset_y + f.target_h),
        slice(f.offset_x, f.offset_x + f.target_w),
    )
    np.multiply(resized, SCALE, out=out[rows, columns])
    return out


def resize_bilinear(rgbx: ByteArray, height: int, width: int) -> FloatArray:
    """Bilinear resize of RGBX uint8 [h, w, 4] to RGB float32 [height, width, 3] in [0, 255].

    Every operation of TensorFlow's `ResizeBilinear` with
    `half_pixel_centers=False`, in its order and in float32, so that the bits
    are equal. A pixel's four bytes are gathered as one number, and what is
    computed in place saves passes over memory.
    """
    top, bottom, dy = _samples(rgbx.shape[0], height)
    left, right, dx = _samples(rgbx.shape[1], width)
    words = rgbx.view(np.uint32)[:, :, 0]
    rows = np.concatenate([top, bottom])
    if words.shape[1] > 4 * words.shape[0]:
        # The longer side first, so that what lies between stays small for any image.
        both_sides = (words[:, left][rows], words[:, right][rows])
    else:
        chosen = words[rows]
        both_sides = (chosen.take(left, axis=1), chosen.take(right, axis=1))
    first, both = (side.view(np.uint8).astype(np.float32) for side in both_sides)
    both -= first
    both *= np.repeat(dx, 4)
    both += first
    upper, lower = both[:height], both[height:]
    lower -= upper
    lower *= dy[:, None]
    lower += upper
    resized: FloatArray = lower.reshape(height, width, 4)[:, :, :3]
    return resized


def _samples(n: int, target: int) -> tuple[Any, Any, FloatArray]:
    """For each target pixel its two neighbours in the source and the weight of the second."""
    scale = np.float32(n) / np.float32(target)
    place = np.arange(target, dtype=np.float32) * scale
    low = np.floor(place)
    first = low.astype(np.int64)
    second = np.minimum(np.ceil(place).astype(np.int64), n - 1)
    return np.minimum(first, n - 1), second, place - low
