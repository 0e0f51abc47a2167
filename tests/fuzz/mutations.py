"""Real files, damaged as disks, networks and attackers damage them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from PIL import Image

from tests.support import images

if TYPE_CHECKING:
    from collections.abc import Callable

MARKERS = [bytes([0xFF, code]) for code in (*range(0xC0, 0xF0), 0xFE, 0x01, 0x02, 0x00, 0xFF)]
# A size small enough to decode thousands of them.
SIDE = 96


def flip_bits(data: bytes, chance: random.Random) -> bytes:
    """Flip some bits; in every other file among its first bytes, which matter most."""
    harmed = bytearray(data)
    end = chance.choice([min(len(data), 700), len(data)])
    for _ in range(chance.choice([1, 1, 1, 2, 5, 30])):
        harmed[chance.randrange(end)] ^= 1 << chance.randrange(8)
    return bytes(harmed)


def overwrite_byte(data: bytes, chance: random.Random) -> bytes:
    """Overwrite a byte with a value that is often a limit."""
    harmed = bytearray(data)
    end = chance.choice([min(len(data), 700), len(data)])
    for _ in range(chance.choice([1, 1, 2, 4])):
        harmed[chance.randrange(end)] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, 0xFE, 0xD9])
    return bytes(harmed)


def cut_end(data: bytes, chance: random.Random) -> bytes:
    """Cut the end, often only a little of it."""
    lost = chance.choice([1, 2, 3, 10, 100, chance.randrange(1, len(data))])
    return data[: max(len(data) - lost, 1)]


def append_bytes(data: bytes, chance: random.Random) -> bytes:
    """Append bytes after the end."""
    return data + chance.choice([chance.randbytes(chance.randrange(1, 3000)), bytes(500), data])


def remove_part(data: bytes, chance: random.Random) -> bytes:
    """Remove a part in the middle."""
    start = chance.randrange(len(data))
    return data[:start] + data[start + chance.choice([1, 2, 16, 512, 4096]) :]


def blot_sector(data: bytes, chance: random.Random) -> bytes:
    """Overwrite a sector with zeros or other bytes."""
    start, length = chance.randrange(len(data)), chance.choice([16, 512, 4096])
    blot = chance.choice([bytes(length), b"\xff" * length, chance.randbytes(length)])
    return (data[:start] + blot + data[start + length :])[: len(data)]


def zero_end(data: bytes, chance: random.Random) -> bytes:
    """Zero the end, as in a download that was cut after its file had been allocated."""
    start = chance.randrange(len(data))
    return data[:start] + bytes(len(data) - start)


def insert_marker(data: bytes, chance: random.Random) -> bytes:
    """Insert a marker where none belongs, or write it over other bytes."""
    start = chance.randrange(2, len(data))
    marker = chance.choice(MARKERS)
    return data[:start] + marker + data[start + chance.choice([0, 2]) :]


def repeat_part(data: bytes, chance: random.Random) -> bytes:
    """Repeat a part of the file, or move it."""
    first, second = sorted(chance.randrange(len(data)) for _ in range(2))
    place = chance.randrange(len(data))
    return data[:place] + data[first : min(second, first + 5000)] + data[place:]


def mutate_twice(data: bytes, chance: random.Random) -> bytes:
    """Apply two of the other mutations."""
    for mutation in chance.sample(MUTATIONS, 2):
        data = mutation(data or b"\0", chance)
    return data


MUTATIONS: list[Callable[[bytes, random.Random], bytes]] = [
    flip_bits, overwrite_byte, cut_end, append_bytes, remove_part, blot_sector, zero_end,
    insert_marker, repeat_part,
]  # fmt: skip


def mutate(data: bytes, seed: int) -> bytes:
    """Mutate a file in one or two ways."""
    chance = random.Random(seed)
    return chance.choice([*MUTATIONS, mutate_twice])(data, chance)


def encode_forms(photo: Image.Image) -> dict[str, bytes]:
    """Encode a photo in every format, and in several forms of each."""
    small = photo.convert("RGB").resize((SIDE, SIDE * 3 // 4))
    deep = Image.frombytes("I;16", (20, 12), bytes(range(240)) * 2)
    alpha = small.copy()
    alpha.putalpha(small.convert("L"))
    exif = images.orientation_exif(6)
    save = images.encode
    lossless = {"lossless": True}
    several = {"save_all": True, "append_images": [small.rotate(90, expand=False)]}
    return {
        "baseline.jpg": save(small, "JPEG", exif=exif),
        "grey.jpg": save(small.convert("L"), "JPEG"),
        "progressive.jpg": save(small, "JPEG", progressive=True, quality=90),
        "restarts.jpg": save(small, "JPEG", restart_marker_rows=1, subsampling="4:2:0"),
        "fine.jpg": save(small, "JPEG", subsampling="4:4:4", quality=98),
        "cmyk.jpg": save(small.convert("CMYK"), "JPEG"),
        "mpo.jpg": save(small, "MPO", **several),
        "rgb.png": save(small, "PNG", exif=exif),
        "alpha.png": save(alpha, "PNG"),
        "palette.png": save(small.quantize(30), "PNG", transparency=3),
        "deep.png": save(deep, "PNG"),
        "animated.png": save(small, "PNG", **several),
        "plain.gif": save(small.quantize(60), "GIF"),
        "animated.gif": save(small, "GIF", **several),
        "lossy.webp": save(small, "WEBP", exif=exif),
        "lossless.webp": save(alpha, "WEBP", **lossless),
        "animated.webp": save(small, "WEBP", **several),
        "raw.tif": save(small, "TIFF", exif=exif),
        "lzw.tif": save(alpha, "TIFF", compression="tiff_lzw"),
        "deflate.tif": save(small, "TIFF", compression="tiff_adobe_deflate"),
        "jpeg.tif": save(small, "TIFF", compression="jpeg"),
        "deep.tif": save(deep, "TIFF"),
        "rgb.bmp": save(small, "BMP"),
        "palette.bmp": save(small.quantize(60), "BMP"),
        **({"it.avif": save(small, "AVIF", exif=exif)} if images.HAS_AVIF else {}),
    }
