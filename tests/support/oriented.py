"""Images of several kinds, written with an EXIF orientation or without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from tests.support import images
from tests.support.images import colours, encode, jpeg

if TYPE_CHECKING:
    from collections.abc import Callable


def sixteen_bits() -> Image.Image:
    samples = images.depths(1).astype("<u2").tobytes()
    return Image.frombytes("I;16", (images.WIDTH, images.HEIGHT), samples)


# Writers of files, by kind, which take the EXIF.
ORIENTED: dict[str, Callable[..., bytes]] = {
    "JPEG": lambda **exif: jpeg(40, 56, **exif),
    "grey JPEG": lambda **exif: images.grey_jpeg(40, 56, **exif),
    "CMYK JPEG": lambda **exif: encode(
        Image.fromarray(colours(40, 56)).convert("CMYK"), "JPEG", **exif
    ),
    "PNG": lambda **exif: encode(Image.fromarray(colours()), "PNG", **exif),
    "palette PNG": lambda **exif: encode(images.palette_image(), "PNG", **exif),
    "16-bit PNG": lambda **exif: encode(sixteen_bits(), "PNG", **exif),
    "TIFF": lambda **exif: encode(Image.fromarray(colours()), "TIFF", **exif),
    "LZW TIFF": lambda **exif: encode(
        Image.fromarray(colours()), "TIFF", compression="tiff_lzw", **exif
    ),
    "grey TIFF": lambda **exif: encode(Image.fromarray(images.shades()), "TIFF", **exif),
    "16-bit TIFF": lambda **exif: encode(sixteen_bits(), "TIFF", **exif),
    "WebP": lambda **exif: encode(Image.fromarray(colours()), "WEBP", lossless=True, **exif),
    **(
        {"AVIF": lambda **exif: encode(Image.fromarray(colours(40, 56)), "AVIF", **exif)}
        if images.HAS_AVIF
        else {}
    ),
}
