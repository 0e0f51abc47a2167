"""The part of an image that is used, and its resize to the size that the model takes.

Images are RGBX here: four bytes per pixel, as Pillow holds them, of which the
last means nothing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

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


class Frame(NamedTuple):
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
    for r in REDUCTIONS:
        if shorter >= 2 * spec.size * r:
            return r
    return 1


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
    resize_bilinear(rgbx, f, out[rows, columns])
    return out


def resize_bilinear(rgbx: ByteArray, f: Frame, out: FloatArray) -> None:
    """Resize the crop of RGBX uint8 [h, w, 4] bilinearly to RGB float32 in [0, 1], in `out`.

    `out` is [f.target_h, f.target_w, 3]. The operations are those of TensorFlow's
    `ResizeBilinear` with `half_pixel_centers=False`, in the same order and in float32, so that
    the bits are equal; then comes `SCALE`. The four bytes of a pixel are gathered as one number.

    A dozen calls do it, and each releases the interpreter's lock while it computes. Several
    images in one call would need arrays that do not fit the cache of a core.
    """
    rows, dy = _plan_rows(f.y, f.h, f.target_h)
    columns, dx = _plan_columns(f.x, f.w, f.target_w)
    space = _take_workspace(f.target_h, f.target_w)
    words = rgbx.view(np.uint32)[:, :, 0]
    # The longer side first, so that the intermediate array stays small for any image.
    if words.shape[1] > 4 * words.shape[0]:
        words.take(columns, 1).take(rows, 0, space.words, "clip")
    else:
        # Of an image that was turned `take` would copy all.
        chosen = words.take(rows, 0) if words.flags.c_contiguous else words[rows]
        chosen.take(columns, 1, space.words, "clip")
    np.copyto(space.sides, space.bytes)
    first, both, upper, lower = space.first, space.both, space.upper, space.lower
    both -= first
    both *= dx
    both += first
    lower -= upper
    lower *= dy
    lower += upper
    lower *= SCALE
    # As units of twelve bytes: numpy is slow where the last axis is short.
    np.copyto(out.view(_RGB)[:, :, 0], space.rgb)
    _idle.append(space)


_RGB = np.dtype("V12")
_RGB_OF_RGBX = np.dtype({"names": ["rgb"], "formats": [_RGB], "itemsize": 16})


class _Workspace:
    """The arrays of a resize to [height, width], which are used again for every image.

    New arrays each time would cost more than the arithmetic in them: the system
    hands out fresh pages, with one page fault each.
    """

    def __init__(self, height: int, width: int) -> None:
        self.size = (height, width)
        # The pixels above each sample, then those below it; those to the left of it first.
        self.words = np.empty((2 * height, 2 * width), np.uint32)
        self.bytes = self.words.view(np.uint8).reshape(2 * height, 2, 4 * width).swapaxes(0, 1)
        self.sides = np.empty((2, 2 * height, 4 * width), np.float32)
        # Two rows as one: numpy is faster the fewer they are.
        self.first, self.both = self.sides.reshape(2, height, 8 * width)
        self.upper, self.lower = self.sides[1, :height], self.sides[1, height:]
        self.rgb = self.lower.view(_RGB_OF_RGBX)["rgb"]


# As many as there were threads at once in a resize. The last one that was used is the next one: it
# may still be in the cache of a core.
_idle: list[_Workspace] = []


def _take_workspace(height: int, width: int) -> _Workspace:
    """Take arrays that are idle; make others if there are none of this size."""
    try:
        space = _idle.pop()
    except IndexError:
        return _Workspace(height, width)
    return space if space.size == (height, width) else _Workspace(height, width)


# The photos in a folder have few sizes, and their sides fewer lengths.
@lru_cache(maxsize=1024)
def _plan_rows(start: int, length: int, target: int) -> tuple[NDArray[np.int64], FloatArray]:
    """Plan which rows are mixed, first the upper ones and then the lower ones, and the weights."""
    pairs, weights = _find_neighbours(start, length, target)
    return pairs.reshape(-1), weights[:, None]


@lru_cache(maxsize=1024)
def _plan_columns(start: int, length: int, target: int) -> tuple[NDArray[np.int64], FloatArray]:
    """Plan which columns are mixed, first the left ones and then the right ones, and the weights.

    There is a weight for each byte of two rows.
    """
    pairs, weights = _find_neighbours(start, length, target)
    return pairs.reshape(-1), np.tile(np.repeat(weights, 4), 2)


def _find_neighbours(start: int, n: int, target: int) -> tuple[NDArray[np.int64], FloatArray]:
    """Find for each target pixel its two neighbours in the source, and the weight of the second.

    The part of the source that is used has `n` pixels from `start` on.
    """
    scale = np.float32(n) / np.float32(target)
    place = np.arange(target, dtype=np.float32) * scale
    low = np.floor(place)
    pairs = np.stack([low, np.ceil(place)]).astype(np.int64)
    return start + np.minimum(pairs, n - 1), place - low
