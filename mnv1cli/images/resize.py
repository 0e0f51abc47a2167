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
    the bits are equal; then comes `SCALE`.
    """
    space = _take_workspace(1, f.target_h, f.target_w)
    space.gather(0, rgbx, f)
    space.mix(1, out[None])
    _idle.append(space)


class GroupResize:
    """The crop and resize of images to `pixels`, float32 [n, size, size, 3], a group at a time.

    A dozen calls of NumPy do a resize, and each releases the interpreter's lock while it computes,
    so that many threads wake each other all the time. A group takes fewer calls, but its arrays
    do not fit the cache of a core.
    """

    def __init__(self, pixels: FloatArray, spec: PixelSpec, size: int) -> None:
        self._pixels = pixels
        self._spec = spec
        # With `pad` each image has a size of its own.
        self._size = 1 if spec.preprocess == "pad" else size
        self._space: _Workspace | None = None
        self._done = self._waiting = 0

    def add(self, rgbx: ByteArray) -> None:
        """Add an image; its pixels may change afterwards."""
        if self._size == 1:
            crop_and_resize(rgbx, self._spec, self._pixels[self._done])
            self._done += 1
            return
        side = self._spec.size
        self._space = self._space or _take_workspace(self._size, side, side)
        frame = plan_frame(rgbx.shape[0], rgbx.shape[1], self._spec)
        self._space.gather(self._waiting, rgbx, frame)
        self._waiting += 1
        if self._waiting == self._size:
            self._mix()

    def finish(self) -> FloatArray:
        """Return the pixels of all images."""
        if self._waiting:
            self._mix()
        if self._space is not None:
            _idle.append(self._space)
        return self._pixels[: self._done]

    def _mix(self) -> None:
        assert self._space is not None
        first, self._done = self._done, self._done + self._waiting
        self._space.mix(self._waiting, self._pixels[first : self._done])
        self._waiting = 0


_RGB = np.dtype("V12")
_RGB_OF_RGBX = np.dtype({"names": ["rgb"], "formats": [_RGB], "itemsize": 16})


class _Workspace:
    """The arrays of a resize of `count` images to [height, width], which are used again.

    New arrays each time would cost more than the arithmetic in them: the system
    hands out fresh pages, with one page fault each.
    """

    def __init__(self, count: int, height: int, width: int) -> None:
        self.shape = (count, height, width)
        # The pixels above each sample, then those below it; those to the left of it first.
        self._words = np.empty((count, 2 * height, 2 * width), np.uint32)
        sides = self._words.view(np.uint8).reshape(count, 2 * height, 2, 4 * width)
        self._bytes = sides.transpose(2, 0, 1, 3)
        self._sides = np.empty((2, count, 2 * height, 4 * width), np.float32)
        self._rgb = self._sides[1, :, height:].view(_RGB_OF_RGBX)["rgb"]
        self._dx = np.empty((count, width), np.float32)
        self._dy = np.empty((count, height, 1), np.float32)

    def gather(self, i: int, rgbx: ByteArray, f: Frame) -> None:
        """Gather the pixels of an image that are mixed; the four bytes of one as one number."""
        rows, self._dy[i, :, 0] = _plan_samples(f.y, f.h, f.target_h)
        columns, self._dx[i] = _plan_samples(f.x, f.w, f.target_w)
        words = rgbx.view(np.uint32)[:, :, 0]
        # The longer side first, so that the intermediate array stays small for any image.
        if words.shape[1] > 4 * words.shape[0]:
            words.take(columns, 1).take(rows, 0, self._words[i], "clip")
        else:
            # Of an image that was turned `take` would copy all.
            chosen = words.take(rows, 0) if words.flags.c_contiguous else words[rows]
            chosen.take(columns, 1, self._words[i], "clip")

    def mix(self, count: int, out: FloatArray) -> None:
        """Mix the pixels of the first images to `out`, float32 [count, height, width, 3]."""
        np.copyto(self._sides[:, :count], self._bytes[:, :count])
        left, both = self._sides[0, :count], self._sides[1, :count]
        both -= left
        both *= self._dx[:count].repeat(4, axis=1)[:, None]
        both += left
        upper, lower = both[:, : self.shape[1]], both[:, self.shape[1] :]
        lower -= upper
        lower *= self._dy[:count]
        lower += upper
        lower *= SCALE
        # As units of twelve bytes: numpy is slow where the last axis is short.
        np.copyto(out.view(_RGB)[..., 0], self._rgb[:count])


# As many as there were threads at once in a resize. The last one that was used is the next one: it
# may still be in the cache of a core.
_idle: list[_Workspace] = []


def _take_workspace(count: int, height: int, width: int) -> _Workspace:
    """Take arrays that are idle; make others if there are none of this shape."""
    try:
        space = _idle.pop()
    except IndexError:
        return _Workspace(count, height, width)
    return space if space.shape == (count, height, width) else _Workspace(count, height, width)


# The photos in a folder have few sizes, and their sides fewer lengths.
@lru_cache(maxsize=1024)
def _plan_samples(start: int, n: int, target: int) -> tuple[NDArray[np.int64], FloatArray]:
    """Plan which two pixels of a side are mixed for each target pixel, and the second's weight.

    The part of the side that is used has `n` pixels from `start` on. The first ones come before
    all second ones.
    """
    scale = np.float32(n) / np.float32(target)
    place = np.arange(target, dtype=np.float32) * scale
    low = np.floor(place)
    pairs = np.concatenate([low, np.ceil(place)]).astype(np.int64)
    return start + np.minimum(pairs, n - 1), place - low
