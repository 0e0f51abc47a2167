"""RAWs beside a JPEG of the same picture, which are skipped and counted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from mnv1cli.inputs.listing import Listing
from tests.support.archives import make_archive
from tests.support.listings import list_paths, touch

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("jpeg", ["jpg", "JPG", "jpeg", "jpe", "Jfif"])
@pytest.mark.parametrize("raw", ["cr2", "CR3", "nef", "ARW", "dng", "Orf", "raf", "rw2"])
def test_raw_beside_its_jpeg_is_skipped(here: Path, raw: str, jpeg: str) -> None:
    touch(b"top/Img.1." + raw.encode(), b"top/img.1." + jpeg.encode())
    assert list_paths(b"top") == [b"top/img.1." + jpeg.encode()]


def test_pairs_are_those_of_one_folder(here: Path) -> None:
    pairs = [b"top/a.nef", b"top/a.jpg", b"top/below/b.NEF", b"top/below/b.JPG"]
    alone = [b"top/below/a.nef", b"top/c.cr2", b"top/c.png", b"top/d-1.jpg", b"top/d.dng"]
    hidden = [b"top/e.dng", b"top/.e.jpg"]
    touch(*pairs, *alone, *hidden, b"top/f.dng", b"top/f.jpg/g.txt")
    listing = Listing([b"top"])
    assert [ref.path for ref in listing] == [
        b"top/a.jpg", b"top/below/a.nef", b"top/below/b.JPG", b"top/c.cr2", b"top/c.png",
        b"top/d-1.jpg", b"top/d.dng", b"top/e.dng", b"top/f.dng",
    ]  # fmt: skip
    assert listing.describe_skipped() == (
        ", 2 RAW files beside a JPEG of their own skipped, 1 skipped by suffix (.txt 1)"
    )


def test_raw_that_is_named_or_listed_is_taken(here: Path) -> None:
    touch(b"top/a.nef", b"top/a.jpg")
    (here / "list").write_bytes(b"top/a.nef\n")
    assert list_paths(b"top/a.nef", b"top/a.jpg", lists=[b"list"]) == [
        b"top/a.nef", b"top/a.jpg", b"top/a.nef",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (b"top/*", [b"top/a.jpg", b"top/b.nef"]),
        (b"**/*.[nj]*", [b"top/a.jpg", b"top/b.nef"]),
        (b"t*", [b"top/a.jpg", b"top/b.nef"]),
        (b"top/*.nef", [b"top/a.nef", b"top/b.nef"]),
    ],
)
def test_glob_skips_raws_whose_jpeg_matches(
    here: Path, pattern: bytes, expected: list[bytes]
) -> None:
    touch(b"top/a.nef", b"top/a.jpg", b"top/b.nef")
    assert list_paths(pattern) == expected


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tgz"])
def test_archive_skips_neighbours(tmp_path: Path, name: str) -> None:
    members = [b"a.CR2", b"a.jpg", b"b.jpg", b"b.nef", b"c.dng", b"c.txt", b"d/c.jpg"]
    archive = make_archive(tmp_path / name, dict.fromkeys(members, b"x"))
    listing = Listing([os.fsencode(archive)])
    names = [ref.path.partition(b"!/")[2] for ref in listing]
    assert names == [b"a.jpg", b"b.jpg", b"c.dng", b"d/c.jpg"]
    assert ", 2 RAW files beside a JPEG of their own skipped" in listing.describe_skipped()
