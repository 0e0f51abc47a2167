"""From file to pixels with OpenCV, as users of ONNX Runtime and OpenVINO do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from common import SIZE

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The pool has a thread for every core already.
cv2.setNumThreads(1)


def read_photo(path: str) -> NDArray[np.uint8]:
    """Read one photo, crop and resize it; uint8 [128, 128, 3], blue first."""
    image = cv2.imread(path, cv2.IMREAD_COLOR)
    if image is None:
        raise SystemExit(f"OpenCV cannot read {path}")
    height, width = image.shape[:2]
    top, left = height // 16, width // 16
    step_x, step_y = (width - 2 * left) / SIZE, (height - 2 * top) / SIZE
    # Crop and resize in one, sampled as the network was trained: the pixel (x, y)
    # of the result from (x * step_x, y * step_y). `cv2.resize` takes as long and
    # samples at the middle of each step, which moves a label in five.
    grid = np.array([[step_x, 0, left], [0, step_y, top]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    pixels: NDArray[np.uint8] = cv2.warpAffine(image, grid, (SIZE, SIZE), flags=how)
    return pixels
