"""Decompressors of one form: streams in a row, padding, damage and bounds."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
from typing import TYPE_CHECKING

import pytest
from backports import zstd

from mnv1cli.system.unpackers import (
    UnpackedStream,
    UnpackError,
    open_bz2,
    open_gzip,
    open_xz,
    open_zstd,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mnv1cli.system.unpackers import Decompressor

    Kind = tuple[Callable[[bytes], bytes], Callable[[], Decompressor]]

KINDS: dict[str, Kind] = {
    "gzip": (gzip.compress, open_gzip),
    "bz2": (bz2.compress, open_bz2),
    "xz": (lzma.compress, open_xz),
    "zstd": (zstd.compress, open_zstd),
}
DATA = random.Random(1).randbytes(150_000) + bytes(3_000_000) + b"end"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def unpack(packed: bytes, kind: Kind, size: int = 1 << 20) -> bytes:
    stream = UnpackedStream(io.BytesIO(packed), kind[1])
    parts = []
    while part := stream.read(size):
        assert len(part) <= size
        parts.append(part)
    assert stream.read(size) == b""
    return b"".join(parts)


@pytest.mark.parametrize("size", [7_777, 64 << 10, 1 << 20, 1 << 30])
def test_contents_come_in_pieces_of_any_size(kind: Kind, size: int) -> None:
    assert unpack(kind[0](DATA), kind, size) == DATA


def test_streams_in_a_row_with_zeros_between_them(kind: Kind) -> None:
    packed = kind[0](DATA) + kind[0](b"") + bytes(1000) + kind[0](b"more") + bytes(100_000)
    assert unpack(packed, kind) == DATA + b"more"
    assert unpack(kind[0](b"one") * 1000, kind) == b"one" * 1000


def test_nothing_is_no_packed_file(kind: Kind) -> None:
    with pytest.raises(EOFError):
        unpack(b"", kind)


@pytest.mark.parametrize("garbage", [b"garbage" * 100, b"\1", bytes(99_999) + b"garbage" * 100])
def test_garbage_at_the_end_is_damage(kind: Kind, garbage: bytes) -> None:
    with pytest.raises((UnpackError, EOFError)):
        unpack(kind[0](DATA) + garbage, kind)


def test_every_cut_is_damage(kind: Kind) -> None:
    packed = kind[0](DATA[:3000])
    for length in range(len(packed) - 1, 0, -37):
        with pytest.raises(EOFError):
            unpack(packed[:length], kind)


def test_text_is_damage(kind: Kind) -> None:
    with pytest.raises(UnpackError):
        unpack(b"no packed file at all" * 10, kind)


def test_little_is_made_at_a_time(kind: Kind) -> None:
    packed = io.BytesIO(kind[0](bytes(50_000_000)))
    stream = UnpackedStream(packed, kind[1])
    assert stream.read(1000) == bytes(1000)
    assert packed.tell() <= 64 << 10
