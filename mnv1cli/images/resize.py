"""The part of an image that is used, and its resize to the size that the model takes.

Images are RGBX here: four bytes per pixel, as Pillow holds them, of which the
last means nothing.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mnv1cli.types import ByteArray, FloatArray, PixelSpec

# float32(255) * SCALE is exactly 1. A product, not a quotient, so that no graph
# optimiser has a reason to replace it with something that rounds differently.
SCALE = np.float32(1 / 255)
# Grey, which is 0 for the network: it takes pixels from -1 to 1.
_PAD = np.float32(0.5)

# libjpeg can decode a JPEG at 1/r of its size, for these r.
REDUCTIONS = (8, 4, 2, 1)


@dataclass(frozen=True, slots=True)
class Frame:
    """The crop (y, x, h, w) of a decoded image, and its place in the result, in pixels."""

    y: int
    x: int
    h: int
    w: int
    target_h: int
    target_w: int
    offset_y: int
    offset_x: int


def choose_reduction(height: int, width: int, spec: PixelSpec) -> int:
    """Choose the r, 1, 2, 4 or 8, of a JPEG of this size that is decoded at 1/r.

    It is the largest that leaves the shorter side of the crop at least twice
    as long as the result, so that bilinear sampling still has two pixels to
    mix for each pixel of the result. With `spec.decode` "full" it is 1.
    """
    if spec.decode == "full":
        return 1
    crop = plan_frame(height, width, spec)
    shorter = min(crop.h, crop.w)
    return next((r for r in REDUCTIONS if shorter >= 2 * spec.size * r), 1)


def plan_frame(height: int, width: int, spec: PixelSpec) -> Frame:
    """Plan which part of an image of this size is used, and where it is in the result.

    `slim` uses the central 7/8 of each side, as `preprocess_for_eval` of
    TF-Slim's Inception preprocessing does (`central_fraction=0.875`), and
    `square` a square of 7/8 of the shorter side; `pad` and `squash` use all.
    """
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


def crop_and_resize(rgbx: ByteArray, spec: PixelSpec, out: FloatArray | None = None) -> FloatArray:
    """Crop and resize RGBX uint8 [h, w, 4] to float32 [size, size, 3] in [0, 1].

    The pixels are written to `out` if it is given.
    """
    f = plan_frame(rgbx.shape[0], rgbx.shape[1], spec)
    if out is None:
        out = np.empty((spec.size, spec.size, 3), np.float32)
    if (f.target_h, f.target_w) != (spec.size, spec.size):
        out.fill(_PAD)
    rows, columns = (
        slice(f.offset_y, f.offset_y + f.target_h),
        slice(f.offset_x, f.offset_x + f.target_w),
    )
    resize_bilinear(rgbx[f.y : f.y + f.h, f.x : f.x + f.w], out[rows, columns])
    return out


def resize_bilinear(rgbx: ByteArray, out: FloatArray) -> None:
    """Resize RGBX uint8 [h, w, 4] bilinearly to RGB float32 [height, width, 3] in [0, 1], in `out`.

    The operations are those of TensorFlow's `ResizeBilinear` with
    `half_pixel_centers=False`, in the same order and in float32, so that the
    bits are equal; then comes `SCALE`. The four bytes of a pixel are gathered
    as one number.
    """
    height, width = out.shape[:2]
    plan = _plan_samples(rgbx.shape[0], rgbx.shape[1], height, width)
    space = _Workspace.of_this_thread(height, width)
    words = rgbx.view(np.uint32)[:, :, 0]
    # The longer side first, so that the intermediate array stays small for any image.
    wide = words.shape[1] > 4 * words.shape[0]
    chosen = words if wide else words[plan.rows]
    for columns, side in ((plan.left, space.first), (plan.right, space.both)):
        if wide:
            np.take(words[:, columns], plan.rows, axis=0, out=space.words, mode="clip")
        else:
            np.take(chosen, columns, axis=1, out=space.words, mode="clip")
        np.copyto(side, space.words.view(np.uint8))
    both = space.both
    both -= space.first
    both *= plan.dx
    both += space.first
    upper, lower = both[:height], both[height:]
    lower -= upper
    lower *= plan.dy
    lower += upper
    pixels = lower.reshape(height, width, 4)
    # Channel by channel: numpy is slow where the last axis is short.
    for channel in range(3):
        np.multiply(pixels[:, :, channel], SCALE, out=out[:, :, channel])


class _Workspace(threading.local):
    """The arrays of a thread, which are used again for every image.

    New arrays each time would cost more than the arithmetic in them: the system
    hands out fresh pages, with one page fault each.
    """

    size = (0, 0)
    words: NDArray[np.uint32]
    first: FloatArray
    both: FloatArray

    @staticmethod
    def of_this_thread(height: int, width: int) -> _Workspace:
        """Return the arrays for results of this size."""
        space = _SPACE
        if space.size != (height, width):
            space.size = (height, width)
            space.words = np.empty((2 * height, width), np.uint32)
            space.first = np.empty((2 * height, 4 * width), np.float32)
            space.both = np.empty((2 * height, 4 * width), np.float32)
        return space


_SPACE = _Workspace()


class _SamplePlan(NamedTuple):
    """The pixels of the source that are mixed; `rows` has the upper ones, then the lower ones."""

    rows: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    dx: FloatArray
    dy: FloatArray


# The photos in a folder have few sizes.
@lru_cache(maxsize=64)
def _plan_samples(h: int, w: int, height: int, width: int) -> _SamplePlan:
    top, bottom, dy = _find_neighbours(h, height)
    left, right, dx = _find_neighbours(w, width)
    return _SamplePlan(np.concatenate([top, bottom]), left, right, np.repeat(dx, 4), dy[:, None])


def _find_neighbours(n: int, target: int) -> tuple[Any, Any, FloatArray]:
    """Find for each target pixel its two neighbours in the source, and the weight of the second."""
    scale = np.float32(n) / np.float32(target)
    place = np.arange(target, dtype=np.float32) * scale
    low = np.floor(place)
    first = low.astype(np.int64)
    second = np.minimum(np.ceil(place).astype(np.int64), n - 1)
    return np.minimum(first, n - 1), second, place - low
