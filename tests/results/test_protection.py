"""What a run reads is not replaced by what it writes, even with --force."""

from __future__ import annotations

import os
import shutil
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from pathlib import Path

PHOTO = ROOT / "examples" / "photos" / "chelsea.png"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a photo that has two names, an archive, lists of both, and class names."""
    shutil.copy(PHOTO, tmp_path / "a.png")
    os.link(tmp_path / "a.png", tmp_path / "linked")
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.write(PHOTO, "a.png")
    (tmp_path / "list.txt").write_text("a.png\n")
    (tmp_path / "members.txt").write_text("p.zip!/a.png\n")
    (tmp_path / "names.txt").write_text("".join(f"name {n}\n" for n in range(1001)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ("p.zip", "-o", "p.zip"),
        ("p.zip!/a.png", "-o", "p.zip"),
        ("--files-from", "members.txt", "-o", "p.zip"),
        ("--files-from", "list.txt", "-o", "list.txt"),
        ("--files-from", "list.txt", "-o", "linked"),
        (".", "-o", "linked"),
        ("a.png", "-o", "linked"),
        ("a.png", "-o", "x.csv", "--errors", "linked"),
        ("a.png", "-o", "x.csv", "--manifest", "linked"),
        ("a.png", "-o", "data/", "-f", "parquet", "--manifest", "linked"),
        ("a.png", "-o", "names.txt", "--labels", "names.txt"),
    ],
    ids=" ".join,
)
def test_file_that_is_read_is_refused(folder: Path, words: tuple[str, ...]) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    form = () if "-f" in words else ("-f", "csv")
    result = mnv1("classify", *words, *form, "--module", "bundled", "--force")
    assert result.exit_code == 2, result.stderr
    assert result.stderr.splitlines()[-1].endswith(
        "is read, and cannot be written; name another file"
    )
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert after == before


@pytest.mark.parametrize("option", ["-o", "--errors", "--manifest"])
@pytest.mark.parametrize("name", ["other.jpg", "other.dng"])
def test_name_of_a_photo_is_refused_for_every_file(folder: Path, option: str, name: str) -> None:
    (folder / name).write_bytes(b"precious")
    main = () if option == "-o" else ("-o", "x.csv")
    result = mnv1("classify", "a.png", *main, option, name, "-f", "csv", "--force")
    assert result.exit_code == 2
    assert f"{name} is the name of an image" in result.stderr
    assert (folder / name).read_bytes() == b"precious"


def test_what_is_not_read_is_replaced(folder: Path) -> None:
    words = ("classify", "a.png", "-f", "csv", "--module", "bundled", "-o", "list.txt", "--force")
    assert mnv1(*words).exit_code == 0
    assert (folder / "list.txt").read_text().startswith("path,")
