"""Images in ZIP files. Only the directory is read by Python's own library.

Its readers share one lock and one position, and unpack bzip2 without any bound.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mnv1cli.errors import ImageError
from mnv1cli.inputs.archive import DAMAGE, Archive, Entry, explain_read, find_outside
from mnv1cli.limits import check_bytes, format_bytes
from mnv1cli.system import unpackers
from mnv1cli.system.unpackers import UnpackedStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mnv1cli.inputs.pooled_file import PooledFile
    from mnv1cli.inputs.stored_file import StoredFile
    from mnv1cli.system.unpackers import Decompressor

_CHUNK = 1 << 20
# A file may have this many bytes, and beyond it this many times its packed bytes: only blank
# pictures that are stored without any packing of their own have more.
_ALWAYS_UNPACKED = 64 << 20
_MAX_RATIO = 100
_ENCRYPTED, _PATCHED, _HIDDEN, _UTF8, _LZMA_END = 0x1, 0x20, 0x2040, 0x800, 0x2
_LOCAL = struct.Struct("<4s22xHH")
_STORED, _LZMA = 0, 14
_METHODS: dict[int, Callable[[], Decompressor]] = {
    8: unpackers.open_inflater,
    12: unpackers.open_bz2,
    _LZMA: unpackers.open_lzma_alone,
    93: unpackers.open_zstd,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipEntry(Entry):
    """A file of a ZIP: where its header is, and where the next part of the archive begins."""

    header: int
    end: int
    packed_size: int
    method: int
    flags: int
    crc: int
    raw_name: bytes


class ZipArchive(Archive):
    """A ZIP file."""

    def list_entries(self) -> Iterator[Entry]:
        """List all files by name, files and folders interleaved, as a folder is walked."""
        with self.file.open_stream() as stream:
            archive = zipfile.ZipFile(stream)
            entries = _make_entries(archive.infolist(), archive.start_dir)
        yield from sorted(entries, key=lambda entry: entry.name.split(b"/"))

    def read_entry(self, entry: Entry, limit: int) -> bytes:
        """Read the bytes of a file without a problem, at most `limit`; raises `ImageError`."""
        assert isinstance(entry, ZipEntry)
        check_bytes(entry.size, limit)
        _check_ratio(entry.size, entry.packed_size)
        try:
            return _read(self.file, entry)
        except ImportError:
            raise ImageError(
                "is packed with Zstandard; pip install 'mnv1cli[zst]' reads it"
            ) from None
        except DAMAGE as error:
            raise explain_read(error) from error


def _make_entries(files: Sequence[zipfile.ZipInfo], directory: int) -> list[ZipEntry]:
    # Files that share their packed bytes unpack to far more than the archive has.
    ordered = sorted({info.header_offset for info in files})
    ends = dict(zip(ordered, [*ordered[1:], directory], strict=True))
    return [
        ZipEntry(
            name := _encode_name(info, info.filename).removeprefix(b"./"),
            info.file_size,
            _find_problem(info, name),
            header=info.header_offset,
            end=ends[info.header_offset],
            packed_size=info.compress_size,
            method=info.compress_type,
            flags=info.flag_bits,
            crc=info.CRC,
            raw_name=_encode_name(info, info.orig_filename),
        )
        for info in files
        if not info.is_dir()
    ]


def _find_problem(info: zipfile.ZipInfo, name: bytes) -> str:
    if info.flag_bits & (_ENCRYPTED | _HIDDEN):
        return "is encrypted"
    if info.flag_bits & _PATCHED or info.compress_type not in (_STORED, *_METHODS):
        return f"is packed by method {info.compress_type}, which is not known; unpack the archive"
    return find_outside(name)


def _encode_name(info: zipfile.ZipInfo, name: str) -> bytes:
    """Return the bytes of a name that Python has decoded as UTF-8 or as code page 437."""
    return name.encode("utf-8" if info.flag_bits & _UTF8 else "cp437", "surrogatepass")


def _check_ratio(size: int, packed: int) -> None:
    if size > _ALWAYS_UNPACKED and size > _MAX_RATIO * packed:
        raise ImageError(
            f"too large for its archive: {format_bytes(packed)} unpack to {format_bytes(size)}, "
            f"more than {_MAX_RATIO} times as much; unpack the archive"
        )


def _read(file: PooledFile | StoredFile, entry: ZipEntry) -> bytes:
    header = file.read_at(entry.header, _LOCAL.size + len(entry.raw_name))
    signature, name_length, extra_length = _LOCAL.unpack(
        header[: _LOCAL.size].ljust(_LOCAL.size, b"\0")
    )
    # A bomb may have many names for one header.
    if signature != b"PK\3\4" or header[_LOCAL.size :] != entry.raw_name:
        raise zipfile.BadZipFile("it has no header of its own")
    start = entry.header + _LOCAL.size + name_length + extra_length
    if start + entry.packed_size > entry.end:
        raise zipfile.BadZipFile("it overlaps with another file")
    if entry.method == _STORED:
        data = file.read_at(start, min(entry.packed_size, entry.size))
    else:
        data = _unpack(_Part(file, start, entry.packed_size), entry)
    if len(data) != entry.size:
        raise EOFError("it ends too early")
    if zlib.crc32(data) != entry.crc:
        raise zipfile.BadZipFile("its checksum is wrong")
    return data


def _unpack(packed: _Part, entry: ZipEntry) -> bytes:
    """Unpack a file; never much more than it claims."""
    if entry.method == _LZMA:
        packed.start_with(_convert_lzma_header(packed, entry))
    stream = UnpackedStream(packed, _METHODS[entry.method], only_one=True)
    parts = io.BytesIO()
    while part := stream.read(min(_CHUNK, entry.size + 1 - parts.tell())):
        parts.write(part)
        if parts.tell() > entry.size:
            raise zipfile.BadZipFile("it has more bytes than it claims")
    return parts.getvalue()


def _convert_lzma_header(packed: _Part, entry: ZipEntry) -> bytes:
    """Read the header of LZMA in a ZIP, and return that of an `.lzma` file.

    The former is in section 5.8.8 of PKWARE's APPNOTE.
    """
    version = packed.read(4)
    (length,) = struct.unpack("<2xH", version.ljust(4, b"\0"))
    size = -1 if entry.flags & _LZMA_END else entry.size
    return packed.read(length) + struct.pack("<q", size)


class _Part:
    """The packed bytes of a file within its archive."""

    def __init__(self, file: PooledFile | StoredFile, start: int, size: int) -> None:
        self._file = file
        self._next = start
        self._end = start + size
        self._first = b""

    def start_with(self, first: bytes) -> None:
        """Let bytes be read before those that are left."""
        self._first = first

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes."""
        if self._first:
            first, self._first = self._first, b""
            return first
        data = self._file.read_at(self._next, min(size, self._end - self._next))
        self._next += len(data)
        return data
