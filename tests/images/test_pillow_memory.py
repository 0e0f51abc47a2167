"""The pixels of a Pillow image as an array: correct for as long as the array exists."""

from __future__ import annotations

import gc
import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from mnv1cli.images.pillow_memory import view_rgbx
from tests.support.images import jpeg, noise


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 700), (700, 1), (13, 19), (480, 640), (2500, 3000)]
)
def test_array_has_the_colours_of_the_image(height: int, width: int) -> None:
    """Include an image that Pillow has in several blocks of memory."""
    rgb = noise(height, width, 1)
    found = view_rgbx(Image.fromarray(rgb))
    assert found.shape == (height, width, 4)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[:, :, :3], rgb)


@pytest.mark.parametrize("turn", Image.Transpose)
def test_turned_image_has_its_pixels_where_they_are_seen(turn: Image.Transpose) -> None:
    image = Image.fromarray(noise(13, 19, 2)).transpose(turn)
    np.testing.assert_array_equal(view_rgbx(image)[:, :, :3], np.asarray(image))


def test_array_outlives_the_image() -> None:
    def array_of(seed: int) -> np.ndarray:
        with Image.open(io.BytesIO(jpeg(200, 300, quality=20 + seed))) as image:
            image.load()
            return view_rgbx(image)

    def copy_of(seed: int) -> np.ndarray:
        with Image.open(io.BytesIO(jpeg(200, 300, quality=20 + seed))) as image:
            return np.asarray(image).copy()

    arrays = [array_of(seed) for seed in range(30)]
    gc.collect()
    others = [Image.new("RGB", (300, 200), "red") for _ in range(60)]
    for seed, array in enumerate(arrays):
        np.testing.assert_array_equal(array[:, :, :3], copy_of(seed))
    assert len(others) == 60


def test_threads_do_not_mix_images() -> None:
    def same(seed: int) -> bool:
        rgb = noise(60, 80, seed)
        return all(
            np.array_equal(view_rgbx(Image.fromarray(rgb))[:, :, :3], rgb) for _ in range(20)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(same, range(16)))
