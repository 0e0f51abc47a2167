"""Images in archives: the same as in a folder, and no harm from archives that mean it."""

from __future__ import annotations

import contextlib
import os
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mnv1cli.analysis import synthetic_photos
from mnv1cli.api import Classifier
from mnv1cli.inputs import archives, packed_tar
from mnv1cli.inputs.archives import open_archive
from mnv1cli.inputs.listing import Listing
from mnv1cli.types import PixelSpec
from tests.runs.test_resume import Cut, cut_at
from tests.support.archives import KINDS, PACKERS, content, make_archive
from tests.support.reading import FEEDERS, unpack_batches
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from mnv1cli.inputs.archive import Member

FILES = {
    b"a.jpg": b"first",
    b"b/c.png": b"second",
    b"b.jpg": b"third",
    b"latin\xe9.gif": b"fourth",
    b"notes.txt": b"no image",
}
ALL = ["x.zip", "x.tar", *PACKERS]


def everything(name: bytes) -> bool:
    return True


def found(path: Path) -> list[Member]:
    archive = open_archive(os.fsencode(path))
    members = list(archive.list_members(everything))
    archive.close()
    return members


@pytest.mark.parametrize("kind", ALL[1:])
def test_tar_gives_its_files_as_they_come(tmp_path: Path, kind: str) -> None:
    path = make_archive(tmp_path / kind, FILES)
    assert content(path) == FILES
    assert [member.name for member in found(path)] == list(FILES)


def test_zip_gives_its_files_as_a_folder_does(tmp_path: Path) -> None:
    files = {name: data for name, data in FILES.items() if name != b"latin\xe9.gif"}
    path = make_archive(tmp_path / "x.zip", dict(reversed(files.items())))
    assert content(path) == files
    assert [member.name for member in found(path)] == [
        b"a.jpg", b"b/c.png", b"b.jpg", b"notes.txt",
    ]  # fmt: skip


def test_zip_name_that_is_no_unicode_keeps_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("latinX.gif", b"fourth")
    path.write_bytes(path.read_bytes().replace(b"latinX", b"latin\xe9"))
    assert content(path) == {b"latin\xe9.gif": b"fourth"}


@pytest.mark.parametrize("kind", KINDS)
def test_large_members_are_refused(tmp_path: Path, kind: str) -> None:
    path = make_archive(tmp_path / kind, {b"large.jpg": bytes(1000), b"small.jpg": bytes(999)})
    refused = content(path, limit=999)
    assert "--max-bytes" in str(refused[b"large.jpg"])
    assert refused[b"small.jpg"] == bytes(999)


def test_zip_that_holds_more_than_it_claims_is_refused(tmp_path: Path) -> None:
    path = make_archive(tmp_path / "x.zip", {b"bomb.jpg": bytes(5_000_000)})
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<I", 5_000_000), struct.pack("<I", 10)))
    assert isinstance(content(path, limit=1000)[b"bomb.jpg"], str)


@pytest.mark.parametrize("kind", KINDS)
def test_members_that_lie_outside_are_faults(tmp_path: Path, kind: str) -> None:
    path = make_archive(tmp_path / kind, {b"../up.jpg": b"x", b"/top.jpg": b"x", b"a.jpg": b"good"})
    assert content(path) == {
        b"../up.jpg": "lies outside of its archive",
        b"/top.jpg": "lies outside of its archive",
        b"a.jpg": b"good",
    }


def test_links_and_devices_are_faults(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for kind, name in ((tarfile.SYMTYPE, "link.jpg"), (tarfile.CHRTYPE, "device.jpg")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    assert set(content(path).values()) == {"is a link, a device or a sparse file in its archive"}


def test_encrypted_member_is_a_fault(tmp_path: Path) -> None:
    path = make_archive(tmp_path / "x.zip", {b"a.jpg": b"secret"})
    data = bytearray(path.read_bytes())
    # The flags of the file's own header and of the directory's entry.
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    assert content(path) == {b"a.jpg": "is encrypted"}


@pytest.mark.parametrize("kind", KINDS)
def test_archive_that_was_cut_tells_of_it(tmp_path: Path, kind: str) -> None:
    files = {b"%d.jpg" % i: os.urandom(5000) for i in range(20)}
    path = make_archive(tmp_path / kind, files)
    os.truncate(path, path.stat().st_size // 2)
    result = content(path)
    good = {name: data for name, data in result.items() if isinstance(data, bytes)}
    assert good.items() <= files.items()
    assert len(good) < 20
    assert any(isinstance(reason, str) for reason in result.values())


@pytest.mark.parametrize("kind", KINDS)
def test_damage_in_a_member_is_told(tmp_path: Path, kind: str) -> None:
    path = make_archive(tmp_path / kind, {b"a.jpg": os.urandom(5000), b"b.jpg": b"good"})
    data = bytearray(path.read_bytes())
    data[3000] ^= 0xFF
    path.write_bytes(data)
    if kind != "x.tar":  # which has no checksums of its files
        assert any(isinstance(reason, str) for reason in content(path).values())


def test_no_archive_is_told(tmp_path: Path) -> None:
    for kind in ALL:
        (tmp_path / kind).write_bytes(b"no archive at all" * 100)
        (member,) = found(tmp_path / kind)
        assert member.problem.startswith("damaged archive")


def test_packed_members_that_fill_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_tar, "MAX_MEMBER", 100)
    path = make_archive(tmp_path / "x.tgz", {b"large.jpg": bytes(101), b"small.jpg": bytes(100)})
    result = content(path)
    assert "unpack it" in str(result[b"large.jpg"])
    assert result[b"small.jpg"] == bytes(100)


@pytest.mark.parametrize("name", ["X.Tar", "x.TAR.ZST", *ALL])
def test_archives_are_known_by_their_names(tmp_path: Path, name: str) -> None:
    path = os.fsencode(tmp_path / name)
    assert not archives.is_archive(path)
    Path(os.fsdecode(path)).touch()
    assert archives.is_archive(path)
    assert not archives.is_archive(os.fsencode(tmp_path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in folders, a broken one and what is no picture."""
    folder = tmp_path_factory.mktemp("folder")
    for place in ("", "sub", ".hidden"):
        (folder / place).mkdir(exist_ok=True)
        synthetic_photos.write_pictures(folder / place, 3, 40, 30, seed=len(place))
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture")
    return folder


def packed(folder: Path, archive: Path) -> Path:
    """A folder's files in an archive, in the order of a walk."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    files = {os.fsencode(name): (folder / name).read_bytes() for name in names}
    ordered = sorted(files, key=lambda name: name.split(b"/"))
    return make_archive(archive, {name: files[name] for name in ordered})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("more", [(), ("--no-recursive",), ("--on-error", "row")])
def test_archive_gives_the_rows_of_the_folder(
    folder: Path, tmp_path: Path, kind: str, more: tuple[str, ...]
) -> None:
    archive = packed(folder, tmp_path / kind)
    options = ("--module", "bundled", "--top", 2, *more)
    plain = mnv1("classify", folder, *options)
    found = mnv1("classify", archive, *options)
    assert found.exit_code == plain.exit_code == 3
    assert found.stdout.replace(f"{archive}!/", "") == plain.stdout.replace(f"{folder}/", "")
    summary = plain.stderr.splitlines()[-1].partition(",")[2]
    assert found.stderr.splitlines()[-1].partition(",")[2] == summary


def test_archive_through_tensorflow_gives_the_same(folder: Path, tmp_path: Path) -> None:
    with contextlib.closing(Listing([os.fsencode(packed(folder, tmp_path / "x.tgz"))])) as listing:
        refs = list(listing)
    spec = PixelSpec(64)
    plain, found = (list(unpack_batches(feed(refs, spec, 4, 2), spec)) for feed in FEEDERS.values())
    assert len(found) == 7
    assert all(a.equals(b) for a, b in zip(plain, found, strict=True))


def test_archive_without_images_is_named(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "x.zip", {b"notes.txt": b"no picture"})
    result = mnv1("classify", archive)
    assert result.exit_code == 1
    assert "no images in" in result.stderr
    assert "1 skipped by suffix (.txt 1)" in result.stderr


def test_python_takes_archives(folder: Path, tmp_path: Path) -> None:
    archive = packed(folder, tmp_path / "x.tar")
    found = Classifier("bundled").classify([archive], on_error="skip")
    assert [Path(each.path).name for each in found][-1] == "3-00002.jpg"
    assert len(found) == 6


def test_run_over_an_archive_goes_on(folder: Path, tmp_path: Path) -> None:
    archive = packed(folder, tmp_path / "x.tgz")
    run = ("classify", archive, "--module", "bundled", "--batch-size", 2, "-o")
    mnv1(*run, tmp_path / "whole.csv")
    with pytest.MonkeyPatch.context() as dying:
        cut_at(dying, 2)
        with pytest.raises(Cut):
            mnv1(*run, tmp_path / "x.csv")
    assert mnv1(*run, tmp_path / "x.csv", "--resume").exit_code == 3
    assert (tmp_path / "x.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
