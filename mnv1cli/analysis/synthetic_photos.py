"""Synthetic photos, which decode and compress as real ones do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.types import ByteArray

_LARGE = 2000
# Chosen so that 500x375 come to about 110 kB, the mean of ImageNet's photos.
_SLOPE = 1.25
_CONTRAST = 58
_QUALITY = 92
# The colours are weak compared with the light.
_STRENGTHS = (1.0, 0.35, 0.35, 0.35)
_GRAIN = 4


def write_pictures(folder: Path, count: int, width: int, height: int, seed: int = 0) -> None:
    """Write `count` JPEGs of `width` x `height` into a folder."""
    random = np.random.default_rng(seed)
    for number in range(count):
        file = folder / f"{seed}-{number:05}.jpg"
        make_picture(random, width, height).save(file, quality=_QUALITY)


def make_picture(random: np.random.Generator, width: int, height: int) -> Image.Image:
    """Make an RGB image: noise whose energy falls with the frequency, as in photos.

    Large ones are enlarged from a quarter of the size, with grain like that of a sensor.
    """
    if max(width, height) < _LARGE:
        return Image.fromarray(_make_clouds(random, width, height))
    small = Image.fromarray(_make_clouds(random, width // 4, height // 4))
    large = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    grain = random.standard_normal((height, width, 1), np.float32) * _GRAIN
    return Image.fromarray(np.clip(large + grain, 0, 255).astype(np.uint8))


def _make_clouds(random: np.random.Generator, width: int, height: int) -> ByteArray:
    """Make light and colour, uint8 [height, width, 3]."""
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = 1
    layers = []
    for strength in _STRENGTHS:
        spectrum = np.fft.rfft2(random.standard_normal((height, width))) / frequency**_SLOPE
        spectrum[0, 0] = 0
        layer = np.fft.irfft2(spectrum, (height, width))
        layers.append(layer / layer.std() * strength * _CONTRAST)
    light, *colours = layers
    image = np.stack([light + colour for colour in colours], axis=-1) + 128
    pixels: ByteArray = np.clip(image, 0, 255).astype(np.uint8)
    return pixels
