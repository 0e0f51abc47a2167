"""Unpacking archives: what comes out, and what is refused."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import random
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnv1cli.archive import unpack
from mnv1cli.errors import Mnv1Error, ModuleError
from mnv1cli.modulefiles import missing_file
from tests.laid import FILES, found_in


def member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def folder(name: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.DIRTYPE, mode=0o755)


def tar_bytes(
    *members: tuple[tarfile.TarInfo, bytes], mode: Literal["w:gz", "w:xz", "w"] = "w:gz"
) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def module_members(prefix: str = "") -> list[tuple[tarfile.TarInfo, bytes]]:
    return [member(prefix + name, content) for name, content in FILES.items()]


def noise(length: int) -> bytes:
    """Bytes that do not compress, so that they lie in the archive as they are."""
    return random.Random(length).randbytes(length)


class TestUnpack:
    @pytest.fixture
    def target(self, tmp_path: Path) -> Path:
        directory = tmp_path / "around" / "target"
        directory.mkdir(parents=True)
        return directory

    def unpack(self, target: Path, content: bytes) -> dict[str, bytes]:
        archive = target.parent.parent / "module.tar.gz"
        archive.write_bytes(content)
        unpack(archive, target)
        # Nothing goes anywhere else.
        assert list(target.parent.iterdir()) == [target]
        return found_in(target)

    @pytest.mark.parametrize(
        "members",
        [
            module_members(),
            module_members("./"),
            [folder("./"), folder("./variables"), *module_members("./")],
            [folder("."), *module_members()],
            module_members("mobilenet/"),
            [folder("mobilenet"), *module_members("mobilenet/")],
            [folder("./"), folder("./mobilenet/"), *module_members("./mobilenet/")],
            # The folder has the name of one of the module's own.
            module_members("variables/"),
        ],
    )
    def test_takes_a_module_at_the_root_or_in_a_single_folder(
        self, target: Path, members: list[tuple[tarfile.TarInfo, bytes]]
    ) -> None:
        assert self.unpack(target, tar_bytes(*members)) == FILES
        assert missing_file(target) is None
        assert {path.name for path in target.iterdir()} == {
            "saved_model.pb",
            "tfhub_module.pb",
            "variables",
        }

    @pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    def test_takes_every_dialect(self, target: Path, kind: int) -> None:
        name = "/".join(["assets", "long" * 20, "ä" * 30, "x"])
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz", format=kind) as tar:
            for info, content in [*module_members(), member(name, b"asset")]:
                tar.addfile(info, io.BytesIO(content))
        assert self.unpack(target, buffer.getvalue()) == {**FILES, name: b"asset"}

    def test_lifts_no_folder_that_holds_no_module(self, target: Path) -> None:
        assert set(self.unpack(target, tar_bytes(member("a/b", b"x")))) == {"a/b"}

    def test_keeps_no_permissions(self, target: Path) -> None:
        self.unpack(target, tar_bytes(member("tool", b"x", mode=0o6777), *module_members()))
        assert (target / "tool").stat().st_mode & 0o7111 == 0

    @pytest.mark.parametrize(
        "bad",
        [
            member("/etc/evil", b"x"),
            folder("/etc/evil"),
            member("../evil", b"x"),
            member("variables/../../evil", b"x"),
            member("./../evil", b"x"),
            folder(".."),
            member("variables/..", b"x"),
        ],
    )
    def test_refuses_a_member_outside(
        self, target: Path, bad: tuple[tarfile.TarInfo, bytes]
    ) -> None:
        with pytest.raises(ModuleError, match=r"is refused: .* lies outside of it"):
            self.unpack(target, tar_bytes(*module_members(), bad))
        assert list(target.parent.iterdir()) == [target]

    @pytest.mark.parametrize("linkname", ["saved_model.pb", "../../module.tar.gz", "/etc/passwd"])
    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
    def test_refuses_a_link(self, target: Path, kind: bytes, linkname: str) -> None:
        link = member("link", type=kind, linkname=linkname)
        with pytest.raises(ModuleError, match="is refused: 'link' is a link or a device"):
            self.unpack(target, tar_bytes(*module_members(), link))
        assert not os.path.lexists(target / "link")

    def test_does_not_write_through_a_link(self, target: Path) -> None:
        link = member("variables", type=tarfile.SYMTYPE, linkname="..")
        with pytest.raises(ModuleError, match="is a link"):
            self.unpack(target, tar_bytes(link, member("variables/evil", b"x")))
        assert list(target.parent.iterdir()) == [target]

    @pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
    def test_refuses_a_device(self, target: Path, kind: bytes) -> None:
        with pytest.raises(ModuleError, match="is refused: 'device' is a link or a device"):
            self.unpack(target, tar_bytes(member("device", type=kind)))
        assert not list(target.iterdir())

    @pytest.mark.parametrize(("limit", "refused"), [(5, False), (4, True)])
    def test_refuses_too_many_members(
        self, target: Path, monkeypatch: pytest.MonkeyPatch, limit: int, refused: bool
    ) -> None:
        monkeypatch.setattr("mnv1cli.archive._MAX_MEMBERS", limit)
        expected = pytest.raises(ModuleError, match=f"more than .* {limit} files")
        with expected if refused else contextlib.nullcontext():
            self.unpack(target, tar_bytes(folder("variables"), *module_members()))

    @pytest.mark.parametrize(("limit", "refused"), [(1000, False), (999, True)])
    def test_refuses_too_many_bytes_before_it_writes_them(
        self, target: Path, monkeypatch: pytest.MonkeyPatch, limit: int, refused: bool
    ) -> None:
        monkeypatch.setattr("mnv1cli.archive._MAX_BYTES", limit)
        expected = pytest.raises(ModuleError, match="unpacks to more than")
        with expected if refused else contextlib.nullcontext():
            self.unpack(
                target, tar_bytes(member("first", bytes(400)), member("second", bytes(600)))
            )
        assert (target / "second").exists() is not refused

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"not an archive",
            b"\x1f\x8b",
            bytes(10240),
            gzip.compress(b"not an archive" * 100),
            gzip.compress(b""),
            tar_bytes(*module_members(), mode="w"),
            tar_bytes(*module_members(), mode="w:xz"),
            b"PK\x03\x04" + bytes(600),
        ],
        ids=["empty", "text", "magic", "zeros", "gz text", "gz empty", "tar", "tar.xz", "zip"],
    )
    def test_refuses_what_is_not_an_archive(self, target: Path, content: bytes) -> None:
        with pytest.raises(ModuleError, match=r"not an intact \.tar\.gz archive") as caught:
            self.unpack(target, content)
        assert "module.tar.gz" in str(caught.value)

    @settings(max_examples=50, deadline=None)
    @given(part=st.floats(0, 1, exclude_max=True), big=st.booleans())
    def test_refuses_an_archive_that_was_cut_off(self, part: float, big: bool) -> None:
        whole = {**FILES, "assets/noise": noise(50_000 if big else 50)}
        content = tar_bytes(*(member(name, data) for name, data in whole.items()))
        with tempfile.TemporaryDirectory() as around:
            archive, target = Path(around, "module.tgz"), Path(around, "target")
            target.mkdir()
            archive.write_bytes(content[: int(part * len(content))])
            with pytest.raises(ModuleError, match="not an intact"):
                unpack(archive, target)

    @pytest.mark.parametrize("length", [5_000, 500_000])
    def test_refuses_an_archive_with_a_flipped_bit(self, target: Path, length: int) -> None:
        content = bytearray(tar_bytes(*module_members(), member("assets/noise", noise(length))))
        content[len(content) // 2] ^= 1
        with pytest.raises(ModuleError, match="not an intact"):
            self.unpack(target, bytes(content))

    @pytest.mark.parametrize(
        "members",
        [
            [member("variables", b"x"), *module_members()],
            [*module_members(), member("variables", b"x")],
            [member("variables", b"x"), folder("variables")],
            [member(".", b"x")],
            [member("n" * 300, b"x")],
            [member("nul\0byte" + "n" * 100, b"x")],
        ],
        ids=["file as folder", "folder as file", "file and folder", "root", "long", "nul"],
    )
    def test_refuses_members_that_cannot_be_written(
        self, target: Path, members: list[tuple[tarfile.TarInfo, bytes]]
    ) -> None:
        with pytest.raises(ModuleError, match=r"module\.tar\.gz"):
            self.unpack(target, tar_bytes(*members))

    def test_does_not_blame_the_archive_for_a_full_disk(
        self, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*arguments: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(shutil, "copyfileobj", full)
        with pytest.raises((OSError, Mnv1Error), match="No space left on device") as caught:
            self.unpack(target, tar_bytes(*module_members()))
        assert "not an intact" not in str(caught.value)
