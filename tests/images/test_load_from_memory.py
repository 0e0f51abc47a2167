"""Images of PIL and arrays, and what is refused of them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
from PIL import Image

from mnv1cli.errors import ImageError
from mnv1cli.images.resize import crop_and_resize
from mnv1cli.types import PixelSpec, Preprocess
from tests.support import images
from tests.support.images import colours, jpeg
from tests.support.oriented import ORIENTED, sixteen_bits
from tests.support.pixels import load_pixels

if TYPE_CHECKING:
    from mnv1cli.types import ByteArray


SPEC = PixelSpec(64)
MODES: tuple[Preprocess, ...] = get_args(Preprocess)
ORIENTATIONS = range(1, 9)

ARRAYS: dict[str, tuple[Any, ByteArray]] = {
    "[h, w]": (images.shades(), images.grey(images.shades())),
    "[h, w, 1]": (images.shades()[:, :, None], images.grey(images.shades())),
    "[h, w, 3]": (colours(), colours()),
    "[h, w, 4]": (
        np.dstack([colours(), images.alphas()]),
        images.over_white(colours(), images.alphas()),
    ),
    "not contiguous": (colours()[::-1, ::2], np.ascontiguousarray(colours()[::-1, ::2])),
    "one pixel": (np.full((1, 1), 7, np.uint8), np.full((1, 1, 3), 7, np.uint8)),
}


@pytest.mark.parametrize("preprocess", MODES)
@pytest.mark.parametrize("shape", ARRAYS)
def test_array_is_an_image(shape: str, preprocess: Preprocess) -> None:
    spec = PixelSpec(64, preprocess)
    array, rgb = ARRAYS[shape]
    before = array.copy()
    expected = crop_and_resize(images.rgbx(rgb), spec)
    np.testing.assert_array_equal(load_pixels(array, spec), expected)
    np.testing.assert_array_equal(array, before)


PIL_IMAGES: dict[str, tuple[Image.Image, ByteArray]] = {
    "RGB": (Image.fromarray(colours()), colours()),
    "L": (Image.fromarray(images.shades()), images.grey(images.shades())),
    "1": (
        Image.fromarray(images.shades() // 128 * 255).convert("1"),
        images.grey(images.shades() // 128 * 255),
    ),
    "RGBA": (
        images.with_alpha(colours(), images.alphas()),
        images.over_white(colours(), images.alphas()),
    ),
    "LA": (
        images.with_alpha(images.shades(), images.alphas()),
        images.over_white(images.grey(images.shades()), images.alphas()),
    ),
    "P": (images.palette_image(), np.array(images.PALETTE, np.uint8)[images.indices()]),
    "I;16": (sixteen_bits(), images.grey(images.high_byte(images.depths(1))[:, :, 0])),
}


@pytest.mark.parametrize("mode", PIL_IMAGES)
def test_pil_image_of_every_mode(mode: str) -> None:
    image, rgb = PIL_IMAGES[mode]
    assert image.mode == mode
    expected = crop_and_resize(images.rgbx(rgb), SPEC)
    np.testing.assert_array_equal(load_pixels(image, SPEC), expected)


@pytest.mark.parametrize("exif", [True, False])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "16-bit PNG", "WebP"])
def test_opened_pil_image_is_its_file(kind: str, orientation: int, exif: bool) -> None:
    spec = PixelSpec(64, decode="full", exif=exif)
    data = ORIENTED[kind](exif=images.orientation_exif(orientation))
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(load_pixels(image, spec), load_pixels(data, spec))
        # Again, now that Pillow has loaded it.
        np.testing.assert_array_equal(load_pixels(image, spec), load_pixels(data, spec))


NOT_IN_MEMORY: dict[str, Any] = {
    "float32": np.zeros((4, 5, 3), np.float32),
    "float64": np.zeros((4, 5)),
    "int64": np.zeros((4, 5, 3), np.int64),
    "bool": np.zeros((4, 5), bool),
    "[n]": np.zeros(5, np.uint8),
    "[]": np.uint8(7),
    "[h, w, 2]": np.zeros((4, 5, 2), np.uint8),
    "[h, w, 5]": np.zeros((4, 5, 5), np.uint8),
    "[3, h, w]": np.zeros((3, 4, 5), np.uint8),
    "[n, h, w, 3]": np.zeros((2, 4, 5, 3), np.uint8),
    "no rows": np.zeros((0, 5, 3), np.uint8),
    "no columns": np.zeros((5, 0), np.uint8),
    "text": "photo.jpg",
    "None": None,
    "an object": object(),
    "lists of different lengths": [[1], [1, 2]],
    "PIL image of floats": Image.new("F", (5, 4)),
    "PIL image of 32-bit integers": Image.new("I", (5, 4)),
    "PIL image without pixels": Image.new("RGB", (0, 4)),
}


@pytest.mark.parametrize("preprocess", MODES)
@pytest.mark.parametrize("kind", NOT_IN_MEMORY)
def test_what_is_no_image_in_memory_is_refused(kind: str, preprocess: Preprocess) -> None:
    with pytest.raises(ImageError):
        load_pixels(NOT_IN_MEMORY[kind], PixelSpec(64, preprocess))


def test_damaged_pil_image_is_refused() -> None:
    with (
        Image.open(io.BytesIO(jpeg(200, 300)[:-2000])) as image,
        pytest.raises(ImageError, match="truncated"),
    ):
        load_pixels(image, SPEC)
