"""The files of a module: those required, and the fingerprint of all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnv1cli.modules import files
from tests.support.laid import FILES, WITH_ASSETS, lay

if TYPE_CHECKING:
    from collections.abc import Mapping


class TestMissingFile:
    def test_is_none_for_a_module(self, tmp_path: Path) -> None:
        assert files.find_missing_file(lay(tmp_path)) is None

    @pytest.mark.parametrize("name", FILES)
    def test_is_named(self, tmp_path: Path, name: str) -> None:
        lay(tmp_path)
        (tmp_path / name).unlink()
        assert files.find_missing_file(tmp_path) == name
        (tmp_path / name).mkdir()
        assert files.find_missing_file(tmp_path) == name

    @pytest.mark.parametrize("name", ["empty", "gone", "a file", "a file/below"])
    def test_is_the_graph_where_nothing_is(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "a file").touch()
        assert files.find_missing_file(tmp_path / name) == "saved_model.pb"


class TestFingerprint:
    def defined(self, contents: Mapping[str, bytes]) -> str:
        """Compute the fingerprint by its definition, from the contents that were written."""
        digest = hashlib.sha256()
        for name, content in sorted(contents.items()):
            digest.update(name.encode())
            digest.update(bytes(1))
            digest.update(len(content).to_bytes(8, "big"))
            digest.update(content)
        return digest.hexdigest()

    @pytest.mark.parametrize("contents", [FILES, WITH_ASSETS])
    def test_is_what_its_definition_says(self, tmp_path: Path, contents: dict[str, bytes]) -> None:
        lay(tmp_path, contents)
        assert files.list_files(tmp_path) == sorted(contents)
        assert files.compute_fingerprint(tmp_path) == self.defined(contents)
        assert files.measure_size(tmp_path) == sum(map(len, contents.values()))

    @settings(deadline=None)
    @given(
        assets=st.dictionaries(
            st.text("aäz-._ ", min_size=1, max_size=5).filter(lambda name: name.strip(".")),
            st.binary(max_size=20),
            max_size=4,
        )
    )
    def test_is_what_its_definition_says_with_any_assets(self, assets: dict[str, bytes]) -> None:
        contents = {**FILES, **{f"assets/{name}": content for name, content in assets.items()}}
        with tempfile.TemporaryDirectory() as directory:
            assert files.compute_fingerprint(lay(Path(directory), contents)) == self.defined(
                contents
            )

    @pytest.mark.parametrize("name", WITH_ASSETS)
    def test_changes_with_every_byte_and_every_name(self, tmp_path: Path, name: str) -> None:
        lay(tmp_path, WITH_ASSETS)
        before = files.compute_fingerprint(tmp_path)
        content = WITH_ASSETS[name]
        for changed in (content[:-1], content + b"\0", content[:-1] + b"?"):
            (tmp_path / name).write_bytes(changed)
            assert files.compute_fingerprint(tmp_path) != before
        (tmp_path / name).write_bytes(content)
        assert files.compute_fingerprint(tmp_path) == before

    def test_changes_with_assets_that_are_added_removed_or_renamed(self, tmp_path: Path) -> None:
        lay(tmp_path, WITH_ASSETS)
        seen = {files.compute_fingerprint(tmp_path)}
        lay(tmp_path, {"assets/new": b""})
        seen.add(files.compute_fingerprint(tmp_path))
        (tmp_path / "assets/new").rename(tmp_path / "assets/renamed")
        seen.add(files.compute_fingerprint(tmp_path))
        shutil.rmtree(tmp_path / "assets")
        seen.add(files.compute_fingerprint(tmp_path))
        assert len(seen) == 4

    def test_tells_a_byte_that_went_from_one_file_to_the_next(self, tmp_path: Path) -> None:
        first = lay(tmp_path / "1", {**FILES, "assets/a": b"xy", "assets/b": b"z"})
        second = lay(tmp_path / "2", {**FILES, "assets/a": b"x", "assets/b": b"yz"})
        assert files.compute_fingerprint(first) != files.compute_fingerprint(second)

    def test_does_not_change_with_times_places_and_unrelated_files(self, tmp_path: Path) -> None:
        before = files.compute_fingerprint(lay(tmp_path / "1", WITH_ASSETS))
        moved = lay(tmp_path / "2", dict(reversed(WITH_ASSETS.items())))
        lay(moved, {"README": b"x", "saved_model.pb.bak": b"x", "other/variables/x": b"x"})
        (moved / "empty").mkdir()
        for path in moved.rglob("*"):
            os.utime(path, (1, 1))
        assert files.compute_fingerprint(moved) == before

    def test_reads_files_of_any_length(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(files, "CHUNK_BYTES", 7)
        assert files.compute_fingerprint(lay(tmp_path)) == self.defined(FILES)

    def test_digest_of_a_file_is_its_sha256(self, tmp_path: Path) -> None:
        lay(tmp_path)
        found = files.hash_file(tmp_path / "saved_model.pb")
        assert found == hashlib.sha256(b"graph").hexdigest()


class TestVerify:
    @pytest.fixture
    def noted(self, tmp_path: Path) -> Path:
        directory = lay(tmp_path / "module", WITH_ASSETS)
        files.write_checksums(directory)
        return directory

    def test_of_an_intact_module_finds_nothing(self, noted: Path) -> None:
        assert files.find_problems(noted) == []

    def test_of_a_module_laid_there_by_hand_finds_only_what_is_missing(
        self, tmp_path: Path
    ) -> None:
        assert files.find_problems(lay(tmp_path)) == []
        (tmp_path / "saved_model.pb").unlink()
        assert files.find_problems(tmp_path) == ["saved_model.pb is missing"]

    @pytest.mark.parametrize("name", WITH_ASSETS)
    def test_names_every_change(self, noted: Path, name: str) -> None:
        content = (noted / name).read_bytes()
        (noted / name).write_bytes(content[:-1] + b"?")
        assert files.find_problems(noted) == [f"{name} has changed since the module came"]
        (noted / name).unlink()
        assert files.find_problems(noted) == [f"{name} is missing"]

    def test_names_what_was_not_there(self, noted: Path) -> None:
        lay(noted, {"assets/new": b""})
        assert files.find_problems(noted) == ["assets/new was not there when the module came"]

    @pytest.mark.parametrize("damaged", [b"", b"\xff\xfe", b"nonsense"])
    def test_does_not_pass_with_damaged_checksums(self, noted: Path, damaged: bytes) -> None:
        (noted / ".mnv1-sha256").write_bytes(damaged)
        assert files.find_problems(noted) == ["the list of its checksums is damaged"]

    def test_fits_what_sha256sum_reads(self, noted: Path) -> None:
        lines = (noted / ".mnv1-sha256").read_text().splitlines()
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in WITH_ASSETS.items()}
        assert sorted(lines) == sorted(f"{digest}  {name}" for name, digest in digests.items())


def test_a_tf2_model_needs_no_mark_of_the_hub(tmp_path: Path) -> None:
    lay(tmp_path, {**FILES, "saved_model.pb": b"..\x22\x05serve.."})
    (tmp_path / "tfhub_module.pb").unlink()
    assert files.find_missing_file(tmp_path) is None
