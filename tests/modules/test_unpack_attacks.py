"""Archives made to do harm are refused at small cost."""

from __future__ import annotations

import contextlib
import gzip
import os
import resource
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnv1cli.errors import ModuleError
from mnv1cli.modules.formats.unpack import unpack_archive
from tests.support.laid import FILES, read_files
from tests.support.shell import peak_megabytes
from tests.support.tars import folder, member, module_members, noise, tar_bytes

UNPACK = """
import pathlib, sys
from mnv1cli.modules.formats.unpack import unpack_archive
from mnv1cli.errors import ModuleError
try:
    unpack_archive(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
except ModuleError as error:
    pathlib.Path(sys.argv[1]).with_suffix(".said").write_text(str(error))
"""
END = bytes(1024)
ZEROS = bytes(1 << 20)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE, base256: bool = False) -> bytes:
    """Make a member's header block, whatever it claims."""
    info = tarfile.TarInfo(name)
    info.type = kind
    if not base256 and 0 <= size < 8**11:
        info.size = size
        return info.tobuf(tarfile.USTAR_FORMAT)
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = (b"\x80" if size >= 0 else b"\xff") + size.to_bytes(11, "big", signed=True)
    block[148:156] = b"%06o\0 " % (256 + sum(block[:148]) + sum(block[156:512]))
    return bytes(block)


def extended(kind: bytes, content: bytes, claims: int | None = None) -> bytes:
    """Make a pax or GNU header before a member."""
    size = len(content) if claims is None else claims
    return header("x", size, kind) + content + bytes(-len(content) % 512)


def pax(**fields: str) -> bytes:
    records = []
    for key, value in fields.items():
        text = f" {key.replace('_', '.')}={value}\n".encode()
        length = next(n for n in range(len(text) + 9) if n == len(text) + len(str(n)))
        records.append(str(length).encode() + text)
    return extended(tarfile.XHDTYPE, b"".join(records))


def zeros(megabytes: int) -> bytes:
    """Make a part of a gzip file: parts that follow one another are one file."""
    return gzip.compress(ZEROS, 1) * megabytes


def packed(*blocks: bytes) -> bytes:
    return gzip.compress(b"".join(blocks), 1)


def sparse_block(claims: int, more: bool) -> bytes:
    block = bytearray(header("s", 0, tarfile.GNUTYPE_SPARSE))
    block[482] = more
    block[483:495] = b"%011o\0" % claims
    block[148:156] = b"%06o\0 " % (256 + sum(block[:148]) + sum(block[156:512]))
    return bytes(block)


MODULE = tar_bytes(*module_members())
TOO_MUCH = "it has too much between its files"
TOO_LARGE = "it unpacks to more than "
ATTACKS = {
    "pax of 2 GB": (packed(header("x", 2 << 30, tarfile.XHDTYPE)) + zeros(300), TOO_MUCH),
    "global pax of 2 GB": (packed(header("x", 2 << 30, tarfile.XGLTYPE)) + zeros(300), TOO_MUCH),
    "name of 2 GB": (packed(header("x", 2 << 30, tarfile.GNUTYPE_LONGNAME)) + zeros(300), TOO_MUCH),
    "link of 2 GB": (packed(header("x", 2 << 30, tarfile.GNUTYPE_LONGLINK)) + zeros(300), TOO_MUCH),
    "digits": (packed(extended(tarfile.XHDTYPE, b"1" * 300_000), header("x", 0), END), TOO_MUCH),
    "endless pax": (packed(pax(comment="x") * 5000) * 20, TOO_MUCH),
    "endless names": (packed(extended(tarfile.GNUTYPE_LONGNAME, b"x") * 5000) * 20, TOO_MUCH),
    "pax without end": (packed(header("x", 0, tarfile.XHDTYPE) * 5000), TOO_MUCH),
    "sparse": (packed(sparse_block(10 << 30, more=False), END), "'s' is a sparse file"),
    "endless map": (packed(sparse_block(1000, more=True), b"1" * 505 * 100_000), TOO_MUCH),
    "pax map": (
        packed(
            pax(GNU_sparse_major="1", GNU_sparse_minor="0", GNU_sparse_realsize="9"),
            header("s", 40 << 20),
            b"9999999999\n" + b"0\n" * (20 << 20),
        ),
        TOO_MUCH,
    ),
    "pax sparse": (
        packed(pax(GNU_sparse_map="0,1", GNU_sparse_size="9"), header("s", 512), bytes(512), END),
        "'s' is a sparse file",
    ),
    "a million": (packed(b"".join(header(f"{n}", 0) for n in range(9999)))
                  + packed(header(".", 0, tarfile.DIRTYPE) * 10_000) * 100, TOO_LARGE),
    "one folder": (packed(header(".", 0, tarfile.DIRTYPE) * 10_000) * 100, TOO_LARGE),
    "folders on the way": (
        packed(b"".join(header(f"{n}/" + "f/" * 30 + "f", 0) for n in range(400)), END), TOO_LARGE),
    "10 GB claimed": (packed(header("x", 10 << 30, base256=True)) + zeros(10), TOO_LARGE),
    "a bomb": (packed(header("x", 2000 << 20)) + zeros(100), TOO_LARGE),
    "many bombs": (b"".join(packed(header(f"{n}", 20 << 20)) + zeros(20) for n in range(20)),
                   TOO_LARGE),
    "below zero": (packed(header("x", -512, base256=True), END), "'x' has a negative length"),
    "pax below zero": (packed(pax(size="-1024"), header("x", 0), END), "a negative length"),
    "twice": (tar_bytes(*module_members(), *module_members()), "cannot be created (File exists)"),
    "deep": (packed(pax(path="d/" * 2000 + "f"), header("x", 0), END), "is too deep"),
    "padding": (packed(header("x", 0), END) + zeros(300), TOO_MUCH),
    "padding of gzip": (MODULE + bytes(20 << 20), TOO_MUCH),
    "empty parts": (MODULE + gzip.compress(b"") * 500_000, TOO_MUCH),
    "empty parts inside": (packed(header("x", 9)) + gzip.compress(b"") * 500_000, TOO_MUCH),
    "garbage": (MODULE + b"garbage", "Not a gzipped file"),
    "number": (packed(pax(size="9" * 4000), header("x", 0), END), TOO_LARGE),
}  # fmt: skip


def child_seconds() -> float:
    """Return the processor's time of all children so far: a loaded machine adds little to it."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("attack", ATTACKS)
def test_archive_made_to_do_harm_is_refused_at_small_cost(tmp_path: Path, attack: str) -> None:
    content, says = ATTACKS[attack]
    archive, target = tmp_path / "module.tar.gz", tmp_path / "target"
    archive.write_bytes(content)
    target.mkdir()
    before = child_seconds()
    assert peak_megabytes(UNPACK, archive, target) < 50
    assert child_seconds() - before < 10
    said = (tmp_path / "module.tar.said").read_text()
    assert says in said
    assert str(archive) in said
    assert "\n" not in said
    assert len(said) < 500
    assert set(os.listdir(tmp_path)) == {"module.tar.gz", "module.tar.said", "target"}
    assert sum(map(len, read_files(target).values())) <= 256 << 20


def test_tail_that_others_leave_is_no_harm(tmp_path: Path) -> None:
    """Accept blocks of 1 MB by `tar -b`, zeros to the end of a tape, a file in two parts."""
    plain = gzip.decompress(MODULE)
    half = len(plain) // 2
    for number, content in enumerate(
        (
            MODULE + bytes(100_000),
            gzip.compress(plain + bytes((1 << 20) - len(plain))),
            gzip.compress(plain[:half]) + gzip.compress(plain[half:]),
        )
    ):
        target = tmp_path / str(number)
        target.mkdir()
        (tmp_path / "m.tgz").write_bytes(content)
        unpack_archive(tmp_path / "m.tgz", target)
        assert read_files(target) == FILES


def test_what_does_not_compress_is_taken(tmp_path: Path) -> None:
    files = {**FILES, "variables/variables.data-00000-of-00001": noise(8 << 20)}
    (tmp_path / "m.tgz").write_bytes(tar_bytes(*(member(n, c) for n, c in files.items())))
    target = tmp_path / "target"
    target.mkdir()
    unpack_archive(tmp_path / "m.tgz", target)
    assert read_files(target) == files


PLAIN = (
    gzip.decompress(tar_bytes(member("a" * 120, b"x"), *module_members("äöü/"), folder("f")))
    + packed()
)


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(PLAIN) - 1), st.binary(min_size=1, max_size=12)), min_size=1
    ),
    sparse=st.booleans(),
)
def test_whatever_a_tar_says_it_is_taken_or_refused(
    changes: list[tuple[int, bytes]], sparse: bool
) -> None:
    """Correct the sums of the blocks, so that everything else is read."""
    content = bytearray(
        PLAIN if not sparse else pax(GNU_sparse_map="0,1", GNU_sparse_size="9", size="1") + PLAIN
    )
    for place, data in changes:
        content[place : place + len(data)] = data
    for start in range(0, len(content) - 511, 512):
        block = content[start : start + 512]
        if block[257:262] == b"ustar":
            total = 256 + sum(block[:148]) + sum(block[156:512])
            content[start + 148 : start + 156] = b"%06o\0 " % total
    with tempfile.TemporaryDirectory() as around:
        archive, target = Path(around, "module.tgz"), Path(around, "target")
        target.mkdir()
        archive.write_bytes(gzip.compress(content, 1))
        with contextlib.suppress(ModuleError):
            unpack_archive(archive, target)
        assert set(os.listdir(around)) == {"module.tgz", "target"}
