"""Decompressors of one form, which never make more bytes at a time than they are asked for."""

from __future__ import annotations

import contextlib
import importlib
import sys
import zlib
from typing import TYPE_CHECKING, Any, Protocol

from mnv1cli.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK = 64 << 10
# The most memory for the dictionary of an xz file; `xz -9` needs 65 MiB.
_XZ_MEMORY = 128 << 20
_GZIP_BITS, _RAW_BITS = 31, -15
_FAILURES = (
    ("lzma", "LZMAError"),
    ("compression.zstd", "ZstdError"),
    ("backports.zstd", "ZstdError"),
)


class UnpackError(Exception):
    """Packed bytes that are damaged, or need too much memory; the text is the reason."""


class Decompressor(Protocol):
    """The form that the decompressors of bz2, lzma and zstd have."""

    @property
    def eof(self) -> bool:
        """True once the stream has ended."""

    @property
    def needs_input(self) -> bool:
        """True where nothing can be made without further packed bytes."""

    @property
    def unused_data(self) -> bytes:
        """The bytes behind the end of the stream."""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Unpack `data` to at most `max_length` bytes."""


class _Inflater:
    """zlib's decompressor in the form of the others."""

    def __init__(self, bits: int) -> None:
        self._inner = zlib.decompressobj(bits)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max(max_length, 0))


def open_inflater() -> Decompressor:
    """Open a decompressor of raw deflate, as ZIP files have it."""
    return _Inflater(_RAW_BITS)


def open_gzip() -> Decompressor:
    """Open a decompressor of gzip, which checks the checksum."""
    return _Inflater(_GZIP_BITS)


def open_bz2() -> Decompressor:
    """Open a decompressor of bzip2."""
    return importlib.import_module("bz2").BZ2Decompressor()  # type: ignore[no-any-return]


def open_xz() -> Decompressor:
    """Open a decompressor of xz."""
    lzma = importlib.import_module("lzma")
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY)  # type: ignore[no-any-return]


def open_lzma_alone() -> Decompressor:
    """Open a decompressor of LZMA with the header of `.lzma` files."""
    lzma = importlib.import_module("lzma")
    return lzma.LZMADecompressor(lzma.FORMAT_ALONE, _XZ_MEMORY)  # type: ignore[no-any-return]


def open_zstd() -> Decompressor:
    """Open a decompressor of Zstandard; its window has at most 128 MiB."""
    return _import_zstd().ZstdDecompressor()  # type: ignore[no-any-return]


def require(open_decompressor: Callable[[], Decompressor], name: str) -> None:
    """Require the library of a decompressor for the file that is called `name`.

    Raises:
        OptionError: it is not installed.
    """
    try:
        open_decompressor()
    except ImportError:
        remedy = "pip install 'mnv1cli[zst]'"
        if open_decompressor is not open_zstd:
            remedy = "this Python was built without it; unpack the file"
        raise OptionError(f"{name} needs a library that is not installed", remedy) from None


def _import_zstd() -> Any:
    # Part of Python from 3.14 on.
    with contextlib.suppress(ImportError):
        return importlib.import_module("compression.zstd")
    return importlib.import_module("backports.zstd")


class UnpackedStream:
    """The contents of a packed file, which may consist of several streams.

    With `only_one` the contents end with the first stream.
    """

    def __init__(
        self, packed: Any, open_decompressor: Callable[[], Decompressor], only_one: bool = False
    ) -> None:
        self._packed = packed
        self._only_one = only_one
        self._open = open_decompressor
        self._current: Decompressor | None = open_decompressor()
        # Packed bytes that were read and not used yet.
        self._ahead = b""

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes; fewer only at the end.

        Raises:
            UnpackError: the packed bytes are damaged.
            EOFError: they end too early.
        """
        parts = []
        while size > 0 and self._current is not None:
            if self._current.eof:
                self._begin_next(self._current.unused_data)
                continue
            part = self._unpack(self._current, size)
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _unpack(self, current: Decompressor, size: int) -> bytes:
        # Zstandard may say that it needs no input, and then make nothing.
        part = b"" if current.needs_input else _decompress(current, b"", size)
        if part or current.eof:
            return part
        raw, self._ahead = self._ahead or self._packed.read(_CHUNK), b""
        part = _decompress(current, raw, size)
        if not raw and not part and not current.eof:
            raise EOFError("it ends too early")
        return part

    def _begin_next(self, start: bytes) -> None:
        """Begin the next stream, which may come after zeros; its first bytes are `start`."""
        if self._only_one:
            self._current = None
            return
        while not (start := start.lstrip(b"\0")) and (start := self._packed.read(_CHUNK)):
            pass
        self._ahead = start
        self._current = self._open() if start else None


def _decompress(decompressor: Decompressor, raw: bytes, size: int) -> bytes:
    try:
        return decompressor.decompress(raw, size)
    except _list_failures() as error:
        raise UnpackError(_explain(error)) from error


def _list_failures() -> tuple[type[Exception], ...]:
    """Return what decompressors raise; libraries that are not in use are not imported for it."""
    kinds: list[type[Exception]] = [OSError, ValueError, EOFError, zlib.error]
    for module, name in _FAILURES:
        if loaded := sys.modules.get(module):
            kinds.append(getattr(loaded, name))
    return tuple(kinds)


def _explain(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    if "emory" in text:
        return f"it needs more than {_XZ_MEMORY >> 20} MB of memory to be unpacked"
    return text or type(error).__name__
