"""The bytes of a file, and the reasons why a file cannot be read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mnv1cli.errors import ImageError
from mnv1cli.images import file

if TYPE_CHECKING:
    from collections.abc import Callable


def link_to_nothing(path: str) -> None:
    os.symlink("nowhere", path)


def make_empty_file(path: str) -> None:
    open(path, "wb").close()


UNREADABLE: dict[str, tuple[Callable[[str], object], str]] = {
    "missing": (lambda path: None, "no such file"),
    "broken link": (link_to_nothing, "link to a missing file"),
    "empty": (make_empty_file, "empty"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_reason_why_a_file_cannot_be_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make, reason = UNREADABLE[kind]
    make("it")
    with pytest.raises(ImageError, match=reason):
        file.read_file(b"it")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (b"a\0b.jpg", "NUL byte"),
        (b"x" * 5000, "cannot be read"),
        (os.fsencode(__file__) + b"/a.jpg", "cannot be read|no such file"),
    ],
)
def test_reason_why_a_name_cannot_be_read(path: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        file.read_file(path)


@pytest.mark.parametrize("name", [b"a b'\".jpg", b"line\nbreak", b"\xff\xfe.jpg", b"no-suffix"])
def test_file_of_any_name_is_read(name: bytes, tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    Path(os.fsdecode(path)).write_bytes(b"content")
    assert file.read_file(path) == b"content"
