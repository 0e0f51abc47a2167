"""Small files that claim, or unpack to, far more than they are.

    python -m tests.support.bombs

decodes them one by one and says for each in JSON what came of it, and what memory it took.
"""

from __future__ import annotations

import json
import struct
import sys
import time
import zlib
from typing import TYPE_CHECKING

from PIL import Image

from tests.support import images, memory
from tests.support.images import chunk, colours, encode, jpeg, png, png_of_rows
from tests.support.pixels import load_pixels

if TYPE_CHECKING:
    from collections.abc import Iterator

SIDE = 30_000
ROWS = [row.tobytes() for row in colours()]
SHORT, LONG, UNDEFINED = 3, 4, 7
Entry = tuple[int, int, int, int]


def claims() -> Iterator[tuple[str, bytes]]:
    """Yield files that claim 30,000 x 30,000 pixels or more, in every format."""
    size = struct.pack(">HH", SIDE, SIDE)
    whole = jpeg(40, 56)
    at = whole.index(b"\xff\xc0") + 5
    # Bytes enough for the claim to be believed.
    filled = whole[:-2] + bytes(SIDE * SIDE // 64 + 1) + b"\xff\xd9"
    yield "JPEG", filled[:at] + size + filled[at + 4 :]
    yield "PNG", png(SIDE, SIDE, 8, 2, b"")
    screen = struct.pack("<HHBBB", SIDE, SIDE, 0, 0, 0)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2D\1\0;"
    yield "GIF", b"GIF89a" + screen + frame
    control = b"!\xf9\4\x08\0\0\0\0"
    beyond = b"," + struct.pack("<HHHHB", 0, 0, SIDE, SIDE, 0) + b"\2\2D\1\0;"
    small = struct.pack("<HHBBB", 5, 5, 0, 0, 0)
    yield "GIF's frame", b"GIF89a" + small + control + beyond
    lossless = (16382 | 16382 << 14).to_bytes(4, "little")
    yield "WebP", b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + lossless + bytes(20)
    extended = (SIDE - 1).to_bytes(3, "little") * 2
    yield "WebP's canvas", b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0" + extended + bytes(20)
    yield "lossy WebP", b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a\xff\x3f\xff\x3f" + bytes(9)
    bmp = bytearray(encode(Image.new("RGB", (4, 4)), "BMP"))
    bmp[18:26] = struct.pack("<ii", SIDE, SIDE)
    yield "BMP", bytes(bmp)
    yield "TIFF", tiff(SIDE, SIDE, (273, LONG, 1, 8), (278, LONG, 1, SIDE), (279, LONG, 1, 400))
    tiles = [(322, LONG, 1, SIDE), (323, LONG, 1, SIDE), (324, LONG, 1, 8), (325, LONG, 1, 1600)]
    yield "TIFF's tile", tiff(40, 40, *tiles)
    yield "TIFF's packed tile", tiff(40, 40, *tiles, compression=5)


def slow() -> Iterator[tuple[str, bytes]]:
    """Yield files that would take too long, or memory beside their pixels."""
    progressive = encode(Image.new("L", (2000, 2000)), "JPEG", progressive=True)
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    yield "JPEG of 5,000 scans", progressive[:-2] + scan * 5000 + b"\xff\xd9"
    at = progressive.index(b"\xff\xc2") + 5
    wide = progressive[:at] + struct.pack(">HH", 14000, 14000) + progressive[at + 4 : -2]
    yield "large JPEG of 90 scans", wide + scan * 80 + bytes(400_000) + b"\xff\xd9"
    whole = jpeg(40, 56)
    yield "JPEG of empty segments", whole[:2] + b"\xff\xfe\0\2" * 1_000_000 + whole[2:]
    yield "JPEG of fillers", whole[:2] + b"\xff" * 10_000_000 + whole[2:]
    end = chunk(b"IEND", b"")
    picture = images.SAMPLES["RGB PNG"].data.removesuffix(end)
    yield "PNG of empty chunks", picture + chunk(b"tEXt", b"") * 1_100_000 + end
    yield "GIF of blocks", b"GIF89a\5\0\5\0\0\0\0!\xfe" + b"\1a" * 3_000_000 + b"\0;"
    run = bytearray(encode(images.palette_image(), "BMP"))
    run[18:26], run[30:34] = struct.pack("<ii", 150_000_000, 1), struct.pack("<I", 1)
    yield "BMP of runs", bytes(run) + b"\1\1\0\0" * 50
    same = [(30000 + i, UNDEFINED, 1_000_000, 8) for i in range(30_000)]
    yield "TIFF of the same bytes", tiff(40, 40, *same) + bytes(1_000_000)
    yield "TIFF of numbers", tiff(40, 40, (273, LONG, 5_000_000, 8)) + bytes(20_000_000)
    many = struct.pack("<HHIQQ", 0x4949, 43, 8, 16, 500_000)
    yield "BigTIFF of entries", many + bytes(20 * 500_000)


def harmless() -> Iterator[tuple[str, bytes]]:
    """Yield files of which only the picture, which is small, is unpacked."""
    packed = zlib.compress(bytes(200_000_000), 9)
    heads = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}
    for kind, head in heads.items():
        yield (
            f"PNG with {kind.decode()}",
            png_of_rows(images.WIDTH, 8, 2, ROWS, *[chunk(kind, head + packed)] * 3),
        )
    yield "PNG with more rows", png(images.WIDTH, images.HEIGHT, 8, 2, packed)
    entries = [(30000 + i, UNDEFINED, 60_000, 8) for i in range(5000)]
    exif = b"Exif\0\0" + tiff(40, 40, *entries)
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    whole = jpeg(40, 56)
    yield "JPEG with EXIF of the same bytes", whole[:2] + segment * 200 + whole[2:]
    block = tiff(40, 40, *[(30000 + i, UNDEFINED, 400_000, 8) for i in range(30_000)])
    yield (
        "PNG with EXIF of the same bytes",
        png_of_rows(images.WIDTH, 8, 2, ROWS, chunk(b"eXIf", block)),
    )
    strip = [(273, LONG, 1, 300), (278, LONG, 1, 40), (279, LONG, 1, len(packed))]
    yield "TIFF whose strip unpacks to more", tiff(40, 40, *strip, compression=8)[:300] + packed
    loop = bytearray(tiff(40, 40, (273, LONG, 1, 8), (278, LONG, 1, 40), (279, LONG, 1, 1600)))
    loop[10 + 9 * 12 : 14 + 9 * 12] = struct.pack("<I", 8)
    yield "TIFF whose directories are a ring", bytes(loop)
    gif = encode(Image.new("P", (100, 100)), "GIF")
    frame = gif[gif.index(b",") : -1]
    yield "GIF of 50,000 frames", gif[:-1] + frame * 50_000 + b";"
    frames = [Image.new("RGB", (64, 64), (i, 9, 5)) for i in range(1, 200)]
    yield (
        "WebP of 200 frames",
        encode(Image.new("RGB", (64, 64)), "WEBP", save_all=True, append_images=frames),
    )


def tiff(width: int, height: int, *more: Entry, compression: int = 1) -> bytes:
    """Make a grey TIFF of 8 bits with these entries beside the usual ones."""
    usual = [
        (256, LONG, 1, width),
        (257, LONG, 1, height),
        (258, SHORT, 1, 8),
        (259, SHORT, 1, compression),
        (262, SHORT, 1, 1),
        (277, SHORT, 1, 1),
    ]
    entries = sorted([*usual, *more])
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries))
    return head + directory + struct.pack("<I", 0) + bytes(2000)


def main() -> None:
    from mnv1cli.errors import ImageError
    from mnv1cli.types import PixelSpec

    for kind in (claims, slow, harmless):
        for name, data in kind():
            before = memory.most(forget=True)
            started = time.process_time()
            try:
                load_pixels(data, PixelSpec(64))
                reason = ""
            except ImageError as error:
                reason = str(error)
            seconds = time.process_time() - started
            more = memory.most() - before
            found = {"kind": kind.__name__, "name": name, "reason": reason}
            sys.stdout.write(json.dumps({**found, "seconds": seconds, "kB": more}) + "\n")


if __name__ == "__main__":
    main()
