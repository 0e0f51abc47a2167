"""Images of Pillow's, of any mode, as RGBX uint8 [h, w, 4]: transparency is blended over white."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mnv1cli.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

    from mnv1cli.types import ByteArray

# TIFF 6.0, section 8.
_PHOTOMETRIC_TAG, _WHITE_IS_ZERO = 0x0106, 0
# Pixels that are blended or copied at a time, which takes many times their bytes.
_BAND_PIXELS = 1 << 20


def convert_to_rgbx(image: Image.Image) -> ByteArray:
    """Convert an image of any mode to RGBX uint8 [h, w, 4], transparency over white.

    Raises:
        ImageError: it has 32 bits a sample.
    """
    if image.mode.startswith("I;16"):
        return _convert_16_bits(image)
    if image.mode in ("I", "F"):
        raise ImageError("has 32 bits a sample, whose range is not known; save it with 8 or 16")
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        return _blend_over_white(rgba, rgba[:, :, 3:])
    if image.size != image.im.size:
        # The size of a TIFF that is to be turned is, in Pillow, the size after the turn.
        image = image.copy()
    rgbx = np.empty((image.height, image.width, 4), np.uint8)
    step = max(_BAND_PIXELS // image.width, 1)
    for top in range(0, image.height, step):
        band = image.crop((0, top, image.width, min(top + step, image.height))).convert("RGB")
        pixels = np.frombuffer(band.tobytes("raw", "RGBX"), np.uint8)
        rgbx[top : top + step] = pixels.reshape(-1, image.width, 4)
    return rgbx


def _convert_16_bits(image: Image.Image) -> ByteArray:
    # A copy: Pillow gives the pixels of a turned TIFF in the shape before the turn.
    samples = np.asarray(image.copy()).astype(np.uint16)
    if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO:
        # Pillow inverts these at 8 bits, but not at 16.
        samples = ~samples
    grey = (samples >> 8).astype(np.uint8)[:, :, None].repeat(4, axis=2)
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return grey
    alpha = np.where(samples == transparent, 0, 255).astype(np.uint8)[:, :, None]
    return _blend_over_white(grey, alpha)


def _blend_over_white(colour: ByteArray, alpha: ByteArray) -> ByteArray:
    """Blend colours uint8 [h, w, 4] over white by their alpha uint8 [h, w, 1], rounded half up."""
    blended = np.empty_like(colour)
    step = max(_BAND_PIXELS // colour.shape[1], 1)
    for top in range(0, len(colour), step):
        band = slice(top, top + step)
        c, a = colour[band].astype(np.uint32), alpha[band].astype(np.uint32)
        blended[band] = (c * a + 255 * (255 - a) + 127) // 255
    return blended
