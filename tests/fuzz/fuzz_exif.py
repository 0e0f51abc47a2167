"""Read the orientation in any EXIF and XMP: it is one of eight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fuzz.harness import fuzz

if TYPE_CHECKING:
    from collections.abc import Callable


def load() -> Callable[[bytes], None]:
    from mnv1cli.images import exif

    def target(data: bytes) -> None:
        first, _, second = data.partition(b"\0xmp\0")
        assert 1 <= exif.read_orientation(first, second) <= 8

    return target


if __name__ == "__main__":
    fuzz(load)
