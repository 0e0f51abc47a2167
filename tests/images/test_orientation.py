"""The EXIF orientation of every kind of image is applied, unless it is damaged or not wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from mnv1cli.types import PixelSpec
from tests.support import images
from tests.support.images import chunk, colours, encode
from tests.support.oriented import ORIENTED
from tests.support.pixels import read_rgb

if TYPE_CHECKING:
    from mnv1cli.types import ByteArray


SPEC = PixelSpec(64)
UNTURNED = PixelSpec(64, exif=False)
ORIENTATIONS = range(1, 9)


def turn_upright(stored: ByteArray, orientation: int) -> ByteArray:
    """Turn pixels as EXIF defines: its value names the edges where row 0 and column 0 belong."""
    h, w = stored.shape[:2]
    y, x = np.ogrid[: (h, w)[orientation > 4], : (w, h)[orientation > 4]]
    rows_and_columns = {
        1: (y, x),  # top, left
        2: (y, w - 1 - x),  # top, right
        3: (h - 1 - y, w - 1 - x),  # bottom, right
        4: (h - 1 - y, x),  # bottom, left
        5: (x, y),  # left, top
        6: (h - 1 - x, y),  # right, top
        7: (h - 1 - x, w - 1 - y),  # right, bottom
        8: (x, w - 1 - y),  # left, bottom
    }
    rows, columns = rows_and_columns[orientation]
    seen: ByteArray = stored[rows, columns]
    return seen


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ORIENTED)
def test_orientation_is_applied_unless_exif_is_left(kind: str, orientation: int) -> None:
    stored = read_rgb(ORIENTED[kind](), SPEC)
    turned = ORIENTED[kind](exif=images.orientation_exif(orientation))
    np.testing.assert_array_equal(read_rgb(turned, SPEC), turn_upright(stored, orientation))
    np.testing.assert_array_equal(read_rgb(turned, UNTURNED), stored)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_orientation_after_the_pixels_of_a_png(orientation: int) -> None:
    data = encode(Image.fromarray(colours()), "PNG")
    exif = chunk(b"eXIf", images.orientation_exif(orientation).tobytes().removeprefix(b"Exif\0\0"))
    end = chunk(b"IEND", b"")
    late = data.removesuffix(end) + exif + end
    np.testing.assert_array_equal(read_rgb(late, SPEC), turn_upright(colours(), orientation))
    np.testing.assert_array_equal(read_rgb(late, UNTURNED), colours())


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WebP"])
def test_unknown_orientation_is_none(kind: str, orientation: int) -> None:
    turned = ORIENTED[kind](exif=images.orientation_exif(orientation))
    np.testing.assert_array_equal(read_rgb(turned, SPEC), read_rgb(ORIENTED[kind](), SPEC))
