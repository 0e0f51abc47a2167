"""Archives that unpack to far more than they have: refused at small cost."""

from __future__ import annotations

import bz2
import io
import itertools
import lzma
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from typing import TYPE_CHECKING

import pytest
from backports import zstd

from mnv1cli.errors import ImageError
from mnv1cli.inputs import held_bytes, packed_tar, zip_archive
from mnv1cli.inputs.archives import open_archive
from mnv1cli.system import bounded_reader
from tests.conftest import ROOT
from tests.support.archives import content, make_archive

if TYPE_CHECKING:
    from pathlib import Path

METHODS = [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def zip_of_zeros(path: Path, megabytes: int, count: int, method: int) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for i in range(count):
            with archive.open(f"{i}.jpg", "w") as file:
                for _ in range(megabytes):
                    file.write(bytes(1 << 20))
    return path


def peak_of_reading(path: Path, threads: int = 4) -> int:
    """Read all files of an archive in several threads, and return the peak of memory in MB."""
    script = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
from mnv1cli.errors import ImageError
from mnv1cli.inputs.archives import open_archive
from tests.support import memory
def read(member):
    try:
        return len(member.read(1 << 30)) if member.read else 0
    except ImageError as error:
        return str(error)
before = memory.most()
with ThreadPoolExecutor({threads}) as pool:
    members = open_archive(sys.argv[1].encode()).list_members(lambda name: True)
    print(set(pool.map(read, members)))
print((memory.most() - before) >> 10)
"""
    lines = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, check=True, cwd=ROOT, timeout=300
    ).stdout.splitlines()
    return int(lines[-1])


@pytest.mark.parametrize("method", METHODS)
def test_files_of_a_zip_that_unpack_to_a_gigabyte(tmp_path: Path, method: int) -> None:
    path = zip_of_zeros(tmp_path / "x.zip", 200, 4, method)
    refused = content(path, limit=1 << 30)
    assert len(refused) == 4
    assert all("too large for its archive" in str(reason) for reason in refused.values())
    assert peak_of_reading(path) < 40


@pytest.mark.parametrize("method", METHODS)
def test_files_of_a_zip_that_claim_less_than_they_have(tmp_path: Path, method: int) -> None:
    path = zip_of_zeros(tmp_path / "x.zip", 200, 4, method)
    claim, size = struct.pack("<I", 200 << 20), struct.pack("<I", 10)
    path.write_bytes(path.read_bytes().replace(claim, size))
    assert all("damaged" in str(reason) for reason in content(path).values())
    assert peak_of_reading(path) < 60


def test_blank_pictures_of_common_size_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zip_of_zeros(tmp_path / "x.zip", 3, 1, zipfile.ZIP_DEFLATED)
    assert content(path, limit=10 << 20) == {b"0.jpg": bytes(3 << 20)}
    monkeypatch.setattr(zip_archive, "_ALWAYS_UNPACKED", 3 << 20)
    assert content(path, limit=10 << 20) == {b"0.jpg": bytes(3 << 20)}
    monkeypatch.setattr(zip_archive, "_ALWAYS_UNPACKED", (3 << 20) - 1)
    assert "unpack the archive" in str(content(path, limit=10 << 20)[b"0.jpg"])


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, *METHODS])
@pytest.mark.parametrize("size", [0, 1, 300_000, 5_000_000])
def test_every_method_of_python_is_read(tmp_path: Path, method: int, size: int) -> None:
    data = (b"some text " * size)[:size]
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as archive:
        archive.writestr("a.jpg", data)
        archive.writestr("b.jpg", b"end")
    assert content(tmp_path / "x.zip", 10 << 20) == {b"a.jpg": data, b"b.jpg": b"end"}


def test_zip_with_something_before_it_and_with_a_comment(tmp_path: Path) -> None:
    path = make_archive(tmp_path / "x.zip", {b"a.jpg": b"first" * 100})
    path.write_bytes(b"#!/bin/sh\nexit\n" + path.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"a comment"
    assert content(path) == {b"a.jpg": b"first" * 100}


def test_method_of_others_is_named(tmp_path: Path) -> None:
    path = make_archive(tmp_path / "x.zip", {b"a.jpg": b"first" * 100})
    data = path.read_bytes()
    at = data.index(b"PK\1\2")
    path.write_bytes(data[: at + 10] + struct.pack("<H", 9) + data[at + 12 :])
    assert "method 9" in str(content(path)[b"a.jpg"])


def local(name: bytes, packed: bytes, data: bytes) -> bytes:
    fields = (20, 0, 8, 0, 0, zlib.crc32(data), len(packed), len(data), len(name), 0)
    return struct.pack("<4sHHHHHIIIHH", b"PK\3\4", *fields) + name


def central(name: bytes, packed: int, data: bytes, offset: int) -> bytes:
    fields = (20, 20, 0, 8, 0, 0, zlib.crc32(data), packed, len(data), len(name))
    return struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", *fields, 0, 0, 0, 0, 0, offset) + name


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=-15)
    return packer.compress(data) + packer.flush()


def test_files_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """Many names of one header, and files that lie within one another."""
    data = bytes(1 << 20)
    packed = deflate(data)
    inner = local(b"b.jpg", packed, data) + packed
    outer = local(b"a.jpg", inner, data) + inner
    names = [b"%d.jpg" % i for i in range(5)]
    directory = central(b"a.jpg", len(inner), data, 0)
    directory += central(b"b.jpg", len(packed), data, len(outer) - len(inner))
    directory += b"".join(central(n, len(packed), data, len(outer) - len(inner)) for n in names)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 7, 7, len(directory), len(outer), 0)
    (tmp_path / "x.zip").write_bytes(outer + directory + end)
    got = content(tmp_path / "x.zip", 2 << 20)
    assert got.pop(b"b.jpg") == data
    assert "overlaps" in str(got.pop(b"a.jpg"))
    assert {str(reason) for reason in got.values()} == {
        "damaged in its archive: it has no header of its own"
    }


@pytest.mark.parametrize("kind", ["x.tar.gz", "x.tar.bz2", "x.tar.xz", "x.tar.zst"])
def test_files_of_a_packed_tar_do_not_fill_memory(tmp_path: Path, kind: str) -> None:
    zeros = bytes(packed_tar.MAX_MEMBER)
    path = make_archive(tmp_path / kind, {b"%d.jpg" % i: zeros for i in range(20)})
    assert peak_of_reading(path) < (held_bytes.MAX_HELD >> 20) + 6 * 32 + 60


@pytest.mark.parametrize("kind", ["x.tar.bz2", "x.tar.xz", "x.tar.zst"])
def test_what_unpacks_to_far_more_than_it_has_ends(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_reader, "_ALWAYS_UNPACKED", 1 << 20)
    files = {b"a.jpg": b"first", b"skipped.txt": bytes(100 << 20), b"z.jpg": b"last"}
    got = content(make_archive(tmp_path / kind, files), limit=200 << 20)
    assert got[b"a.jpg"] == b"first"
    assert got[b""] == "damaged archive: it unpacks to more than 1,000 times its size"
    assert b"z.jpg" not in got


@pytest.mark.parametrize("kind", ["x.tar.xz", "x.tar.zst"])
def test_what_needs_too_much_memory_is_refused(tmp_path: Path, kind: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("a.jpg")
        info.size = 1 << 20
        tar.addfile(info, io.BytesIO(bytes(1 << 20)))
    if kind == "x.tar.xz":
        filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 400 << 20}]
        data = lzma.compress(buffer.getvalue(), filters=filters)
    else:
        # Pieces, so that its length is not known beforehand.
        packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 30})
        data = packer.compress(buffer.getvalue()) + packer.flush()
    (tmp_path / kind).write_bytes(data)
    (reason,) = content(tmp_path / kind).values()
    assert reason == "damaged archive: it needs more than 128 MB of memory to be unpacked"


def test_endless_empty_streams_end(tmp_path: Path) -> None:
    (tmp_path / "x.tar.bz2").write_bytes(bz2.compress(b"") * 500_000)
    (reason,) = content(tmp_path / "x.tar.bz2").values()
    assert "damaged archive" in str(reason)


def test_huge_claim_of_a_tar_takes_no_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.jpg")
    info.size = 1 << 30
    (tmp_path / "x.tar").write_bytes(info.tobuf() + b"short")
    (member, *_) = itertools.islice(
        open_archive(bytes(tmp_path / "x.tar")).list_members(lambda name: True), 1
    )
    assert member.read is not None
    with pytest.raises(ImageError, match="ends too early"):
        member.read(1 << 30)
    assert peak_of_reading(tmp_path / "x.tar") < 20
