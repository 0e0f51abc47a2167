"""HEIC: the pixels of its decoder, turned once, and a fault that names the extra without it."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from mnv1cli.errors import ImageError
from mnv1cli.images import opening
from mnv1cli.images.formats import heif
from mnv1cli.types import PixelSpec
from tests.support.images import HAS_AVIF, colours, encode, jpeg, orientation_exif
from tests.support.pixels import read_rgb
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from pathlib import Path

SPEC = PixelSpec(32)


def encode_heic(image: Image.Image, exif: bytes | None = None) -> bytes:
    buffer = io.BytesIO()
    made = pillow_heif.from_pillow(image)
    if exif:
        made.info["exif"] = exif
    made.save(buffer, quality=-1)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """Make an image that is bright above and dark below, and redder to the right."""
    y, x = np.mgrid[:48, :64]
    return Image.fromarray(np.stack([4 * x, 255 - 5 * y, 0 * x], axis=2).clip(0, 255).astype("u1"))


def test_pixels_are_close_to_what_was_encoded(picture: Image.Image) -> None:
    data = encode_heic(picture)
    assert heif.is_heif(data)
    difference = read_rgb(data, SPEC).astype(int) - np.asarray(picture)
    assert np.abs(difference).mean() < 3


@pytest.mark.parametrize("exif", [True, False])
def test_picture_is_turned_once(picture: Image.Image, exif: bool) -> None:
    data = encode_heic(picture, orientation_exif(6).tobytes())
    found = read_rgb(data, PixelSpec(32, exif=exif)).astype(int)
    turned = np.asarray(picture.transpose(Image.Transpose.ROTATE_270)).astype(int)
    assert found.shape == turned.shape
    assert np.abs(found - turned).mean() < 3


def test_transparency_is_laid_over_white(picture: Image.Image) -> None:
    with_alpha = picture.copy()
    with_alpha.putalpha(0)
    assert (read_rgb(encode_heic(with_alpha), SPEC) > 250).all()


@pytest.mark.parametrize("length", [30, 200, 0.5, 0.9])
def test_file_that_was_cut_is_refused(picture: Image.Image, length: float) -> None:
    data = encode_heic(picture)
    with pytest.raises(ImageError, match=r"damaged|not an image"):
        read_rgb(data[: int(length if length > 1 else length * len(data))], SPEC)


def test_claimed_size_is_limited(picture: Image.Image) -> None:
    with pytest.raises(ImageError, match="64x48 is more than 3,000 pixels"):
        read_rgb(encode_heic(picture), PixelSpec(32, max_pixels=3000))


@pytest.mark.skipif(not HAS_AVIF, reason="this Pillow has no AVIF")
def test_avif_is_left_to_its_own_decoder() -> None:
    data = encode(Image.fromarray(colours()), "AVIF")
    assert not heif.is_heif(data)
    assert opening.open_image(data, SPEC).format == "AVIF"


@pytest.mark.parametrize("data", [b"", b"\0\0\0\x18ftyp", jpeg(20, 30), bytes(100)])
def test_other_files_are_none(data: bytes) -> None:
    assert not heif.is_heif(data)


def test_fault_names_the_extra_where_it_is_missing(
    picture: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "phone.HEIC").write_bytes(encode_heic(picture))
    (tmp_path / "good.jpg").write_bytes(jpeg(20, 30))
    assert mnv1("classify", tmp_path, "--module", "bundled").exit_code == 0
    monkeypatch.setitem(sys.modules, "pillow_heif.as_plugin", None)
    result = mnv1("classify", tmp_path, "--module", "bundled")
    assert result.exit_code == 3
    assert "phone.HEIC: is a HEIC, which needs an extra: pip install 'mnv1cli[heif]'" in (
        result.stderr
    )
    assert "good.jpg" in result.stdout
