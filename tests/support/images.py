"""Image files as bytes, and their pixels: written by Pillow, or by hand where it cannot."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, features

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from mnv1cli.types import ByteArray

    Depths = NDArray[np.uint16]

ORIENTATION = 0x0112
HEIGHT, WIDTH = 13, 19
PALETTE = [(255, 0, 0), (0, 200, 10), (3, 7, 250), (90, 90, 90), (255, 254, 1)]
PALETTE_ALPHA = [0, 255, 128, 7, 201]
HAS_AVIF = features.check("avif")


class Sample(NamedTuple):
    """A file, and its pixels as RGB uint8 [h, w, 3]."""

    data: bytes
    rgb: ByteArray


def encode(image: Image.Image, format: str, **options: Any) -> bytes:  # noqa: A002 - as in Pillow
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def plainly_decoded(data: bytes) -> ByteArray:
    """Convert a file to RGB as Pillow does, for lossy formats."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def colours(height: int = HEIGHT, width: int = WIDTH) -> ByteArray:
    """Make RGB in which no row, column or channel equals another."""
    y, x = np.ogrid[:height, :width]
    channels = (3 * x + 11 * y, 200 - 5 * y + x * y // 7, (x * x + 7 * y) // 3 + 90)
    return np.stack([channel % 256 for channel in channels], axis=2).astype(np.uint8)


def noise(height: int, width: int, seed: int) -> ByteArray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def rgbx(rgb: ByteArray, fourth: int = 77) -> ByteArray:
    """Add a fourth byte to RGB, which must not matter."""
    return np.dstack([rgb, np.full(rgb.shape[:2], fourth, np.uint8)])


def shades() -> ByteArray:
    return colours()[:, :, 0]


def alphas() -> ByteArray:
    """Make alpha values from end to end."""
    alpha = colours()[:, :, 2].copy()
    alpha[0], alpha[1] = 0, 255
    return alpha


def depths(channels: int) -> Depths:
    """Make samples of 16 bits, [h, w, channels], with unrelated high and low bytes."""
    place = np.arange(HEIGHT * WIDTH * channels).reshape(HEIGHT, WIDTH, channels)
    return (place * 40503 % 65536).astype(np.uint16)


def high_byte(samples: Depths) -> ByteArray:
    return (samples // 256).astype(np.uint8)


def grey(samples: ByteArray) -> ByteArray:
    """Convert grey [h, w] to RGB."""
    return np.stack([samples] * 3, axis=2)


def over_white(colour: ByteArray, alpha: ByteArray) -> ByteArray:
    c, a = colour.astype(int), alpha.astype(int)[:, :, None]
    result: ByteArray = ((c * a + 255 * (255 - a) + 127) // 255).astype(np.uint8)
    return result


def with_alpha(colour: ByteArray, alpha: ByteArray) -> Image.Image:
    """Make an LA or RGBA image."""
    return Image.fromarray(np.dstack([colour, alpha]), "LA" if colour.ndim == 2 else "RGBA")


def indices() -> ByteArray:
    return (colours()[:, :, 1] % len(PALETTE)).astype(np.uint8)


def palette_image() -> Image.Image:
    image = Image.fromarray(indices())
    image.putpalette([value for colour in PALETTE for value in colour])
    return image


def orientation_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def jpeg(height: int, width: int, **options: Any) -> bytes:
    return encode(Image.fromarray(colours(height, width)), "JPEG", **options)


def grey_jpeg(height: int, width: int, **options: Any) -> bytes:
    return encode(Image.fromarray(colours(height, width)).convert("L"), "JPEG", **options)


def jpeg_with_bad_tables() -> bytes:
    """Make a JPEG whose segments are complete, and which every decoder refuses."""
    data = jpeg(61, 83)
    table = data.index(b"\xff\xc4") + 5
    return data[:table] + b"\xff" * 16 + data[table + 16 :]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, depth: int, colour_type: int, pixels: bytes, *before: bytes
) -> bytes:
    """Make a PNG with `pixels` as they are in its only IDAT, after the chunks `before`."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *before, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def png_of_rows(
    width: int, depth: int, colour_type: int, rows: Iterable[bytes], *before: bytes
) -> bytes:
    lines = [b"\0" + row for row in rows]
    return png(width, len(lines), depth, colour_type, zlib.compress(b"".join(lines)), *before)


def png16(samples: Depths, *before: bytes) -> bytes:
    """Make a PNG of 16 bits per sample, [h, w, 1 to 4]."""
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[samples.shape[2]]
    rows = (row.astype(">u2").tobytes() for row in samples)
    return png_of_rows(samples.shape[1], 16, colour_type, rows, *before)


def grey_png(bits: int, *before: bytes) -> Sample:
    """Make a grey PNG of fewer than 8 bits per sample, with each value, and its pixels."""
    values = np.arange(1 << bits, dtype=np.uint8)
    digits = "".join(f"{value:0{bits}b}" for value in values)
    row = int(digits, 2).to_bytes(max(len(digits) // 8, 1), "big")
    rgb = grey((values * (255 // values[-1]))[None])
    return Sample(png_of_rows(len(values), bits, 0, [row], *before), rgb)


def tiff16(samples: Depths, order: str, photometric: int) -> bytes:
    """Make a TIFF of 16 bits per sample, [h, w, 1 or 3], in byte order "II" or "MM"."""
    end = "<" if order == "II" else ">"
    height, width, channels = samples.shape
    content = samples.astype(f"{end}u2").tobytes()
    bits = struct.pack(f"{end}3H", 16, 16, 16)
    start = 8 + len(bits)
    short, long = 3, 4
    entries = [
        (256, long, 1, width),
        (257, long, 1, height),
        (258, long, 1, 16) if channels == 1 else (258, short, 3, 8),
        (259, long, 1, 1),
        (262, long, 1, photometric),
        (273, long, 1, start),
        (277, long, 1, channels),
        (278, long, 1, height),
        (279, long, 1, len(content)),
    ]
    directory = struct.pack(f"{end}H", len(entries))
    directory += b"".join(struct.pack(f"{end}HHII", *entry) for entry in entries) + bytes(4)
    head = order.encode() + struct.pack(f"{end}HI", 42, start + len(content))
    return head + bits + content + directory


def _colour_samples() -> dict[str, Sample]:
    rgb, image = colours(), Image.fromarray(colours())
    other = Image.fromarray(255 - rgb)
    shade = Image.fromarray(shades())
    bits = (shades() > 127).astype(np.uint8) * 255
    one_bit = Image.fromarray(bits).convert("1")
    lossless = {"lossless": True, "exact": True}
    several = {"save_all": True, "append_images": [other]}
    return {
        "RGB PNG": Sample(encode(image, "PNG"), rgb),
        "RGB BMP": Sample(encode(image, "BMP"), rgb),
        "RGB TIFF": Sample(encode(image, "TIFF"), rgb),
        "RGB TIFF, LZW": Sample(encode(image, "TIFF", compression="tiff_lzw"), rgb),
        "RGB TIFF, deflate": Sample(encode(image, "TIFF", compression="tiff_adobe_deflate"), rgb),
        "RGB TIFF, two pages": Sample(encode(image, "TIFF", **several), rgb),
        "RGB WebP": Sample(encode(image, "WEBP", **lossless), rgb),
        "RGB WebP, animated": Sample(encode(image, "WEBP", **lossless, **several), rgb),
        "RGB PNG, animated": Sample(encode(image, "PNG", **several), rgb),
        "grey PNG": Sample(encode(shade, "PNG"), grey(shades())),
        "grey BMP": Sample(encode(shade, "BMP"), grey(shades())),
        "grey TIFF": Sample(encode(shade, "TIFF"), grey(shades())),
        "grey GIF": Sample(encode(shade, "GIF"), grey(shades())),
        "grey PNG, 2 bits": grey_png(2),
        "grey PNG, 4 bits": grey_png(4),
        "1-bit PNG": Sample(encode(one_bit, "PNG"), grey(bits)),
        "1-bit BMP": Sample(encode(one_bit, "BMP"), grey(bits)),
        "1-bit TIFF": Sample(encode(one_bit, "TIFF"), grey(bits)),
        "1-bit TIFF, fax": Sample(encode(one_bit, "TIFF", compression="group4"), grey(bits)),
    }


def _alpha_samples() -> dict[str, Sample]:
    image, over = with_alpha(colours(), alphas()), over_white(colours(), alphas())
    shade = with_alpha(shades(), alphas())
    lossless = {"lossless": True, "exact": True}
    opaque = Image.fromarray(colours())
    several = {"save_all": True, "append_images": [opaque]}
    # A transparent grey or colour: alpha is 0 where a pixel equals it, 255 elsewhere.
    one_shade, one_colour = int(shades()[2, 3]), tuple(map(int, colours()[2, 3]))
    where_shade = np.where(shades() == one_shade, 0, 255).astype(np.uint8)
    where_colour = np.where((colours() == one_colour).all(axis=2), 0, 255).astype(np.uint8)
    return {
        "LA PNG": Sample(encode(shade, "PNG"), over_white(grey(shades()), alphas())),
        "LA TIFF": Sample(encode(shade, "TIFF"), over_white(grey(shades()), alphas())),
        "RGBA PNG": Sample(encode(image, "PNG"), over),
        "RGBA TIFF": Sample(encode(image, "TIFF"), over),
        "RGBA WebP": Sample(encode(image, "WEBP", **lossless), over),
        "RGBA WebP, animated": Sample(encode(image, "WEBP", **lossless, **several), over),
        "grey PNG, tRNS": Sample(
            encode(Image.fromarray(shades()), "PNG", transparency=one_shade),
            over_white(grey(shades()), where_shade),
        ),
        "RGB PNG, tRNS": Sample(
            encode(opaque, "PNG", transparency=one_colour), over_white(colours(), where_colour)
        ),
        "grey PNG, 2 bits, tRNS": _low_depth_transparency(2),
        "grey PNG, 4 bits, tRNS": _low_depth_transparency(4),
    }


def _low_depth_transparency(bits: int) -> Sample:
    rgb = grey_png(bits).rgb.copy()
    rgb[0, 1] = 255
    return Sample(grey_png(bits, chunk(b"tRNS", struct.pack(">H", 1))).data, rgb)


def _palette_samples() -> dict[str, Sample]:
    image, rgb = palette_image(), np.array(PALETTE, np.uint8)[indices()]
    alpha = np.array(PALETTE_ALPHA, np.uint8)[indices()]
    hole = np.where(indices() == 2, 0, 255).astype(np.uint8)
    several = {"save_all": True, "append_images": [palette_image().rotate(180)]}
    return {
        "palette PNG": Sample(encode(image, "PNG"), rgb),
        "palette PNG, 8 bits": Sample(encode(image, "PNG", bits=8), rgb),
        "palette PNG, tRNS": Sample(
            encode(image, "PNG", transparency=bytes(PALETTE_ALPHA)), over_white(rgb, alpha)
        ),
        "palette PNG, one transparent": Sample(
            encode(image, "PNG", transparency=2), over_white(rgb, hole)
        ),
        "palette BMP": Sample(encode(image, "BMP"), rgb),
        "palette TIFF": Sample(encode(image, "TIFF"), rgb),
        "palette GIF": Sample(encode(image, "GIF"), rgb),
        "palette GIF, transparent": Sample(
            encode(image, "GIF", transparency=2), over_white(rgb, hole)
        ),
        "palette GIF, animated": Sample(encode(image, "GIF", **several), rgb),
    }


def _deep_samples() -> dict[str, Sample]:
    one, two, three, four = (depths(n) for n in (1, 2, 3, 4))
    in_grey = grey(high_byte(one)[:, :, 0])
    little = Image.frombytes("I;16", (WIDTH, HEIGHT), one.astype("<u2").tobytes())
    # The neighbour of the transparent value has its high byte, and stays.
    one[0, 1] = one[0, 0] ^ 1
    hole_in_one = np.where((one == one[0, 0]).all(axis=2), 0, 255).astype(np.uint8)
    key_of_one = chunk(b"tRNS", one[0, 0].astype(">u2").tobytes())
    holed = grey(high_byte(one)[:, :, 0])
    return {
        "grey PNG, 16 bits": Sample(encode(little, "PNG"), in_grey),
        "grey TIFF, 16 bits": Sample(encode(little, "TIFF"), in_grey),
        "grey TIFF, 16 bits, LZW": Sample(encode(little, "TIFF", compression="tiff_lzw"), in_grey),
        "grey TIFF, 16 bits, big-endian": Sample(tiff16(one, "MM", 1), holed),
        "grey TIFF, 16 bits, white is 0": Sample(tiff16(one, "II", 0), 255 - holed),
        "grey PNG, 16 bits, tRNS": Sample(png16(one, key_of_one), over_white(holed, hole_in_one)),
        "LA PNG, 16 bits": Sample(
            png16(two),
            over_white(grey(high_byte(two)[:, :, 0]), high_byte(two)[:, :, 1]),
        ),
        "RGB PNG, 16 bits": Sample(png16(three), high_byte(three)),
        "RGB TIFF, 16 bits": Sample(tiff16(three, "II", 2), high_byte(three)),
        "RGB TIFF, 16 bits, big-endian": Sample(tiff16(three, "MM", 2), high_byte(three)),
        "RGBA PNG, 16 bits": Sample(
            png16(four), over_white(high_byte(four)[:, :, :3], high_byte(four)[:, :, 3])
        ),
    }


def _lossy_samples() -> dict[str, Sample]:
    image = Image.fromarray(colours())
    files = {
        "JPEG": encode(image, "JPEG"),
        "JPEG of RGB": encode(image, "JPEG", keep_rgb=True),
        "grey JPEG": encode(image.convert("L"), "JPEG"),
        "CMYK JPEG": encode(image.convert("CMYK"), "JPEG"),
        "MPO": encode(image, "MPO", save_all=True, append_images=[image.rotate(180)]),
        "CMYK TIFF": encode(image.convert("CMYK"), "TIFF"),
        "lossy WebP": encode(image, "WEBP"),
    }
    if HAS_AVIF:
        files["AVIF"] = encode(image, "AVIF")
    return {name: Sample(data, plainly_decoded(data)) for name, data in files.items()}


SAMPLES: dict[str, Sample] = {
    **_colour_samples(),
    **_alpha_samples(),
    **_palette_samples(),
    **_deep_samples(),
    **_lossy_samples(),
}
