"""Archives of images, of every kind that is read."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from typing import TYPE_CHECKING

from backports import zstd

from mnv1cli.errors import ImageError
from mnv1cli.inputs.archives import open_archive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mnv1cli.inputs.archive import Archive


def pack_zstd(data: bytes) -> bytes:
    """Pack with a checksum, as the program `zstd` does."""
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "x.tar.gz": gzip.compress,
    "x.tgz": gzip.compress,
    "x.tar.bz2": bz2.compress,
    "x.tbz2": bz2.compress,
    "x.tar.xz": lzma.compress,
    "x.txz": lzma.compress,
    "x.tar.zst": pack_zstd,
    "x.tzst": pack_zstd,
}
PACKED = ["x.tar.gz", "x.tar.bz2", "x.tar.xz", "x.tar.zst"]
KINDS = ["x.zip", "x.tar", *PACKED]


def tar_of(files: Mapping[bytes, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def make_archive(path: Path, files: Mapping[bytes, bytes]) -> Path:
    """Write an archive of the kind that its name says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                # What is no UTF-8 is in code page 437, as old programs write it.
                text = name.decode("cp437") if b"\xe9" in name else name.decode()
                archive.writestr(text, data)
        return path
    kind = "x" + path.name[path.name.index(".") :].lower()
    path.write_bytes(PACKERS.get(kind, bytes)(tar_of(files)))
    return path


def read_all(archive: Archive, limit: int = 1 << 20) -> dict[bytes, bytes | str]:
    """Each file's bytes, or why it has none."""
    contents: dict[bytes, bytes | str] = {}
    for member in archive.list_members(lambda name: True):
        try:
            assert member.problem or member.read
            contents[member.name] = member.problem or (member.read and member.read(limit)) or b""
        except ImageError as error:
            contents[member.name] = str(error)
    return contents


def content(path: Path, limit: int = 1 << 20) -> dict[bytes, bytes | str]:
    return read_all(open_archive(bytes(path)), limit)
