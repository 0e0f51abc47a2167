"""A working folder that has been deleted is named as the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from pathlib import Path

PHOTO = ROOT / "examples" / "photos" / "chelsea.png"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((".",), "no images in .: "),
        (("a.jpg",), "no such file or folder: a.jpg: "),
        ((PHOTO, "-o", "x.csv"), ""),
        ((PHOTO, "-o", "x/"), "cannot write x/: No such file or directory: "),
        ((PHOTO, "--files-from", "x"), "cannot read the list x: No such file or directory: "),
    ],
)
def test_deleted_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...], says: str
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    result = mnv1("classify", *words, "--module", "bundled")
    assert result.stderr == (
        f"mnv1: error: {says}the working folder has been deleted; change to another one\n"
    )


def test_absolute_paths_work_in_a_deleted_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    words = ("classify", PHOTO, "--module", "bundled", "-o", tmp_path / "x.csv", "-q")
    assert mnv1(*words).exit_code == 0
