"""Archives are unpacked, or refused with a reason."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnv1cli.errors import Mnv1Error, ModuleError
from mnv1cli.modules.files import find_missing_file
from mnv1cli.modules.formats.unpack import unpack_archive
from tests.support.laid import FILES, read_files
from tests.support.tars import folder, member, module_members, noise, tar_bytes


class TestUnpack:
    @pytest.fixture
    def target(self, tmp_path: Path) -> Path:
        directory = tmp_path / "around" / "target"
        directory.mkdir(parents=True)
        return directory

    def unpack(self, target: Path, content: bytes) -> dict[str, bytes]:
        archive = target.parent.parent / "module.tar.gz"
        archive.write_bytes(content)
        unpack_archive(archive, target)
        # Nothing goes anywhere else.
        assert list(target.parent.iterdir()) == [target]
        return read_files(target)

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
        assert find_missing_file(target) is None
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
        with pytest.raises(ModuleError, match=r"is refused: .* is outside of it"):
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
        monkeypatch.setattr("mnv1cli.modules.formats.unpack.MAX_MEMBERS", limit)
        expected = pytest.raises(ModuleError, match=f"more than .* {limit} files")
        with expected if refused else contextlib.nullcontext():
            self.unpack(target, tar_bytes(folder("variables"), *module_members()))

    @pytest.mark.parametrize(("limit", "refused"), [(1000, False), (999, True)])
    def test_refuses_too_many_bytes_before_it_writes_them(
        self, target: Path, monkeypatch: pytest.MonkeyPatch, limit: int, refused: bool
    ) -> None:
        monkeypatch.setattr("mnv1cli.modules.formats.unpack.MAX_BYTES", limit)
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
        ],
        ids=["empty", "text", "magic", "zeros", "gz text", "gz empty"],
    )
    def test_refuses_what_is_not_an_archive(self, target: Path, content: bytes) -> None:
        with pytest.raises(ModuleError, match=r"not an intact \.tar\.gz archive") as caught:
            self.unpack(target, content)
        assert "module.tar.gz" in str(caught.value)

    def test_names_other_packings(self, target: Path) -> None:
        with pytest.raises(ModuleError, match="an archive packed with xz, not a module; unpack it"):
            self.unpack(target, tar_bytes(*module_members(), mode="w:xz"))
        with pytest.raises(ModuleError, match=r"is not an intact \.zip archive"):
            self.unpack(target, b"PK\x03\x04" + bytes(600))

    @pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    def test_takes_a_tar_that_is_not_packed(self, target: Path, kind: int) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=kind) as tar:
            for info, content in module_members("./m/"):
                tar.addfile(info, io.BytesIO(content))
        assert self.unpack(target, buffer.getvalue()) == FILES

    def test_takes_a_tar_of_the_seventies(self, target: Path) -> None:
        content = bytearray(tar_bytes(*module_members(), mode="w"))
        for start in range(0, len(content), 512):
            if content[start + 257 : start + 262] == b"ustar":
                content[start + 257 : start + 265] = bytes(8)
                header = content[start : start + 512]
                total = sum(header[:148]) + 256 + sum(header[156:])
                content[start + 148 : start + 156] = b"%06o\0 " % total
        assert self.unpack(target, bytes(content)) == FILES

    @pytest.mark.parametrize("keep", [600, 1500, 0.5])
    def test_refuses_a_tar_that_was_cut_off(self, target: Path, keep: float) -> None:
        content = tar_bytes(*module_members(), member("assets/n", noise(5000)), mode="w")
        end = int(keep if keep > 1 else keep * len(content))
        with pytest.raises(ModuleError, match=r"not an intact \.tar archive"):
            self.unpack(target, content[:end])

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
                unpack_archive(archive, target)

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
