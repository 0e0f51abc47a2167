"""HEIC, as phones write it; its decoder is installed with the extra `heif`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnv1cli.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable

# The brands of ISO/IEC 23008-12 whose pictures are coded as HEVC; those of any HEIF; and
# those of AVIF, which claims to be a HEIF too.
_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"))
_GENERAL = frozenset((b"mif1", b"msf1", b"mif2"))
_AVIF = frozenset((b"avif", b"avis"))


def is_heif(data: bytes) -> bool:
    """Return whether a file is a HEIC, by the box at its start."""
    if data[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(data[:4], "big"), 256, len(data))
    brands = {data[8:12], *(data[i : i + 4] for i in range(16, end - 3, 4))}
    return not brands & _AVIF and bool(brands & (_BRANDS | _GENERAL))


def load_opener() -> Callable[..., Any]:
    """Import the opener of HEICs, which turns and mirrors a picture as its container says.

    Raises:
        ImageError: the extra `heif` is not installed.
    """
    try:
        from pillow_heif.as_plugin import HeifImageFile
    except ImportError:
        raise ImageError("is a HEIC, which needs an extra: pip install 'mnv1cli[heif]'") from None
    opener: Callable[..., Any] = HeifImageFile
    return opener
