"""The pixels of every kind of image, compared with those expected."""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from mnv1cli.images import decode, file
from mnv1cli.types import Decode, PixelSpec
from tests.support import images
from tests.support.images import SAMPLES, colours, encode
from tests.support.pixels import load_pixels, read_rgb

if TYPE_CHECKING:
    from pathlib import Path

SPEC = PixelSpec(64)


def test_reference_pixels_of_photos(shared: Path, photos: Path) -> None:
    reference = np.load(shared / "reference.npz")
    for name, expected in zip(reference["names"][:4], reference["pixels"], strict=True):
        data = file.read_file(os.fsencode(photos / name))
        np.testing.assert_allclose(load_pixels(data, PixelSpec(128)), expected, atol=1e-5)


# Colour


@pytest.mark.parametrize("name", SAMPLES)
def test_colours_of_every_kind_of_file(name: str) -> None:
    np.testing.assert_array_equal(read_rgb(SAMPLES[name].data, SPEC), SAMPLES[name].rgb)


def test_every_colour_under_every_alpha() -> None:
    alpha, colour = np.mgrid[:256, :256].astype(np.uint8)
    rgb = np.dstack([colour, 255 - colour, colour ^ 0x55])
    data = encode(images.with_alpha(rgb, alpha), "PNG")
    np.testing.assert_array_equal(read_rgb(data, SPEC), images.over_white(rgb, alpha))


@pytest.mark.skipif(not images.HAS_AVIF, reason="this Pillow has no AVIF")
def test_avif_is_close_to_what_was_encoded() -> None:
    data = encode(Image.fromarray(colours(40, 56)), "AVIF", quality=100, subsampling="4:4:4")
    np.testing.assert_allclose(read_rgb(data, SPEC).astype(int), colours(40, 56), atol=4)


def test_colour_profile_is_ignored() -> None:
    profile = b"no profile at all"
    data = encode(Image.fromarray(colours()), "PNG", icc_profile=profile)
    assert profile in zlib.decompress(data[data.index(b"\0\0", data.index(b"iCCP")) + 2 :])
    np.testing.assert_array_equal(read_rgb(data, SPEC), colours())


# Reduction


@pytest.mark.parametrize(
    ("size", "resolution", "shape"),
    [
        (16, "scaled", (63, 76)),
        (32, "scaled", (126, 151)),
        (64, "scaled", (251, 302)),
        (128, "scaled", (501, 603)),
        (16, "full", (501, 603)),
    ],
)
@pytest.mark.parametrize("kind", ["RGB", "L", "CMYK"])
def test_jpeg_is_decoded_at_its_reduction(
    kind: str, size: int, resolution: Decode, shape: tuple[int, ...]
) -> None:
    data = encode(Image.fromarray(colours(501, 603)).convert(kind), "JPEG")
    decoded = decode.decode(data, PixelSpec(size, "squash", resolution)).rgbx
    assert decoded.shape == (*shape, 4)


def test_other_formats_are_decoded_whole() -> None:
    data = encode(Image.fromarray(colours(501, 603)), "PNG")
    assert decode.decode(data, PixelSpec(16)).rgbx.shape == (501, 603, 4)
